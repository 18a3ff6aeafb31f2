//! Keeps the mirror fed, whatever happens to connections: one task per link.
//!
//! The task runs no code of the user, waits for no reader, and decides nothing about runs. While a
//! socket is read, no request is awaited: requests are errands that run beside the reading. The
//! meaning of an ending is decided in `endings`; the meaning of a frame in `frames`.

mod errands;
mod frames;
mod legacy;
mod polling;
mod rest;

use std::{collections::HashSet, time::Duration};

use oh_protocol::{ConversationId, ExecutionStatus, calls::server::GetServerInfo};
use oh_transport::{Backoff, Client, ErrorKind as Wire, Liveness, Socket};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use self::{errands::Done, frames::Reading, rest::Rest};
use crate::{
    Error, ErrorKind, Link,
    attach::Limits,
    endings::{Ending, classify},
    mirror::Writer,
    tokens::Tokens,
};

/// A link that lived this long counts as healthy: the backoff begins again.
const HEALTHY: Duration = Duration::from_secs(10);
/// The longest time between two checks of an idle link.
const RARELY: Duration = Duration::from_secs(30 * 60);
/// A frame that does not decode so often in a row is fetched by REST.
const UNREADABLE: u32 = 2;
/// So many connections in a row must bring no frame before events are read by REST instead.
const FRUITLESS: u32 = 3;
/// And nothing must have come for so long: a connection that is cut is made again soon.
const SILENT: Duration = Duration::from_millis(800);
/// For so long somebody who waits for an event waits for the socket alone. Only the socket says
/// which `seq` an event has where the server cannot read all of its log.
const BY_SOCKET: Duration = Duration::from_secs(3);
/// An event larger than this is not asked for again to recognise the log by it.
const SMALL: usize = 1024 * 1024;

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
    Read(Box<Connection>),
    /// The connection has ended, or could not be made.
    Broken(oh_transport::Error),
    /// Events that no socket can carry are next: fetch them by REST.
    Fetch,
    /// Sockets are refused: read the log by REST, until it is time to try a socket again.
    Poll(Instant),
    /// The log does not look like the one that is held: find out by REST.
    Verify,
    /// Nothing to do until then.
    Wait(Duration),
    /// Over for good.
    End(Error),
}

/// A socket, and what it has brought.
struct Connection {
    socket: Socket,
    opened: Instant,
    /// When the link is checked next if nothing arrives.
    check: Instant,
    reading: Reading,
}

pub(crate) struct Watcher {
    client: Client,
    id: ConversationId,
    writer: Writer,
    tokens: Tokens,
    stop: watch::Receiver<bool>,
    liveness: watch::Receiver<Liveness>,
    limits: Limits,
    flavor: Flavor,
    /// Whether the server's session socket is to be used, as far as it was asked.
    session: Option<bool>,
    /// Whether the legacy socket is to be used: always, or for the next dial only.
    legacy_for_good: bool,
    legacy_next: bool,
    /// Events fetched by REST since the last connection: they may come again under another `seq`.
    fetched: HashSet<Box<str>>,
    /// The last `seq` there was when the session socket was last opened.
    through: Option<i64>,
    /// How often in a row the session socket said that something is too large, and neither was it
    /// an event nor did the state come.
    too_large: u32,
    /// How many events are read by REST at once, and how often in a row that went well.
    few: u32,
    steady: u32,
    backoff: Backoff,
    unreadable: u32,
    /// How many connections in a row brought no frame, and when the last frame came.
    fruitless: u32,
    heard: Instant,
    /// Since when the server says it does not have the conversation, and how often it did.
    missing: Option<(Instant, u32)>,
    leased: Option<Instant>,
    /// How long until the next check of an idle link.
    rest_until_check: Duration,
    /// Whether events are read by REST because sockets are refused.
    polls: bool,
    /// How long until a socket is tried again then.
    try_socket: Duration,
    /// Requests on the side, which end with the watcher.
    errands: JoinSet<Done>,
    /// Whether a request for events is on its way, one for the newest event, and a dial.
    fetching: bool,
    checking: bool,
    dialling: bool,
}

impl Watcher {
    pub(crate) fn new(
        client: Client,
        writer: Writer,
        tokens: Tokens,
        stop: watch::Receiver<bool>,
        backoff: Backoff,
    ) -> Self {
        let limits = writer.mirror().limits.clone();
        Self {
            liveness: client.liveness(),
            id: writer.mirror().id,
            rest_until_check: limits.silence,
            limits,
            client,
            writer,
            tokens,
            stop,
            flavor: Flavor::Session,
            session: None,
            legacy_for_good: false,
            legacy_next: false,
            try_socket: polling::FIRST,
            fetched: HashSet::new(),
            through: None,
            too_large: 0,
            few: rest::MANY,
            steady: 0,
            backoff,
            unreadable: 0,
            fruitless: 0,
            heard: Instant::now(),
            missing: None,
            leased: None,
            polls: false,
            errands: JoinSet::new(),
            fetching: false,
            checking: false,
            dialling: false,
        }
    }

    /// Runs until it is cancelled or nothing more can come.
    pub(crate) async fn run(mut self) {
        let mut stop = self.stop.clone();
        let mut liveness = self.liveness.clone();
        let mut phase = Phase::Dial;
        loop {
            phase = match phase {
                Phase::End(error) => {
                    debug!(conversation = %self.id, kind = ?error.kind(), "watcher ends");
                    self.writer.end(error);
                    return;
                }
                // Reading says goodbye to the server when it is cancelled.
                Phase::Read(connection) => self.read(connection).await,
                other => tokio::select! {
                    biased;
                    () = asked(&mut stop) => Phase::End(self.closed()),
                    reason = gone(&mut liveness) => Phase::End(self.server_gone(&reason)),
                    next = self.step(other) => next,
                },
            };
        }
    }

    async fn step(&mut self, phase: Phase) -> Phase {
        match phase {
            // In boxes: a watcher spends its life reading, and is as large as its largest step.
            Phase::Dial => Box::pin(self.dial()).await,
            Phase::Broken(error) => Box::pin(self.broken(error)).await,
            Phase::Fetch => Box::pin(self.fetch()).await,
            Phase::Poll(until) => Box::pin(self.poll(until)).await,
            Phase::Verify => Box::pin(self.verify()).await,
            Phase::Wait(delay) => {
                let mirror = self.writer.mirror().clone();
                tokio::select! {
                    () = sleep(delay) => Phase::Dial,
                    // Not a copy of it: what was noticed once is no news to the next wait.
                    () = ready(&mut self.liveness) => {
                        self.backoff.reset();
                        Phase::Dial
                    }
                    // Somebody waits for an event that the server has.
                    () = mirror.nudge.notified() => match self.heard.elapsed() >= BY_SOCKET {
                        true => Box::pin(self.catch_up_once(delay)).await,
                        false => Phase::Dial,
                    },
                }
            }
            unchanged => unchanged,
        }
    }

    async fn dial(&mut self) -> Phase {
        if !self.polls {
            self.writer.connecting(None);
        }
        // Asked once, and again after a socket was refused: a cut says nothing of the server.
        let session = match self.session {
            Some(session) => session,
            None => match self.client.server_info().await {
                // The first session sockets say nothing of what a model writes; the legacy one of
                // the same servers does.
                Ok(info) => {
                    let whole = info.has_session_socket() && info.has_session_tokens();
                    *self.session.insert(whole)
                }
                Err(error) => return Phase::Broken(error),
            },
        };
        let legacy = std::mem::take(&mut self.legacy_next) || self.legacy_for_good;
        self.flavor = match legacy || !session {
            true => Flavor::Legacy,
            false => Flavor::Session,
        };
        let (target, expected) = self.target();
        match self.client.socket(&target).await {
            Ok(socket) => {
                let reading = Reading::expecting(self.flavor, expected);
                Phase::Read(Box::new(self.connection(socket, reading)))
            }
            Err(error) => {
                // Only an answer can refuse a socket; a server that is away refuses nothing.
                let away = matches!(error.kind(), Wire::Connect | Wire::Timeout);
                // What answers there may be another server by now.
                self.session = None;
                self.fruitless = if away { 0 } else { self.fruitless + 1 };
                Phase::Broken(error)
            }
        }
    }

    fn connection(&self, socket: Socket, reading: Reading) -> Connection {
        let now = Instant::now();
        Connection {
            socket,
            opened: now,
            check: now + self.limits.silence,
            reading,
        }
    }

    /// Where the next socket is to be opened, and by which event the log is recognised then: the
    /// last one that is held is asked for again.
    fn target(&self) -> (String, Option<(i64, String)>) {
        if self.flavor == Flavor::Legacy {
            return (format!("/sockets/events/{}", self.id), None);
        }
        let held = self.writer.mirror().read();
        let anchor = held.anchor().filter(|event| event.raw().len() <= SMALL);
        let expected = anchor.map(|event| (held.cursor, event.id().to_owned()));
        let after = held.cursor - i64::from(expected.is_some());
        let target = format!("/sockets/session/{}?after_seq={after}", self.id);
        (target, expected)
    }

    async fn read(&mut self, mut connection: Box<Connection>) -> Phase {
        self.polls = false;
        self.writer.connected();
        let mirror = self.writer.mirror().clone();
        let mut stop = self.stop.clone();
        let mut liveness = self.liveness.clone();
        if connection.reading.flavor == Flavor::Legacy {
            self.ring(&mut connection.reading);
        }
        let next = loop {
            let gap = connection.reading.gap;
            let check = connection.check;
            tokio::select! {
                received = connection.socket.recv() => {
                    if let Some(next) = self.received(received, &mut connection) {
                        break next;
                    }
                    // A new socket in the place of a silent one brings no news by itself.
                    if self.rest_until_check == self.limits.silence {
                        connection.check = Instant::now() + self.limits.silence;
                    }
                }
                Some(done) = self.errands.join_next(), if !self.errands.is_empty() => {
                    let Ok(done) = done else { continue };
                    if let Some(next) = self.done(done, &mut connection) {
                        break next;
                    }
                }
                () = asked(&mut stop) => {
                    Box::pin(connection.socket.close(1000, "")).await;
                    return Phase::End(self.closed());
                }
                reason = gone(&mut liveness) => return Phase::End(self.server_gone(&reason)),
                () = mirror.nudge.notified() => self.nudged(&mut connection),
                () = until(gap) => {
                    connection.reading.gap = Some(Instant::now() + self.limits.gap * 10);
                    self.fetch_beside();
                }
                () = sleep_until(check) => self.check(&mut connection),
            }
        };
        let opened = connection.opened;
        if !connection.reading.fruitful {
            self.fruitless += 1;
        }
        drop(connection);
        // What is on its way belongs to a connection that is no more.
        self.errands.abort_all();
        while self.errands.try_join_next().is_some() {}
        (self.fetching, self.checking, self.dialling) = (false, false, false);
        if opened.elapsed() >= HEALTHY {
            self.backoff.reset();
        }
        next
    }

    /// Looks whether a silent link is a dead one.
    fn check(&mut self, connection: &mut Connection) {
        let (link, status) = {
            let held = self.writer.mirror().read();
            (held.link, held.status())
        };
        let idle = status != ExecutionStatus::Running && link == Link::Live;
        let now = Instant::now();
        if !idle {
            connection.check = now + self.limits.silence;
            self.ask_newest();
            return;
        }
        // Nothing is to be expected of an idle conversation: look ever more rarely.
        self.rest_until_check = (self.rest_until_check * 2).min(RARELY);
        connection.check = now + self.rest_until_check;
        match connection.reading.flavor {
            Flavor::Session => self.dial_beside(),
            Flavor::Legacy => self.ask_newest(),
        }
    }

    /// Somebody knows that the server has an event which is not here, or suspects that the
    /// conversation is gone.
    fn nudged(&mut self, connection: &mut Connection) {
        let replays = self.writer.mirror().read().link == Link::Replaying;
        if replays && connection.reading.fruitful && self.heard.elapsed() < SILENT {
            // The history is on its way.
            return;
        }
        connection.reading.nudged = true;
        self.fetch_beside();
    }

    fn rest(&self) -> Rest {
        Rest::new(&self.client, self.writer.mirror())
    }

    /// Decides what to do after the end of a connection.
    async fn broken(&mut self, error: oh_transport::Error) -> Phase {
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
                // A gateway may say so of the upgrade alone.
                let own = error.close_code().is_some() || self.look().await.is_err();
                if own {
                    return Phase::End(self.unauthorized());
                }
            }
            Ending::Ask => {
                if let Some(error) = self.ask(&error).await {
                    return Phase::End(error);
                }
            }
        }
        let mut trouble = Error::transport(self.id, "keep the link to the server", error);
        let reachable = trouble
            .transport_error()
            .is_none_or(|error| error.kind() != oh_transport::ErrorKind::Connect);
        let silent = self.heard.elapsed() >= SILENT;
        let refused = self.fruitless >= FRUITLESS && silent && reachable;
        if refused && self.leased.is_none() && self.missing.is_none() {
            // Perhaps it is only sockets that are refused.
            match self.catch_up().await {
                Ok(()) => {
                    self.polls = true;
                    self.writer.polling(trouble);
                    self.tell_live();
                    let until = Instant::now() + self.try_socket;
                    self.try_socket = (self.try_socket * 2).min(polling::LONGEST);
                    return Phase::Poll(until);
                }
                Err(rest::Fault::Other) => return Phase::Verify,
                Err(rest::Fault::Wire(other)) => {
                    trouble = Error::transport(self.id, "keep the link to the server", other);
                }
            }
        }
        self.polls = false;
        self.writer.connecting(Some(trouble));
        let disowned = self.leased.is_some() || self.missing.is_some();
        self.writer.change(|held| held.disowned = disowned);
        Phase::Wait(self.backoff.next_delay())
    }

    /// Finds out by REST whether the conversation is gone, leased, or the endpoint refused. An
    /// error is final.
    async fn ask(&mut self, refused: &oh_transport::Error) -> Option<Error> {
        match self.look().await {
            Ok(()) if refused.kind() == Wire::Forbidden && self.flavor == Flavor::Session => {
                // A server of an unknown version may not have the session socket; one of a known
                // version has it, and something on the way refuses the socket.
                let info = self.client.server_info().await;
                let known = info.is_ok_and(|info| info.version_numbers().is_some());
                if !known {
                    self.legacy_next = true;
                    self.fruitless = 0;
                }
                self.missing = None;
                None
            }
            Ok(()) => {
                self.missing = None;
                if !self.is_disowned_by(refused).await {
                    return None;
                }
                let since = *self.leased.get_or_insert_with(Instant::now);
                let what = "another live server holds its lease; use that server or stop it";
                let over = since.elapsed() >= self.limits.lease;
                over.then(|| Error::new(ErrorKind::Leased, self.id, what))
            }
            Err(error) if error.kind() == Wire::Unauthorized => Some(self.unauthorized()),
            Err(error) if error.kind() == Wire::NotFound && self.is_own_word(&error).await => {
                let (since, times) = self.missing.unwrap_or((Instant::now(), 0));
                self.missing = Some((since, times + 1));
                let what = "the server does not have it: it was deleted, or is on another server";
                let over = times > 0 && since.elapsed() >= self.limits.missing;
                over.then(|| Error::new(ErrorKind::Gone, self.id, what))
            }
            Err(_) => {
                self.missing = None;
                None
            }
        }
    }

    /// Whether a refusal is the agent server's own way to say that it does not have a conversation,
    /// which it has when asked for it: by a socket's close, or by the answer to a request.
    async fn is_disowned_by(&self, refused: &oh_transport::Error) -> bool {
        let named = |detail: &str| detail.starts_with("Conversation not found");
        let by_rest = refused
            .body()
            .and_then(|body| body["detail"].as_str())
            .is_some_and(named);
        refused.close_code().is_some() || by_rest && self.is_own_word(refused).await
    }

    /// Whether a 404 is the agent server's, and not that of a gateway in front of it.
    async fn is_own_word(&self, error: &oh_transport::Error) -> bool {
        let own = error.body().is_some_and(|body| body["detail"].is_string());
        own && self.client.call(&GetServerInfo::default()).await.is_ok()
    }

    async fn verify(&mut self) -> Phase {
        match self.rest().is_other_log().await {
            Ok(true) => Phase::End(self.replaced()),
            Ok(false) => {
                // The events are there under other numbers: the log has lost some.
                self.writer.change(|held| held.exact = false);
                Phase::Dial
            }
            Err(error) => Phase::Broken(error),
        }
    }

    fn replaced(&self) -> Error {
        let what = "the conversation was replaced: its log on the server is another or shorter \
                    than the one that was read; attach again";
        Error::new(ErrorKind::Replaced, self.id, what)
    }

    fn unauthorized(&self) -> Error {
        let what = "the server refuses the session key";
        Error::new(ErrorKind::Unauthorized, self.id, what)
    }

    fn server_gone(&self, reason: &str) -> Error {
        let what = format!("the server has ended and will not come back: {reason}");
        Error::new(ErrorKind::ServerGone, self.id, what)
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, self.id, "this handle was closed")
    }
}

/// Done once a stop is asked for, or nobody is left who could ask.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|asked| *asked).await;
}

/// Done once the server's supervisor says that it is gone, with the reason.
async fn gone(liveness: &mut watch::Receiver<Liveness>) -> String {
    let mut reason = None;
    let gone = liveness.wait_for(|known| {
        if let Liveness::Gone(why) = known {
            reason = Some(why.to_string());
        }
        reason.is_some()
    });
    drop(gone.await);
    match reason {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}

/// Done once the supervisor says that the server is ready again.
async fn ready(liveness: &mut watch::Receiver<Liveness>) {
    loop {
        if liveness.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if *liveness.borrow_and_update() == Liveness::Ready {
            return;
        }
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use oh_protocol::state::ConversationState;

    use super::*;
    use crate::mirror::Mirror;

    #[tokio::test]
    async fn a_waiting_conversation_takes_little_memory() {
        let id = ConversationId::random();
        let state = ConversationState::default();
        let (writer, _mirror) = Mirror::new(id, state, None, 0, Limits::default(), Arc::default());
        let (_stop, stopped) = watch::channel(false);
        let client = Client::builder("http://127.0.0.1:1").build().unwrap();
        let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
        let watcher = Watcher::new(client, writer, Tokens::default(), stopped, backoff).run();
        let bytes = size_of_val(&watcher);
        assert!(bytes <= 2 * 1024, "{bytes} bytes");
    }
}
