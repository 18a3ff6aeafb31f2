//! Keeps the mirror updated across connections: one task per link.
//!
//! The task runs no user code, waits for no reader, and decides nothing about runs. It awaits no
//! request while it reads a socket: requests run concurrently as errands. `endings` classifies the
//! end of a connection, and `frames` applies frames.

mod errands;
mod frames;
mod legacy;
mod polling;
mod rest;
mod stop;

use std::{
    collections::HashSet,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use oh_protocol::{ConversationId, ExecutionStatus, calls::server::GetServerInfo};
use oh_transport::{Backoff, Client, ErrorKind as Wire, Liveness, Socket};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

pub(crate) use self::stop::Stop;
use self::{
    errands::Done,
    frames::{Expected, Reading},
};
use crate::{
    Error, ErrorKind, Link,
    attach::Limits,
    endings::{Ending, classify},
    mirror::Writer,
    tokens::Tokens,
};

/// A link that lasted this long counts as healthy: the backoff is reset.
const HEALTHY: Duration = Duration::from_secs(10);
/// The longest time between two checks of an idle link.
const RARELY: Duration = Duration::from_secs(30 * 60);
/// A frame that fails to decode this often in a row is fetched with REST.
const UNREADABLE: u32 = 2;
/// After this many connections in a row without a frame, events are fetched with REST instead.
const FRUITLESS: u32 = 3;
/// The minimum silence before that, because a cut connection is usually made again sooner.
const SILENT: Duration = Duration::from_millis(800);
/// While a caller waits for an event, only the socket is used for this long. Only the socket
/// reports an event's `seq` when the server cannot read all of its log.
const BY_SOCKET: Duration = Duration::from_secs(3);
/// An event larger than this is not requested again to identify the log.
const SMALL: usize = 1024 * 1024;

/// The socket endpoint in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavor {
    Session,
    Legacy,
}

/// The phase of the watcher.
enum Phase {
    /// There is no connection; make one.
    Dial,
    /// There is a connection; read it until it ends.
    Read(Box<Connection>),
    /// The connection has ended, or could not be made.
    Broken(oh_transport::Error),
    /// The next events fit into no socket frame: fetch them with REST.
    Fetch,
    /// Sockets are refused: fetch the log with REST, until it is time to try a socket again.
    Poll(Instant),
    /// The log seems to differ from the one held: check with REST.
    Verify,
    /// Wait for this long.
    Wait(Duration),
    /// The link has ended.
    End(Error),
}

/// A socket, and what has been received from it.
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
    stop: Arc<Stop>,
    liveness: watch::Receiver<Liveness>,
    limits: Limits,
    flavor: Flavor,
    /// Whether to use the server's session socket; `None` until the server has been asked.
    session: Option<bool>,
    /// Whether to use the legacy socket: always, or for the next dial only.
    legacy_for_good: bool,
    legacy_next: bool,
    /// Events fetched with REST since the last connection: they may arrive again under another
    /// `seq`.
    fetched: HashSet<Box<str>>,
    /// The last `seq` at the time when the session socket was last opened.
    through: Option<i64>,
    /// How often in a row the session socket reported a frame that is too large, when it was not an
    /// event and no state arrived.
    too_large: u32,
    /// How many events REST requests ask for, and how often in a row that succeeded.
    few: u32,
    steady: u32,
    backoff: Backoff,
    unreadable: u32,
    /// How many connections in a row delivered no frame, and when the last frame arrived.
    fruitless: u32,
    heard: Instant,
    /// Since when the server has reported that it does not have the conversation, and how often.
    missing: Option<(Instant, u32)>,
    leased: Option<Instant>,
    /// The time until the next check of an idle link.
    rest_until_check: Duration,
    /// Whether events are fetched with REST because sockets are refused.
    polls: bool,
    /// The time until a socket is tried again in that case.
    try_socket: Duration,
    /// Concurrent requests, which end with the watcher.
    errands: JoinSet<Done>,
    /// Whether a request for events, a request for the newest event, or a dial is in progress.
    fetching: bool,
    checking: bool,
    dialling: bool,
}

impl Watcher {
    pub(crate) fn new(
        client: Client,
        writer: Writer,
        tokens: Tokens,
        stop: Arc<Stop>,
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

    /// Runs until it is stopped or no more events can arrive.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        let client = self.client.clone();
        let mut gone = pin!(client.server_gone());
        let mut phase = Phase::Dial;
        loop {
            phase = match phase {
                Phase::End(error) => {
                    debug!(conversation = %self.id, kind = ?error.kind(), "the watcher has ended");
                    self.writer.end(error);
                    return;
                }
                // The `read` phase handles the stop itself, to close the socket.
                Phase::Read(connection) => self.read(connection, gone.as_mut()).await,
                other => tokio::select! {
                    biased;
                    () = stop.asked() => Phase::End(self.closed()),
                    reason = &mut gone => Phase::End(self.server_gone(&reason)),
                    next = self.step(other) => next,
                },
            };
        }
    }

    async fn step(&mut self, phase: Phase) -> Phase {
        match phase {
            // Boxed, because a watcher spends its life reading, and is as large as its largest
            // step.
            Phase::Dial => Box::pin(self.dial()).await,
            Phase::Broken(error) => Box::pin(self.broken(error)).await,
            Phase::Fetch => Box::pin(self.fetch()).await,
            Phase::Poll(until) => Box::pin(self.poll(until)).await,
            Phase::Verify => Box::pin(self.verify()).await,
            Phase::Wait(delay) => {
                let mirror = self.writer.mirror().clone();
                tokio::select! {
                    () = sleep(delay) => Phase::Dial,
                    // Not a clone of the receiver: a clone would report the same change again.
                    () = ready(&mut self.liveness) => {
                        self.backoff.reset();
                        Phase::Dial
                    }
                    // A caller waits for an event that the server has.
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
        // Requested once, and again after a socket was refused. A disconnect alone does not change
        // it.
        let session = match self.session {
            Some(session) => session,
            None => match self.client.server_info().await {
                // The first version of the session socket does not stream tokens; the legacy socket
                // of the same servers does.
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
                // Only a response can refuse a socket, not an unreachable server.
                let away = matches!(error.kind(), Wire::Connect | Wire::Timeout);
                // The server at this address may have been replaced.
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

    /// Returns the target of the next socket, and what it delivers first: the last event held is
    /// requested again, because it identifies the log.
    fn target(&self) -> (String, Expected) {
        if self.flavor == Flavor::Legacy {
            let target = format!("/sockets/events/{}", self.id);
            return (target, Expected::default());
        }
        let held = self.writer.mirror().read();
        let event = held.anchor().filter(|event| event.raw().len() <= SMALL);
        let event = event.map(|event| (held.cursor, event.id().to_owned()));
        let after = match held.counted.filter(|counted| counted.differs) {
            Some(counted) => counted.after,
            None => held.cursor - i64::from(event.is_some()),
        };
        let target = format!("/sockets/session/{}?after_seq={after}", self.id);
        let next = held.log.after(after);
        let replayed = next..next;
        (target, Expected { event, replayed })
    }

    async fn read(
        &mut self,
        mut connection: Box<Connection>,
        mut gone: Pin<&mut impl Future<Output = Arc<str>>>,
    ) -> Phase {
        self.polls = false;
        self.writer.connected();
        let mirror = self.writer.mirror().clone();
        let stop = self.stop.clone();
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
                    // A socket that replaces a silent one delivers no new events by itself.
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
                () = stop.asked() => {
                    Box::pin(connection.socket.close(1000, "")).await;
                    return Phase::End(self.closed());
                }
                reason = &mut gone => return Phase::End(self.server_gone(&reason)),
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
        // Requests in progress belong to the ended connection.
        self.errands.abort_all();
        while self.errands.try_join_next().is_some() {}
        (self.fetching, self.checking, self.dialling) = (false, false, false);
        if opened.elapsed() >= HEALTHY {
            self.backoff.reset();
        }
        next
    }

    /// Checks whether a silent link is dead.
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
        // No events are expected for an idle conversation, so check at growing intervals.
        self.rest_until_check = (self.rest_until_check * 2).min(RARELY);
        connection.check = now + self.rest_until_check;
        match connection.reading.flavor {
            Flavor::Session => self.dial_beside(),
            Flavor::Legacy => self.ask_newest(),
        }
    }

    /// Handles a notification that the server has an event that the mirror lacks, or that the
    /// conversation may be gone.
    fn nudged(&mut self, connection: &mut Connection) {
        let replays = self.writer.mirror().read().link == Link::Replaying;
        if replays && connection.reading.fruitful && self.heard.elapsed() < SILENT {
            // The history is still arriving.
            return;
        }
        connection.reading.nudged = true;
        self.fetch_beside();
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
                // A gateway may reject only the upgrade.
                let own = error.close_code().is_some() || self.look().await.is_err();
                if own {
                    return Phase::End(self.unauthorized(error));
                }
            }
            Ending::Ask => {
                if let Some(error) = self.ask(&error).await {
                    return Phase::End(error);
                }
            }
        }
        let mut trouble = Error::transport(self.id, "keep the connection to the server", error);
        let reachable = trouble
            .transport_error()
            .is_none_or(|error| error.kind() != oh_transport::ErrorKind::Connect);
        let silent = self.heard.elapsed() >= SILENT;
        let refused = self.fruitless >= FRUITLESS && silent && reachable;
        if refused && self.leased.is_none() && self.missing.is_none() {
            // Perhaps only sockets are refused.
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
                    trouble = Error::transport(self.id, "keep the connection to the server", other);
                }
            }
        }
        self.polls = false;
        self.writer.connecting(Some(trouble));
        let disowned = self.leased.is_some() || self.missing.is_some();
        self.writer.change(|held| held.disowned = disowned);
        Phase::Wait(self.backoff.next_delay())
    }

    /// Finds out with REST whether the conversation is gone or leased, or the endpoint is refused.
    /// A returned error is final.
    async fn ask(&mut self, refused: &oh_transport::Error) -> Option<Error> {
        match self.look().await {
            Ok(()) if refused.kind() == Wire::Forbidden && self.flavor == Flavor::Session => {
                // A server of an unknown version may lack the session socket. A known version has
                // it, so a proxy may be refusing the socket.
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
                let what = "another running server holds the conversation's lease";
                let over = since.elapsed() >= self.limits.lease;
                over.then(|| {
                    Error::new(ErrorKind::Leased, self.id, what)
                        .advise("use that server or stop it")
                })
            }
            Err(error) if error.kind() == Wire::Unauthorized => Some(self.unauthorized(error)),
            Err(error) if error.kind() == Wire::NotFound && self.is_own_word(&error).await => {
                let (since, times) = self.missing.unwrap_or((Instant::now(), 0));
                self.missing = Some((since, times + 1));
                let what = "the server does not have the conversation: it was deleted, or it is \
                            on another server";
                let over = times > 0 && since.elapsed() >= self.limits.missing;
                over.then(|| Error::new(ErrorKind::Gone, self.id, what).with_source(error))
            }
            Err(_) => {
                self.missing = None;
                None
            }
        }
    }

    /// Returns whether a refusal is the agent server's own report that it does not have a
    /// conversation, although a request finds it: by a socket's close, or by the response to a
    /// request.
    async fn is_disowned_by(&self, refused: &oh_transport::Error) -> bool {
        let named = |detail: &str| detail.starts_with("Conversation not found");
        let by_rest = refused
            .body()
            .and_then(|body| body["detail"].as_str())
            .is_some_and(named);
        refused.close_code().is_some() || by_rest && self.is_own_word(refused).await
    }

    /// Returns whether a 404 is from the agent server, and not from a gateway in front of it.
    async fn is_own_word(&self, error: &oh_transport::Error) -> bool {
        let own = error.body().is_some_and(|body| body["detail"].is_string());
        own && self.client.call(&GetServerInfo::default()).await.is_ok()
    }

    async fn verify(&mut self) -> Phase {
        match self.rest_while_down().is_other_log().await {
            Ok(true) => Phase::End(self.replaced()),
            Ok(false) => {
                // The events exist under other numbers: the server's log has lost some.
                self.writer.change(|held| held.exact = false);
                Phase::Dial
            }
            Err(error) => Phase::Broken(error),
        }
    }

    fn replaced(&self) -> Error {
        let what = "the conversation was replaced: its log on the server differs from the log \
                    read before, or is shorter";
        Error::new(ErrorKind::Replaced, self.id, what).advise("attach again")
    }

    fn unauthorized(&self, cause: oh_transport::Error) -> Error {
        let what = "the server rejected the session key";
        Error::new(ErrorKind::Unauthorized, self.id, what)
            .advise("create the client with the server's key")
            .with_source(cause)
    }

    fn server_gone(&self, reason: &str) -> Error {
        let what = format!("the server has ended and will not be restarted: {reason}");
        Error::new(ErrorKind::ServerGone, self.id, what)
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, self.id, "this handle was closed")
    }
}

/// Completes once the supervisor reports that the server is ready again.
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
    use oh_protocol::state::ConversationState;

    use super::*;
    use crate::mirror::Mirror;

    #[tokio::test]
    async fn a_waiting_conversation_takes_little_memory() {
        let id = ConversationId::random();
        let state = ConversationState::default();
        let (writer, _mirror) = Mirror::new(id, state, None, 0, Limits::default(), Arc::default());
        let client = Client::builder("http://127.0.0.1:1").build().unwrap();
        let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
        let stop = Arc::default();
        let watcher = Watcher::new(client, writer, Tokens::default(), stop, backoff).run();
        let bytes = size_of_val(&watcher);
        assert!(bytes <= 2 * 1024, "{bytes} bytes");
    }
}
