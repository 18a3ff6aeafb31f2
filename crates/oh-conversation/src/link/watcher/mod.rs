//! Keeps the mirror updated across connections: one task per link.
//!
//! The task runs no user code, waits for no reader, and decides nothing about runs. It awaits no
//! request while it reads a socket: requests run concurrently as errands. `frames` applies
//! frames, and `broken` decides after the end of a connection.

mod broken;
mod errands;
mod fetch;
mod frames;
mod legacy;
mod polling;
mod reading;
mod rest;
mod run;
mod stop;

use std::{collections::HashSet, sync::Arc, time::Duration};

use oh_protocol::{ConversationId, state::ConversationState};
use oh_transport::{Backoff, Client, Liveness, Socket};
use tokio::{sync::watch, task::JoinSet, time::Instant};

pub(crate) use self::stop::Stop;
use self::{
    reading::{Expected, Flavor, Reading},
    rest::{Fault, Fetched, MANY, Rest},
};
use crate::{Error, limits::Limits, link::tokens::Tokens, mirror::Writer};

/// The silence after which sockets may count as refused. A cut connection is usually made again
/// sooner.
const SILENT: Duration = Duration::from_millis(800);
/// While sockets are refused: the time until one is tried again, at first and at most.
const TRY_SOCKET: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

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

/// The result of an errand.
enum Done {
    /// Fields that only the REST description has, such as the title.
    Described(Option<ConversationState>),
    /// The program's settings were set again.
    Restored,
    /// Events after the last one held.
    Fetched(Result<Fetched, Fault>),
    /// The id of the newest event.
    Newest(oh_transport::Result<Option<String>>),
    /// A socket to replace a silent one, and the event that identifies its log.
    Dialled(oh_transport::Result<Socket>, Expected),
}

/// The state of a watcher. The modules here implement what it does.
pub(crate) struct Watcher {
    client: Client,
    id: ConversationId,
    writer: Writer,
    tokens: Tokens,
    stop: Arc<Stop>,
    liveness: watch::Receiver<Liveness>,
    limits: Arc<Limits>,
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
            try_socket: TRY_SOCKET.0,
            fetched: HashSet::new(),
            through: None,
            too_large: 0,
            few: MANY,
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

    fn rest(&self) -> Rest {
        Rest::new(&self.client, self.writer.mirror())
    }

    fn rest_while_down(&self) -> Rest {
        self.rest().for_a_link_that_is_down()
    }
}
