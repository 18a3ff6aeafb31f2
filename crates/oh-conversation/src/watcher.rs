//! Keeps the mirror fed, whatever happens to connections: one task per conversation.
//!
//! It runs no code of the user, waits for no reader, and decides nothing about runs. What an
//! ending means is `endings`' business; what a frame means to the mirror is decided here.

mod legacy;
mod rest;

use std::{collections::HashSet, time::Duration};

use oh_protocol::{
    ConversationId, SessionFrame, calls::conversations::Get, state::ConversationState,
};
use oh_transport::{Backoff, Client, Message, Socket};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, warn};

use crate::{
    Error, ErrorKind, Link,
    endings::{Ending, classify},
    mirror::Writer,
    settings,
    tokens::Tokens,
};

/// A link that lived this long counts as healthy: the backoff begins again.
const HEALTHY: Duration = Duration::from_secs(10);
/// After so much silence REST is asked whether the conversation still exists: after a foreign
/// DELETE the server leaves its sockets open and silent.
const SILENCE: Duration = Duration::from_secs(45);
/// Leases of a dying server run out after 45 s by default; twice that is another live server.
const LEASE: Duration = Duration::from_secs(90);
/// A conversation must be missing for so long, and still, before it is believed gone.
const MISSING: Duration = Duration::from_secs(2);
/// A frame that does not read so often in a row is fetched by REST.
const UNREADABLE: u32 = 2;
/// So many frames are taken at once, at most.
const BATCH: usize = 128;

/// Which endpoint the server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavor {
    Session,
    Legacy,
}

/// Where the watcher is.
enum Phase {
    /// No connection; make one.
    Dial,
    /// A connection; read it until it ends.
    Read(Socket),
    /// Events that no socket can carry are next: fetch them by REST.
    Fetch,
    /// Nothing to do until then.
    Wait(Duration),
    /// Over for good.
    End(Error),
}

pub(crate) struct Watcher {
    client: Client,
    id: ConversationId,
    writer: Writer,
    tokens: Tokens,
    stop: watch::Receiver<bool>,
    flavor: Flavor,
    /// Events fetched by REST since the last connection: they may come again under another `seq`.
    fetched: HashSet<Box<str>>,
    /// The last `seq` there was when the session socket was last opened.
    through: Option<i64>,
    /// How often in a row the session socket said that something is too large, and neither was it
    /// an event nor did the state come.
    too_large: u32,
    backoff: Backoff,
    unreadable: u32,
    /// Since when the server says it does not have the conversation, and how often it did.
    missing: Option<(Instant, u32)>,
    /// Requests on the side, which end with the watcher.
    errands: JoinSet<Option<ConversationState>>,
    leased: Option<Instant>,
}

impl Watcher {
    pub(crate) fn new(
        client: Client,
        writer: Writer,
        tokens: Tokens,
        stop: watch::Receiver<bool>,
        backoff: Backoff,
    ) -> Self {
        Self {
            client,
            id: writer.mirror().id,
            writer,
            tokens,
            stop,
            flavor: Flavor::Session,
            fetched: HashSet::new(),
            through: None,
            too_large: 0,
            backoff,
            unreadable: 0,
            missing: None,
            errands: JoinSet::new(),
            leased: None,
        }
    }

    /// Runs until it is cancelled or nothing more can come.
    pub(crate) async fn run(mut self) {
        let mut stop = self.stop.clone();
        let mut phase = Phase::Dial;
        loop {
            phase = match phase {
                Phase::End(error) => {
                    debug!(conversation = %self.id, kind = ?error.kind(), "watcher ends");
                    self.writer.end(error);
                    return;
                }
                // Reading says goodbye to the server when it is cancelled.
                Phase::Read(socket) => self.read(socket).await,
                other => tokio::select! {
                    () = asked(&mut stop) => Phase::End(self.closed()),
                    next = self.step(other) => next,
                },
            };
        }
    }

    async fn step(&mut self, phase: Phase) -> Phase {
        match phase {
            // In boxes: a watcher spends its life reading, and is as large as its largest step.
            Phase::Dial => Box::pin(self.dial()).await,
            Phase::Fetch => Box::pin(self.fetch()).await,
            Phase::Wait(delay) => {
                sleep(delay).await;
                Phase::Dial
            }
            unchanged => unchanged,
        }
    }

    async fn dial(&mut self) -> Phase {
        self.writer.connecting(None);
        match self.client.server_info().await {
            Ok(info) if !info.has_session_socket() => self.flavor = Flavor::Legacy,
            Ok(_) => {}
            Err(error) => return self.ended(error).await,
        }
        let target = match self.flavor {
            Flavor::Session => {
                format!("/sockets/session/{}?after_seq={}", self.id, self.cursor())
            }
            Flavor::Legacy => format!("/sockets/events/{}", self.id),
        };
        match self.client.socket(&target).await {
            Ok(socket) => Phase::Read(socket),
            Err(error) => self.ended(error).await,
        }
    }

    async fn read(&mut self, mut socket: Socket) -> Phase {
        self.writer.connected();
        let opened = Instant::now();
        let mut heard = opened;
        let mut stop = self.stop.clone();
        let mut reading = Reading::default();
        if self.flavor == Flavor::Legacy
            && let Err(error) = Box::pin(self.catch_up()).await
        {
            return Box::pin(self.ended(error)).await;
        }
        let error = loop {
            let received = tokio::select! {
                received = socket.recv() => received,
                Some(done) = self.errands.join_next(), if !self.errands.is_empty() => {
                    if let Ok(Some(description)) = done {
                        self.writer.change(|held| held.described(&description));
                    }
                    continue;
                }
                () = asked(&mut stop) => {
                    Box::pin(socket.close(1000, "")).await;
                    return Phase::End(self.closed());
                }
                () = sleep_until(heard + SILENCE) => {
                    heard = Instant::now();
                    match Box::pin(self.still_there()).await {
                        Ok(()) => continue,
                        Err(error) => break error,
                    }
                }
            };
            heard = Instant::now();
            let read = match self.flavor {
                Flavor::Session => self.take(received, &mut socket, &mut reading),
                Flavor::Legacy => {
                    Box::pin(self.take_legacy(received, &mut socket, &mut reading)).await
                }
            };
            if let Err(error) = read {
                break error;
            }
        };
        drop(socket);
        if opened.elapsed() >= HEALTHY {
            self.backoff.reset();
        }
        Box::pin(self.ended(error)).await
    }

    /// Takes a frame of the session socket, and those that have come behind it: readers are woken
    /// once for all of them.
    fn take(
        &mut self,
        received: oh_transport::Result<Message>,
        socket: &mut Socket,
        reading: &mut Reading,
    ) -> oh_transport::Result<()> {
        let mut frames = Vec::new();
        let mut next = Some(received);
        let mut ended = Ok(());
        while let Some(received) = next.take() {
            match received.and_then(frame) {
                Ok(frame) => frames.extend(frame),
                Err(error) => ended = Err(error),
            }
            if ended.is_ok() && frames.len() < BATCH {
                next = socket.try_recv();
            }
        }
        self.apply(frames, reading);
        ended
    }

    fn apply(&mut self, frames: Vec<SessionFrame>, reading: &mut Reading) {
        let mut snapshot = false;
        let Self {
            writer,
            fetched,
            through,
            ..
        } = self;
        let changes = |frame: &SessionFrame| {
            use SessionFrame::{Durable, Sync, Transient};
            matches!(frame, Sync { .. } | Durable { .. } | Transient { .. })
        };
        if frames.iter().any(changes) {
            writer.change(|held| {
                for frame in &frames {
                    match frame {
                        SessionFrame::Sync { through_seq, .. } => {
                            *through = *through_seq;
                            reading.through = *through_seq;
                            self.missing = None;
                            self.leased = None;
                            if through_seq.is_none_or(|through| held.cursor >= through) {
                                held.live();
                            }
                        }
                        SessionFrame::Durable { seq, event } => {
                            // No log is so long; a client that cannot count it must still not
                            // panic.
                            let seq = i64::try_from(*seq).unwrap_or(i64::MAX);
                            self.unreadable = 0;
                            let replayed = reading.through.is_some_and(|through| seq <= through);
                            if fetched.remove(event.id()) {
                                held.skip(seq);
                            } else {
                                fetched.clear();
                                held.durable(seq, event.clone(), replayed);
                            }
                            if reading.through.is_some_and(|through| seq >= through) {
                                held.live();
                            }
                        }
                        SessionFrame::Transient { event } => {
                            held.transient(event);
                            snapshot = true;
                        }
                        _ => {}
                    }
                }
            });
        }
        for frame in frames {
            match frame {
                SessionFrame::Sync { .. } | SessionFrame::Transient { .. } => {}
                SessionFrame::Durable { seq, event } => {
                    let seq = i64::try_from(seq).unwrap_or(i64::MAX);
                    let replayed = reading.through.is_some_and(|through| seq <= through);
                    self.tokens.durable(seq, &event, replayed);
                }
                SessionFrame::Error { code, detail } => {
                    warn!(conversation = %self.id, %code, %detail, "the server refuses something");
                }
                progress => self.tokens.progress(progress),
            }
        }
        self.tell_live();
        if snapshot {
            self.too_large = 0;
            self.subscribed();
        }
    }

    /// What a new subscription's snapshot calls for: tells the server again what it forgets when
    /// it loads a conversation anew, and asks for what no snapshot has.
    fn subscribed(&mut self) {
        let mirror = self.writer.mirror();
        let (first, again) = {
            let held = mirror.read();
            let first = held.snapshot.as_ref().is_some_and(|last| last.first);
            (first, held.connection > 1)
        };
        if !first {
            return;
        }
        // They may wait for a running tool on the server; frames must not.
        if let Some(restoring) = settings::restoring(&self.client, mirror) {
            self.errands.spawn(async move {
                restoring.await;
                None
            });
        }
        if again && self.errands.is_empty() {
            let (client, id) = (self.client.clone(), self.id);
            self.errands.spawn(async move {
                let described = client.call(&Get::new(id)).await.ok()?;
                Some(described.state().clone())
            });
        }
    }

    /// Lets those who read tokens know once the history is here.
    fn tell_live(&self) {
        let held = self.writer.mirror().read();
        let live = (held.link == Link::Live).then_some(held.cursor);
        drop(held);
        if let Some(cursor) = live {
            self.tokens.live(cursor);
        }
    }

    /// The last `seq` held; resumes go on after it.
    fn cursor(&self) -> i64 {
        self.writer.mirror().read().cursor
    }

    /// What comes after the end of a connection.
    async fn ended(&mut self, error: oh_transport::Error) -> Phase {
        let ending = classify(&error);
        debug!(conversation = %self.id, %error, ?ending, "connection ended");
        match ending {
            Ending::Retry => {}
            Ending::TooLarge => return Phase::Fetch,
            Ending::Unreadable => {
                self.unreadable += 1;
                if self.unreadable >= UNREADABLE {
                    self.unreadable = 0;
                    return Phase::Fetch;
                }
            }
            Ending::Unauthorized => {
                let what = "the server refuses the session key";
                return Phase::End(Error::new(ErrorKind::Unauthorized, self.id, what));
            }
            Ending::Ask => {
                if let Some(error) = self.ask(&error).await {
                    return Phase::End(error);
                }
            }
        }
        let trouble = Error::transport(self.id, "keep the link to the server", error);
        self.writer.connecting(Some(trouble));
        Phase::Wait(self.backoff.next_delay())
    }

    /// Told apart by REST: gone, leased, or an endpoint the server lacks. An error is final.
    async fn ask(&mut self, refused: &oh_transport::Error) -> Option<Error> {
        use oh_transport::ErrorKind as Wire;
        match self.look().await {
            Ok(()) if refused.kind() == Wire::Forbidden && self.flavor == Flavor::Session => {
                // Unknown socket paths are refused with 403.
                self.flavor = Flavor::Legacy;
                None
            }
            Ok(()) => {
                self.missing = None;
                let since = *self.leased.get_or_insert_with(Instant::now);
                let what = "another live server holds its lease; use that server or stop it";
                (since.elapsed() >= LEASE).then(|| Error::new(ErrorKind::Leased, self.id, what))
            }
            Err(error) if error.kind() == Wire::Unauthorized => {
                let what = "the server refuses the session key";
                Some(Error::new(ErrorKind::Unauthorized, self.id, what))
            }
            Err(error) if error.kind() == Wire::NotFound => {
                let (since, times) = self.missing.unwrap_or((Instant::now(), 0));
                self.missing = Some((since, times + 1));
                let what = "the server does not have it: it was deleted, or is on another server";
                (times > 0 && since.elapsed() >= MISSING)
                    .then(|| Error::new(ErrorKind::Gone, self.id, what))
            }
            Err(_) => None,
        }
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, self.id, "this handle was closed")
    }
}

/// What one connection has brought so far.
#[derive(Debug, Default)]
struct Reading {
    /// Last `seq` of the replay.
    through: Option<i64>,
    /// Legacy: something was appended to the log.
    bell: bool,
}

/// The frame in a message, if it is one.
fn frame(message: Message) -> oh_transport::Result<Option<SessionFrame>> {
    match message {
        Message::Text(text) => Ok(Some(SessionFrame::from_json(text)?)),
        _ => Ok(None),
    }
}

/// Done once a stop is asked for, or nobody is left who could ask.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|asked| *asked).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::Mirror;

    #[tokio::test]
    async fn what_stays_in_memory_for_a_conversation_that_waits_is_small() {
        let id = ConversationId::random();
        let (writer, _mirror) = Mirror::new(id, ConversationState::default(), None);
        let (_stop, stopped) = watch::channel(false);
        let client = Client::builder("http://127.0.0.1:1").build().unwrap();
        let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
        let watcher = Watcher::new(client, writer, Tokens::default(), stopped, backoff).run();
        let bytes = size_of_val(&watcher);
        assert!(bytes <= 2 * 1024, "{bytes} bytes");
    }
}
