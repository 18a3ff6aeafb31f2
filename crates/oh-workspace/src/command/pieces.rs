//! The output of one command: every piece once, in order, however the socket behaves. This module
//! combines the socket, which is fast, with REST, which is reliable.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use oh_protocol::calls::{
    Scope,
    bash::{BashOutput, SearchOutput},
};
use oh_transport::{Client, ErrorKind as Theirs};
use tokio::time::{Instant, timeout_at};

use super::{
    clock::ServerClock,
    hub::{Feed, Notice},
};
use crate::{Error, ErrorKind, Result};

/// Number of pieces in a page. A piece can have a million characters. Must exceed the number of
/// pieces that can share the order numbers within `LOOK_BACK`, so that every page contains a new
/// piece.
const PAGE: u32 = 5;
/// Maximum time that the server may be unreachable before the wait becomes an error. A restart
/// takes half a minute on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(250);
/// Two pieces can have the same order number (see [`BashOutput::order`]), so searches look back
/// this far.
const LOOK_BACK: i64 = 2;
/// Number of requests, after a lost connection, that check whether the server was restarted. The
/// server reports its uptime in whole seconds, so one request may not be conclusive.
const RESTART_CHECKS: u8 = 8;

/// The time limits of a command: when it started, and when it must have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// A local time at which the command was running.
    pub(crate) begun: Instant,
    /// The start by the server's clock, when this program did not see the command start.
    pub(crate) there: Option<Timestamp>,
    /// How long the server may take to report the end.
    pub(crate) limit: Duration,
}

/// Fetches a command's output.
#[derive(Debug)]
pub(crate) struct Pieces {
    client: Client,
    scope: Scope,
    id: String,
    /// `None` when there is no socket, as in conversations.
    feed: Option<Feed>,
    ready: VecDeque<BashOutput>,
    seen: HashSet<String>,
    highest: i64,
    /// The id of the page after the last one.
    page: Option<String>,
    /// The id of a piece that must not be returned before the missing ones in front of it.
    held: Option<String>,
    ended: bool,
    trusted: bool,
    span: Span,
    /// Time spent so far in failed attempts to reach the server.
    unreached: Duration,
    doubts: u8,
    restarted: bool,
    check: Instant,
}

impl Pieces {
    /// Creates the reader for a command that runs at most as long as `span` allows.
    pub(crate) fn new(
        client: &Client,
        scope: Scope,
        id: &str,
        feed: Option<Feed>,
        span: Span,
    ) -> Self {
        Self {
            client: client.clone(),
            scope,
            id: id.to_owned(),
            feed,
            ready: VecDeque::new(),
            seen: HashSet::new(),
            highest: -1,
            page: None,
            held: None,
            ended: false,
            trusted: false,
            span,
            unreached: Duration::ZERO,
            // The server that ran the command may have been replaced by another one.
            doubts: if span.there.is_some() {
                RESTART_CHECKS
            } else {
                0
            },
            restarted: false,
            check: Instant::now(),
        }
    }

    /// Marks the command as just started: its first frame is awaited briefly before the first REST
    /// request.
    pub(crate) fn fresh(mut self) -> Self {
        self.schedule();
        self
    }

    /// Returns the next piece, or `None` after the last. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Returns an error if the server rejects the request or has been unreachable for a while, or
    /// if output was removed from its history.
    pub(crate) async fn next(&mut self) -> Result<Option<BashOutput>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if let Some(piece) = self.ready.pop_front() {
                self.seen.insert(piece.id.clone());
                self.highest = self.highest.max(piece.order);
                self.ended = piece.exit_code.is_some();
                return Ok(Some(piece));
            }
            match self.notice().await {
                Some(Notice::Trusted) => {
                    self.trusted = true;
                    if self.held.is_none() {
                        self.schedule();
                    }
                }
                Some(notice @ (Notice::Doubtful | Notice::Gone)) => {
                    self.trusted = false;
                    if matches!(notice, Notice::Gone) {
                        self.doubts = RESTART_CHECKS;
                    }
                    self.check = Instant::now();
                }
                Some(Notice::Piece(piece)) => self.offer(*piece),
                None => self.ask().await?,
            }
        }
    }

    /// Waits for the socket. Returns `None` when it is time for a REST request.
    async fn notice(&mut self) -> Option<Notice> {
        match &mut self.feed {
            Some(feed) => timeout_at(self.check, feed.next()).await.ok(),
            None => {
                tokio::time::sleep_until(self.check).await;
                None
            }
        }
    }

    /// Takes a piece from the socket, unless an earlier piece is missing.
    fn offer(&mut self, piece: BashOutput) {
        if self.seen.contains(&piece.id) {
            return;
        }
        // The order number of a timed-out command's end may omit a piece in flight.
        if piece.order > self.before() || piece.exit_code == Some(-1) {
            self.held = Some(piece.id);
            self.check = Instant::now();
        } else {
            self.ready.push_back(piece);
        }
    }

    /// Returns the number of pieces before the next one. If its order number is higher, some are
    /// missing.
    fn before(&self) -> i64 {
        i64::try_from(self.seen.len() + self.ready.len()).unwrap_or(i64::MAX)
    }

    /// Fetches the next pieces with REST.
    async fn ask(&mut self) -> Result<()> {
        let mut search = SearchOutput::new(&self.id).scope(self.scope).limit(PAGE);
        if self.highest >= LOOK_BACK {
            search = search.after(self.highest - LOOK_BACK);
        }
        if let Some(page) = &self.page {
            search = search.page_id(page);
        }
        let asked = Instant::now();
        let mut found = match self.client.call(&search).await {
            Ok(found) => found,
            Err(error) => return self.unreachable(error, asked).await,
        };
        self.unreached = Duration::ZERO;
        let began = std::mem::replace(&mut self.page, found.next_page_id);
        if began.is_none() && self.page.is_none() {
            // This is the whole output: sort it, in case the clock was set back.
            found.items.sort_by_key(|piece| piece.order);
        }
        for piece in found.items {
            if self.seen.contains(&piece.id) || self.ready.iter().any(|one| one.id == piece.id) {
                continue;
            }
            if piece.order > self.before() {
                // The page may have started after the missing piece, because the clock was set back
                // or the history was cleared.
                self.page = None;
                self.check = Instant::now();
                return match began {
                    Some(_) => Ok(()),
                    None => Err(self.lost()),
                };
            }
            self.ready.push_back(piece);
        }
        if let Some(next) = &self.page {
            // A page that names itself as next would be requested forever.
            if self.ready.is_empty() && began.as_ref() == Some(next) {
                return Err(self.lost());
            }
            self.check = Instant::now();
            return Ok(());
        }
        if let Some(held) = self.held.take() {
            // The piece may have come with an earlier page.
            let came = |one: &BashOutput| one.id == held;
            if !self.seen.contains(&held) && !self.ready.iter().any(came) {
                return Err(self.lost());
            }
        }
        if self.ready.is_empty() {
            self.expects_more().await?;
        }
        self.schedule();
        Ok(())
    }

    /// Checks whether more output can still arrive.
    async fn expects_more(&mut self) -> Result<()> {
        if self.restarted {
            let context = "the server was restarted while the command was running, so its exit \
                           status is unknown";
            return Err(Error::new(ErrorKind::ServerRestarted, context).of_command(&self.id));
        }
        if self.due().is_some_and(|due| due <= Instant::now()) {
            let context = "the server has not reported the end of the command, although its \
                           timeout expired long ago";
            return Err(Error::new(ErrorKind::Timeout, context).of_command(&self.id));
        }
        if self.doubts > 0 {
            self.doubts -= 1;
            let clock = ServerClock::ask(&self.client).await;
            // The next request still fetches what the command wrote before the restart.
            self.restarted = clock.is_some_and(|clock| self.is_restarted(clock));
        }
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        self.span.begun.checked_add(self.span.limit)
    }

    /// Returns whether the server started after the command.
    fn is_restarted(&mut self, clock: ServerClock) -> bool {
        let Some(there) = self.span.there else {
            return clock.is_younger_than(self.span.begun.elapsed());
        };
        let Some(age) = clock.age(there) else {
            return false;
        };
        // The timeout counts from the start by the server's clock.
        if let Some(begun) = Instant::now().checked_sub(age) {
            self.span.begun = begun;
        }
        clock.is_clearly_younger_than(age)
    }

    /// Waits briefly for an unreachable server, up to a limit.
    async fn unreachable(&mut self, error: oh_transport::Error, asked: Instant) -> Result<()> {
        let passing = matches!(
            error.kind(),
            Theirs::Connect
                | Theirs::Interrupted
                | Theirs::Timeout
                | Theirs::Server
                | Theirs::RateLimited
        );
        // Counts only the time of attempts: a reader that pauses must not use up the limit.
        self.unreached += asked.elapsed() + RETRY;
        self.doubts = RESTART_CHECKS;
        if passing && self.unreached < PATIENCE {
            let gone = tokio::time::timeout(RETRY, self.client.server_gone());
            return match gone.await {
                Err(_) => Ok(()),
                Ok(reason) => {
                    let context =
                        format!("the server has ended and will not be restarted: {reason}");
                    Err(Error::new(ErrorKind::ServerGone, context).of_command(&self.id))
                }
            };
        }
        let context = "cannot read the output of the command, which may still be running";
        Err(Error::transport(context, error)
            .midway()
            .of_command(&self.id))
    }

    fn lost(&self) -> Error {
        let context = "output of the command was removed from the server's history";
        Error::new(ErrorKind::OutputLost, context).of_command(&self.id)
    }

    /// Sets when to ask next. Without a socket that reports the command, the delay grows with the
    /// command's age, because each search makes the server list a directory. A socket may stop
    /// delivering without an error, so the server is asked occasionally even with a socket.
    fn schedule(&mut self) {
        let age = match self.restarted {
            true => Duration::ZERO,
            false => self.span.begun.elapsed(),
        };
        let delay = match self.trusted {
            true => (age / 4).clamp(Duration::from_secs(1), Duration::from_secs(30)),
            false => (age / 5).clamp(Duration::from_millis(25), Duration::from_secs(2)),
        };
        let next = Instant::now() + delay;
        self.check = match self.due() {
            Some(due) if self.check < due => next.min(due),
            _ => next,
        };
    }
}
