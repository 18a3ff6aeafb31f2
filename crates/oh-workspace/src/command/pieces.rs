//! The output of one command: every piece once, in order, whatever the socket does. The socket
//! is quick and REST is certain; this is where they become one.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use oh_protocol::calls::{
    Scope,
    bash::{BashOutput, SearchOutput},
};
use oh_transport::{Client, ErrorKind as Theirs};
use tokio::time::{Instant, timeout_at};

use super::hub::{Feed, Hint};
use crate::{Error, ErrorKind, Result};

/// Pieces fetched at a time: they can be a million characters each.
/// More than can share the places looked back at, so that every page holds something new.
const PAGE: u32 = 5;
/// How long the server may be out of reach before waiting for it becomes an error.
const PATIENCE: Duration = Duration::from_secs(30);
/// A socket that tells is still asked after, in case it has gone deaf.
const TRUSTED_CHECK: Duration = Duration::from_secs(30);
/// Two pieces can share a place in the order (see [`BashOutput::order`]), so look back this far.
const LOOK_BACK: i64 = 2;

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
    /// The id of a piece that must not be given before those missing in front of it.
    held: Option<String>,
    ended: bool,
    trusted: bool,
    begun: Instant,
    contact: Instant,
    check: Instant,
}

impl Pieces {
    pub(crate) fn new(client: &Client, scope: Scope, id: &str, feed: Option<Feed>) -> Self {
        let now = Instant::now();
        Self {
            client: client.clone(),
            scope,
            id: id.to_owned(),
            feed,
            ready: VecDeque::new(),
            seen: HashSet::new(),
            highest: -1,
            held: None,
            ended: false,
            trusted: false,
            begun: now,
            contact: now,
            check: now,
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
                Some(Hint::Doubtful) => {
                    self.trusted = false;
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
        let found = match self.client.call(&search).await {
            Ok(found) => found,
            Err(error) => return self.unreachable(error).await,
        };
        self.contact = Instant::now();
        let more = found.next_page_id.is_some();
        for piece in found.items {
            if self.seen.contains(&piece.id) {
                continue;
            }
            if piece.order > self.before() {
                return Err(self.lost());
            }
            self.ready.push_back(piece);
        }
        // It may have come with a page before this one.
        let held_came = |held: &String| {
            self.seen.contains(held) || self.ready.iter().any(|piece| piece.id == *held)
        };
        if more {
            // A page of what is known already would be asked for again and again.
            if self.ready.is_empty() {
                return Err(self.lost());
            }
            self.check = Instant::now();
            return Ok(());
        }
        if let Some(held) = self.held.take()
            && !held_came(&held)
        {
            return Err(self.lost());
        }
        self.schedule();
        Ok(())
    }

    /// Waits a little for a server that cannot be reached, but not for ever.
    async fn unreachable(&mut self, error: oh_transport::Error) -> Result<()> {
        let passing = matches!(
            error.kind(),
            Theirs::Connect
                | Theirs::Interrupted
                | Theirs::Timeout
                | Theirs::Server
                | Theirs::RateLimited
        );
        if passing && self.contact.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(250)).await;
            return Ok(());
        }
        let context = "the output of a command could not be read; the command may go on";
        Err(Error::transport(context, error).of_command(&self.id))
    }

    fn lost(&self) -> Error {
        let context = "output of a command is gone from the server's history";
        Error::new(ErrorKind::OutputLost, context).of_command(&self.id)
    }

    /// When to ask next. Without a socket that tells, the wait grows with the command's age, so
    /// that its end is told at most a twentieth of its duration late.
    fn schedule(&mut self) {
        let delay = if self.trusted {
            TRUSTED_CHECK
        } else {
            let age = self.begun.elapsed();
            (age / 20).clamp(Duration::from_millis(5), Duration::from_millis(500))
        };
        self.check = Instant::now() + delay;
    }
}
