//! The output of one command: every piece once, in order, whatever the socket does. The socket
//! is quick and REST is certain; this is where they become one.

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
    hub::{Feed, Hint},
};
use crate::{Error, ErrorKind, Result};

/// Pieces fetched at a time: they can be a million characters each.
/// More than can share the places looked back at, so that every page holds something new.
const PAGE: u32 = 5;
/// How long the server may be out of reach before waiting for it becomes an error. One that is
/// started anew takes half a minute on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(250);
/// Two pieces can share a place in the order (see [`BashOutput::order`]), so look back this far.
const LOOK_BACK: i64 = 2;
/// How often, after contact was lost, the server is asked whether it is still the same. It says
/// its age in whole seconds, so one question may not tell.
const DOUBTS: u8 = 8;

/// When a command begins and must have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// The command ran by then.
    pub(crate) begun: Instant,
    /// When it began by the server's clock, where this program did not see it begin.
    pub(crate) there: Option<Timestamp>,
    /// How long the server may take until it tells the end.
    pub(crate) limit: Duration,
}

/// Reads a command's output.
#[derive(Debug)]
pub(crate) struct Pieces {
    client: Client,
    scope: Scope,
    id: String,
    /// None where there is no socket: conversations have none.
    feed: Option<Feed>,
    ready: VecDeque<BashOutput>,
    seen: HashSet<String>,
    highest: i64,
    /// Where the page begins that follows the last one.
    page: Option<String>,
    /// The id of a piece that must not be given before those missing in front of it.
    held: Option<String>,
    ended: bool,
    trusted: bool,
    span: Span,
    /// How long it has been tried to reach the server, in vain.
    unreached: Duration,
    doubts: u8,
    restarted: bool,
    check: Instant,
}

impl Pieces {
    /// Of a command that runs at most as long as `span` says.
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
            // A server may have taken the place of the one that ran it.
            doubts: if span.there.is_some() { DOUBTS } else { 0 },
            restarted: false,
            check: Instant::now(),
        }
    }

    /// For a command just started: its first frame is awaited a moment before REST is asked.
    pub(crate) fn fresh(mut self) -> Self {
        self.schedule();
        self
    }

    /// The next piece; none after the last. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the server refuses, or has been out of reach for a while; when output is gone from
    /// its history.
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
            match self.hint().await {
                Some(Hint::Trusted) => {
                    self.trusted = true;
                    if self.held.is_none() {
                        self.schedule();
                    }
                }
                Some(hint @ (Hint::Doubtful | Hint::Gone)) => {
                    self.trusted = false;
                    if matches!(hint, Hint::Gone) {
                        self.doubts = DOUBTS;
                    }
                    self.check = Instant::now();
                }
                Some(Hint::Piece(piece)) => self.offer(*piece),
                None => self.ask().await?,
            }
        }
    }

    /// What the socket says; none when it is time to ask.
    async fn hint(&mut self) -> Option<Hint> {
        match &mut self.feed {
            Some(feed) => timeout_at(self.check, feed.next()).await.ok(),
            None => {
                tokio::time::sleep_until(self.check).await;
                None
            }
        }
    }

    /// Takes a piece from the socket, unless something before it is missing.
    fn offer(&mut self, piece: BashOutput) {
        if self.seen.contains(&piece.id) {
            return;
        }
        // The end of a command out of time may not count a piece in flight.
        if piece.order > self.before() || piece.exit_code == Some(-1) {
            self.held = Some(piece.id);
            self.check = Instant::now();
        } else {
            self.ready.push_back(piece);
        }
    }

    /// How many pieces came before the next one. Its order is at most that, or some are missing.
    fn before(&self) -> i64 {
        i64::try_from(self.seen.len() + self.ready.len()).unwrap_or(i64::MAX)
    }

    /// Asks REST for what is next.
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
            // All there is: put right what a clock that was set back has mixed up.
            found.items.sort_by_key(|piece| piece.order);
        }
        for piece in found.items {
            if self.seen.contains(&piece.id) || self.ready.iter().any(|one| one.id == piece.id) {
                continue;
            }
            if piece.order > self.before() {
                // The page may have begun behind it: a clock that was set back, or a history
                // that was cleared.
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
            // A page that is followed by itself would be asked for again and again.
            if self.ready.is_empty() && began.as_ref() == Some(next) {
                return Err(self.lost());
            }
            self.check = Instant::now();
            return Ok(());
        }
        if let Some(held) = self.held.take() {
            // It may have come with a page before this one.
            let came = |one: &BashOutput| one.id == held;
            if !self.seen.contains(&held) && !self.ready.iter().any(came) {
                return Err(self.lost());
            }
        }
        if self.ready.is_empty() {
            self.is_to_come().await?;
        }
        self.schedule();
        Ok(())
    }

    /// Whether what the server does not have may yet come.
    async fn is_to_come(&mut self) -> Result<()> {
        if self.restarted {
            let context = "the server was started anew while the command ran, so how it ended is \
                           not known";
            return Err(Error::new(ErrorKind::ServerRestarted, context).of_command(&self.id));
        }
        if self.due().is_some_and(|due| due <= Instant::now()) {
            let context = "the server has not reported the end of a command that is long out of \
                           time";
            return Err(Error::new(ErrorKind::Timeout, context).of_command(&self.id));
        }
        if self.doubts > 0 {
            self.doubts -= 1;
            let clock = ServerClock::ask(&self.client).await;
            // What the command may have written before is asked for once more.
            self.restarted = clock.is_some_and(|clock| self.is_restarted(clock));
        }
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        self.span.begun.checked_add(self.span.limit)
    }

    /// Whether the server is younger than the command.
    fn is_restarted(&mut self, clock: ServerClock) -> bool {
        let Some(there) = self.span.there else {
            return clock.is_younger_than(self.span.begun.elapsed());
        };
        let Some(age) = clock.age(there) else {
            return false;
        };
        // Its time runs from there on.
        if let Some(begun) = Instant::now().checked_sub(age) {
            self.span.begun = begun;
        }
        clock.is_clearly_younger_than(age)
    }

    /// Waits a little for a server that cannot be reached, but not for ever.
    async fn unreachable(&mut self, error: oh_transport::Error, asked: Instant) -> Result<()> {
        let passing = matches!(
            error.kind(),
            Theirs::Connect
                | Theirs::Interrupted
                | Theirs::Timeout
                | Theirs::Server
                | Theirs::RateLimited
        );
        // A reader that was away meanwhile is no reason to give up.
        self.unreached += asked.elapsed() + RETRY;
        self.doubts = DOUBTS;
        if passing && self.unreached < PATIENCE {
            tokio::time::sleep(RETRY).await;
            return Ok(());
        }
        let context = "the output of a command could not be read; the command may go on";
        Err(Error::transport(context, error)
            .midway()
            .of_command(&self.id))
    }

    fn lost(&self) -> Error {
        let context = "output of a command is gone from the server's history";
        Error::new(ErrorKind::OutputLost, context).of_command(&self.id)
    }

    /// When to ask next. Without a socket that reports the command, the wait grows with the
    /// command's age: each search makes the server list a directory. A socket that reports it may
    /// have gone deaf, so the server is asked now and then all the same.
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
