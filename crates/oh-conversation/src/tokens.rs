//! Text as the model writes it: pieces that no log holds, for those who want to see typing.
//!
//! Pieces are hints. The event that ends an item holds the whole text; nothing here is stored.
//! A reader has a queue of its own. One that falls behind loses the pieces of whole items, and is
//! told so by [`Token::Lagged`]; what begins and ends an item is never lost.

use std::{
    collections::{HashSet, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream;
use oh_protocol::{Event, SessionFrame, Text, event::StreamingDeltaEvent};
use tokio::task::coop;

/// How many pieces wait for a slow reader at most.
const PIECES: usize = 1024;
/// How many bytes of text wait for a slow reader at most, unless a single piece is larger.
const BYTES: usize = 1 << 20;
/// So many items that were finished last are remembered, to tell of none twice.
const FINISHED: usize = 64;

/// A step of an item that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Token {
    /// An item begins, or begins again: what came of it with a lower attempt is void.
    Started {
        /// Id of the event that will end it.
        item_id: Box<str>,
        /// Grows with each retry.
        attempt: u64,
    },
    /// A piece of the answer.
    Text {
        /// Id of the event that will end it; empty on servers without the session socket.
        item_id: Box<str>,
        /// The attempt it belongs to.
        attempt: u64,
        /// The piece.
        content: Box<str>,
    },
    /// A piece of the reasoning before the answer.
    Reasoning {
        /// Id of the event that will end it; empty on servers without the session socket.
        item_id: Box<str>,
        /// The attempt it belongs to.
        attempt: u64,
        /// The piece.
        content: Box<str>,
    },
    /// An attempt was given up; its pieces are void.
    Aborted {
        /// Id of the item.
        item_id: Box<str>,
        /// The attempt that ended.
        attempt: u64,
    },
    /// The reader was too slow: pieces of an item were dropped, and the rest of the item's
    /// attempt is left out, too. What came of it so far is incomplete. [`Finished`](Self::Finished)
    /// names the event that holds the whole text.
    Lagged {
        /// Id of the item; empty on servers without the session socket.
        item_id: Box<str>,
    },
    /// The event with this id is in the log and holds the whole text.
    Finished {
        /// Id of the event.
        item_id: Box<str>,
    },
}

impl Token {
    /// The item and the text, where it is a piece.
    fn piece(&self) -> Option<(&str, &str)> {
        match self {
            Self::Text {
                item_id, content, ..
            }
            | Self::Reasoning {
                item_id, content, ..
            } => Some((item_id, content)),
            _ => None,
        }
    }
}

/// The writer's end: hands out what the server sends. Dropped, all streams end.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Readers);

/// Where readers subscribe. Does not keep streams open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<Hub>>);

#[derive(Debug, Default)]
struct Hub {
    readers: Vec<Reader>,
    /// Items finished last.
    finished: VecDeque<Box<str>>,
    ended: bool,
}

/// What ends a stream when the handle that gave it is closed.
#[derive(Debug)]
pub(crate) struct StreamEnd(Weak<Mutex<Queue>>);

impl StreamEnd {
    pub(crate) fn end(&self) {
        if let Some(queue) = self.0.upgrade() {
            wake(lock(&queue).end());
        }
    }

    /// Whether there is no stream to end any more.
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// A stream that is being read, seen from the writer's end.
#[derive(Debug)]
struct Reader {
    queue: Weak<Mutex<Queue>>,
    /// No event up to this `seq` is told of; unknown until the history before the subscription
    /// has arrived.
    after: Option<i64>,
}

impl Drop for Tokens {
    fn drop(&mut self) {
        let readers = {
            let mut hub = self.0.lock();
            hub.ended = true;
            std::mem::take(&mut hub.readers)
        };
        let queues = readers.iter().filter_map(|reader| reader.queue.upgrade());
        queues.for_each(|queue| wake(lock(&queue).end()));
    }
}

impl Readers {
    /// Subscribes. `after` says which `seq` was the last one when the conversation is live; none
    /// while its history is still arriving.
    pub(crate) fn subscribe(&self, after: impl FnOnce() -> Option<i64>) -> TokenStream {
        let mut hub = self.lock();
        let queue = Arc::new(Mutex::new(Queue {
            ended: hub.ended,
            ..Queue::default()
        }));
        if !hub.ended {
            // Asked for under the lock: the writer cannot become live in between.
            hub.readers.push(Reader {
                queue: Arc::downgrade(&queue),
                after: after(),
            });
        }
        TokenStream(queue)
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        lock(&self.0)
    }
}

impl TokenStream {
    pub(crate) fn stream_end(&self) -> StreamEnd {
        StreamEnd(Arc::downgrade(&self.0))
    }
}

impl Tokens {
    pub(crate) fn readers(&self) -> Readers {
        self.0.clone()
    }

    /// The history has arrived, up to this `seq`: whatever follows is new to all who have
    /// subscribed by now.
    pub(crate) fn live(&self, cursor: i64) {
        for reader in &mut self.0.lock().readers {
            reader.after.get_or_insert(cursor);
        }
    }

    pub(crate) fn progress(&self, frame: SessionFrame) {
        let token = match frame {
            SessionFrame::ItemStarted {
                item_id, attempt, ..
            } => Token::Started { item_id, attempt },
            SessionFrame::Delta {
                item_id,
                attempt,
                kind,
                content,
                ..
            } => match &*kind {
                "reasoning" => Token::Reasoning {
                    item_id,
                    attempt,
                    content,
                },
                _ => Token::Text {
                    item_id,
                    attempt,
                    content,
                },
            },
            SessionFrame::ItemAborted {
                item_id, attempt, ..
            } => Token::Aborted { item_id, attempt },
            _ => return,
        };
        self.give(&token);
    }

    pub(crate) fn legacy(&self, delta: &StreamingDeltaEvent) {
        let piece = |text: &Option<Text>| {
            text.as_deref()
                .filter(|text| !text.is_empty())
                .map(Into::into)
        };
        if let Some(content) = piece(&delta.reasoning_content) {
            self.give(&Token::Reasoning {
                item_id: "".into(),
                attempt: 0,
                content,
            });
        }
        if let Some(content) = piece(&delta.content) {
            self.give(&Token::Text {
                item_id: "".into(),
                attempt: 0,
                content,
            });
        }
    }

    /// An event was appended at this `seq`: an item with its id is complete. `replayed`: it was
    /// in the log when the connection was made, so it is history to those who have subscribed
    /// since, and news to those who were there before the connection was cut.
    pub(crate) fn durable(&self, seq: i64, event: &Event, replayed: bool) {
        if !matches!(event.kind(), "ActionEvent" | "MessageEvent")
            || event.source().as_str() != "agent"
        {
            return;
        }
        let mut hub = self.0.lock();
        if hub.readers.is_empty() || hub.finished.iter().any(|id| **id == *event.id()) {
            return;
        }
        if hub.finished.len() == FINISHED {
            hub.finished.pop_front();
        }
        hub.finished.push_back(event.id().into());
        let token = Token::Finished {
            item_id: event.id().into(),
        };
        hub.give(&token, |reader| match reader.after {
            Some(after) => seq > after,
            None => !replayed,
        });
    }

    fn give(&self, token: &Token) {
        self.0.lock().give(token, |_| true);
    }
}

impl Hub {
    /// Never waits for a reader.
    fn give(&mut self, token: &Token, wanted: impl Fn(&Reader) -> bool) {
        self.readers.retain(|reader| {
            let Some(queue) = reader.queue.upgrade() else {
                return false;
            };
            if wanted(reader) {
                wake(lock(&queue).push(token.clone()));
            }
            true
        });
    }
}

/// What waits for one reader.
#[derive(Debug, Default)]
struct Queue {
    tokens: VecDeque<Token>,
    /// How many of them are pieces, and how much text those have.
    pieces: usize,
    bytes: usize,
    /// Items whose pieces are left out until they begin again or are complete.
    lagging: HashSet<Box<str>>,
    waker: Option<Waker>,
    ended: bool,
}

impl Queue {
    fn push(&mut self, token: Token) -> Option<Waker> {
        match &token {
            Token::Started { item_id, .. } | Token::Aborted { item_id, .. } => {
                self.lagging.remove(item_id);
            }
            Token::Finished { item_id } => {
                self.lagging.remove(item_id);
                // Pieces without an item are followed by the event that has them.
                self.lagging.remove("");
            }
            _ => {}
        }
        if let Some((item, text)) = token.piece() {
            let (item, length) = (Box::<str>::from(item), text.len());
            while !self.has_room(length) && !self.lagging.contains(&item) {
                self.drop_oldest();
            }
            if self.lagging.contains(&item) {
                return None;
            }
            self.pieces += 1;
            self.bytes += length;
        }
        self.tokens.push_back(token);
        self.waker.take()
    }

    fn has_room(&self, length: usize) -> bool {
        self.pieces == 0 || (self.pieces < PIECES && self.bytes.saturating_add(length) <= BYTES)
    }

    /// Puts a mark in the place of all pieces of the item whose pieces have waited longest.
    fn drop_oldest(&mut self) {
        let oldest = self.tokens.iter().find_map(Token::piece);
        let Some(item) = oldest.map(|(item, _)| Box::<str>::from(item)) else {
            return;
        };
        let mut marked = false;
        for token in std::mem::take(&mut self.tokens) {
            match token.piece() {
                Some((of, text)) if *of == *item => {
                    self.pieces -= 1;
                    self.bytes -= text.len();
                    if !marked {
                        marked = true;
                        let item_id = item.clone();
                        self.tokens.push_back(Token::Lagged { item_id });
                    }
                }
                _ => self.tokens.push_back(token),
            }
        }
        self.lagging.insert(item);
    }

    fn pop(&mut self) -> Option<Token> {
        let token = self.tokens.pop_front()?;
        if let Some((_, text)) = token.piece() {
            self.pieces -= 1;
            self.bytes -= text.len();
        }
        Some(token)
    }

    fn end(&mut self) -> Option<Waker> {
        self.ended = true;
        self.waker.take()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// [`Token`]s as they come, from the subscription on: none of what the log held before.
///
/// Ends when the conversation's link ends: it is closed, gone, or the server refuses the session
/// key. What has come before is given first.
///
/// A reader for whom 1024 pieces or 1 MiB of text wait loses the pieces of the item that has
/// waited longest: a [`Token::Lagged`] stands in their place, and the rest of the item is left
/// out. All other kinds of tokens are kept for the reader, however slow it is: some tens of bytes
/// for each message of the agent.
#[derive(Debug)]
pub struct TokenStream(Arc<Mutex<Queue>>);

impl TokenStream {
    /// Returns the next token, or `None` when the link has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no token is lost.
    pub async fn next(&mut self) -> Option<Token> {
        poll_fn(|cx| self.poll_token(cx)).await
    }

    fn poll_token(&self, cx: &mut Context<'_>) -> Poll<Option<Token>> {
        let budget = ready!(coop::poll_proceed(cx));
        let mut queue = lock(&self.0);
        let token = queue.pop();
        if token.is_none() && !queue.ended {
            queue.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        budget.made_progress();
        Poll::Ready(token)
    }
}

impl Stream for TokenStream {
    type Item = Token;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Token>> {
        self.poll_token(cx)
    }
}

#[cfg(test)]
mod tests;
