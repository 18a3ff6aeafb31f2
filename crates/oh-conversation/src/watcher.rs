//! Keeps the mirror fed, whatever happens to connections: one task per conversation.
//!
//! It runs no code of the user, waits for no reader, and decides nothing about runs. What an
//! ending means is `endings`' business; what a frame means to the mirror is decided here.

mod legacy;
mod rest;

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use oh_protocol::{
    ConversationId, Event, SessionFrame, calls::conversations::SetConfirmationPolicy,
};
use oh_transport::{Backoff, Client, Message, Socket};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, warn};

use crate::{
    Error, ErrorKind,
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
    backoff: Backoff,
    unreadable: u32,
    /// Since when the server says it does not have the conversation, and how often it did.
    missing: Option<(Instant, u32)>,
    leased: Option<Instant>,
}

impl Watcher {
    pub(crate) fn new(
        client: Client,
        writer: Writer,
        tokens: Tokens,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            client,
            id: writer.mirror().id,
            writer,
            tokens,
            stop,
            flavor: Flavor::Session,
            fetched: HashSet::new(),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            unreadable: 0,
            missing: None,
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
            Phase::Dial => self.dial().await,
            Phase::Fetch => self.fetch().await,
            Phase::Wait(delay) => {
                sleep(delay).await;
                Phase::Dial
            }
            unchanged => unchanged,
        }
    }

    async fn dial(&mut self) -> Phase {
        self.writer.connecting();
        match self.client.server_info().await {
            Ok(info) if !info.has_session_socket() => self.flavor = Flavor::Legacy,
            Ok(_) => {}
            Err(error) => return self.ended(&error).await,
        }
        let target = match self.flavor {
            Flavor::Session => {
                format!("/sockets/session/{}?after_seq={}", self.id, self.cursor())
            }
            Flavor::Legacy => format!("/sockets/events/{}", self.id),
        };
        match self.client.socket(&target).await {
            Ok(socket) => Phase::Read(socket),
            Err(error) => self.ended(&error).await,
        }
    }

    async fn read(&mut self, mut socket: Socket) -> Phase {
        self.writer.connected();
        let opened = Instant::now();
        let mut heard = opened;
        let mut stop = self.stop.clone();
        let mut reading = Reading::default();
        if self.flavor == Flavor::Legacy
            && let Err(error) = self.catch_up().await
        {
            return self.ended(&error).await;
        }
        let error = loop {
            let received = tokio::select! {
                received = socket.recv() => received,
                () = asked(&mut stop) => {
                    socket.close(1000, "").await;
                    return Phase::End(self.closed());
                }
                () = sleep_until(heard + SILENCE) => {
                    heard = Instant::now();
                    match self.still_there().await {
                        Ok(()) => continue,
                        Err(error) => break error,
                    }
                }
            };
            heard = Instant::now();
            // A legacy server's log is read once for a whole burst of bells.
            let mut next = Some(received);
            let ended = loop {
                match next.take() {
                    None => break None,
                    Some(Err(error)) => break Some(error),
                    Some(Ok(Message::Text(text))) => {
                        let taken = match self.flavor {
                            Flavor::Session => self.take(text, &mut reading),
                            Flavor::Legacy => self.take_legacy(text, &mut reading).await,
                        };
                        if let Err(error) = taken {
                            break Some(error);
                        }
                    }
                    Some(Ok(_)) => {}
                }
                next = socket.try_recv();
            };
            let caught_up = match self.flavor {
                Flavor::Legacy if reading.bell => {
                    reading.bell = false;
                    self.catch_up().await
                }
                _ => Ok(()),
            };
            if let Some(error) = ended.or(caught_up.err()) {
                break error;
            }
        };
        drop(socket);
        if opened.elapsed() >= HEALTHY {
            self.backoff.reset();
        }
        self.ended(&error).await
    }

    /// Takes a frame of the session socket.
    fn take(&mut self, text: Bytes, reading: &mut Reading) -> oh_transport::Result<()> {
        match SessionFrame::from_json(text)? {
            SessionFrame::Sync { through_seq, .. } => {
                reading.through = through_seq;
                self.missing = None;
                self.leased = None;
                if through_seq.is_none_or(|through| self.cursor() >= through) {
                    self.writer.live();
                }
            }
            SessionFrame::Durable { seq, event } => {
                // No log is so long; a client that cannot count it must still not panic.
                let seq = i64::try_from(seq).unwrap_or(i64::MAX);
                self.unreadable = 0;
                self.tokens.durable(&event);
                let replayed = reading.through.is_some_and(|through| seq <= through);
                self.durable(seq, event, replayed);
                if reading.through.is_some_and(|through| seq >= through) {
                    self.writer.live();
                }
            }
            SessionFrame::Transient { event } => {
                self.writer.transient(&event);
                self.restore_policy();
            }
            SessionFrame::Error { code, detail } => {
                warn!(conversation = %self.id, %code, %detail, "the server refuses something");
            }
            progress => self.tokens.progress(progress),
        }
        Ok(())
    }

    /// Tells the server again what it forgets when it loads a conversation anew.
    fn restore_policy(&self) {
        let mirror = self.writer.mirror();
        let Some(policy) = mirror.policy() else {
            return;
        };
        let forgotten = {
            let held = mirror.read();
            let first = held
                .snapshot
                .as_ref()
                .is_some_and(|snapshot| snapshot.first);
            first && settings::differs(&policy, held.state.get("confirmation_policy"))
        };
        if forgotten {
            // It waits for a running tool on the server; frames must not.
            let (client, id) = (self.client.clone(), self.id);
            tokio::spawn(async move {
                if let Err(error) = client.call(&SetConfirmationPolicy::new(id, policy)).await {
                    warn!(conversation = %id, %error, "cannot restore the confirmation policy");
                }
            });
        }
    }

    fn durable(&mut self, seq: i64, event: Event, replayed: bool) {
        if self.fetched.remove(event.id()) {
            self.writer.skip(seq);
        } else {
            self.fetched.clear();
            self.writer.durable(seq, event, replayed);
        }
    }

    /// The last `seq` held; resumes go on after it.
    fn cursor(&self) -> i64 {
        self.writer.mirror().read().cursor
    }

    /// What comes after the end of a connection.
    async fn ended(&mut self, error: &oh_transport::Error) -> Phase {
        let ending = classify(error);
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
                if let Some(error) = self.ask(error).await {
                    return Phase::End(error);
                }
            }
        }
        self.writer.connecting();
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

/// Done once a stop is asked for, or nobody is left who could ask.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|asked| *asked).await;
}
