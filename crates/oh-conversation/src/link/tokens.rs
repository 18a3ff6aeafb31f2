//! Text as the model writes it, in pieces that are not in the log.
//!
//! Pieces are hints: the event that completes an item has the whole text, and nothing here is
//! stored. Each reader has its own queue. A reader that falls behind loses the pieces of whole
//! items, and receives [`Token::Lagged`] instead; the start and the end of an item are never lost.

use std::{
    collections::{HashSet, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, Weak},
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream;
use oh_protocol::{Event, SessionFrame, Text, event::StreamingDeltaEvent};
use tokio::task::coop;

use crate::lock::lock;

/// The maximum number of pieces that wait for a slow reader.
const PIECES: usize = 1024;
/// The maximum number of bytes of text that wait for a slow reader, unless a single piece is
/// larger.
const BYTES: usize = 1 << 20;
/// Number of finished items that are remembered, so that none is reported twice.
const FINISHED: usize = 64;

/// A piece of the model's output, or a change of its state. An item is the event that will contain
/// the whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Token {
    /// An item starts, or starts again. Discard the pieces of earlier attempts.
    Started {
        /// Id of the event that will complete the item.
        item_id: Box<str>,
        /// Increases with each retry.
        attempt: u64,
    },
    /// A piece of the answer.
    Text {
        /// Id of the event that will complete the item; empty on servers without the session
        /// socket.
        item_id: Box<str>,
        /// The attempt that the piece belongs to.
        attempt: u64,
        /// The text of the piece.
        content: Box<str>,
    },
    /// A piece of the reasoning before the answer.
    Reasoning {
        /// Id of the event that will complete the item; empty on servers without the session
        /// socket.
        item_id: Box<str>,
        /// The attempt that the piece belongs to.
        attempt: u64,
        /// The text of the piece.
        content: Box<str>,
    },
    /// An attempt was aborted. Discard its pieces.
    Aborted {
        /// Id of the item.
        item_id: Box<str>,
        /// The aborted attempt.
        attempt: u64,
    },
    /// The reader was too slow: pieces of an item were dropped, and the rest of the item's attempt
    /// is omitted too. The pieces so far are incomplete. [`Finished`](Self::Finished) names the
    /// event that has the whole text.
    Lagged {
        /// Id of the item; empty on servers without the session socket.
        item_id: Box<str>,
    },
    /// The event with this id is in the log and has the whole text.
    Finished {
        /// Id of the event.
        item_id: Box<str>,
    },
}

impl Token {
    /// Returns the item and the text, if the token is a piece.
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

/// The sending side: distributes tokens to the streams. Dropping it ends all streams.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Readers);

/// The subscription side. Does not keep streams open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<Hub>>);

#[derive(Debug, Default)]
struct Hub {
    readers: Vec<Reader>,
    /// The most recently finished items.
    finished: VecDeque<Box<str>>,
    ended: bool,
}

/// Ends a stream when its handle is closed.
#[derive(Debug)]
pub(crate) struct StreamEnd(Weak<Mutex<Queue>>);

impl StreamEnd {
    pub(crate) fn end(&self) {
        if let Some(queue) = self.0.upgrade() {
            wake(lock(&queue).end());
        }
    }

    /// Returns whether the stream has been dropped.
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// A stream, seen from the sending side.
#[derive(Debug)]
struct Reader {
    queue: Weak<Mutex<Queue>>,
    /// Events up to this `seq` are not reported; `None` until the history before the subscription
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
    /// Subscribes. `after` returns the last `seq` if the conversation is live, and `None` while its
    /// history is still arriving.
    pub(crate) fn subscribe(&self, after: impl FnOnce() -> Option<i64>) -> TokenStream {
        let mut hub = self.lock();
        let queue = Arc::new(Mutex::new(Queue {
            ended: hub.ended,
            ..Queue::default()
        }));
        if !hub.ended {
            // Called under the lock, so that the sender cannot become live in between.
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

    /// Reports that the history has arrived up to this `seq`: later events are new to all current
    /// subscribers.
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

    /// Reports that an event was appended at this `seq`, which completes the item with its id.
    /// `replayed` means that the event was in the log when the connection was made. It is then
    /// history to streams that subscribed since, and new to those that subscribed before the
    /// disconnect.
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
    /// Passes a token to the readers that want it. Never waits for a reader.
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

/// The tokens that wait for one reader.
#[derive(Debug, Default)]
struct Queue {
    tokens: VecDeque<Token>,
    /// The number of waiting pieces, and the bytes of their text.
    pieces: usize,
    bytes: usize,
    /// Items whose pieces are omitted until the item starts again or is complete.
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
                // Pieces without an item id are followed by the event that has their text.
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

    /// Replaces all pieces of the item with the oldest waiting piece by one mark.
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

/// A stream of [`Token`]s from the subscription on, without those of earlier events.
///
/// The stream ends when the conversation's link ends: when the conversation is closed or gone, or
/// when the server rejects the session key. Tokens that have already arrived are yielded first.
///
/// If 1024 pieces or 1 MiB of text wait for a reader, the pieces of the item that has waited
/// longest are replaced by one [`Token::Lagged`]. The rest of that item is omitted. Tokens of
/// other kinds are always kept, however slow the reader is: some tens of bytes for each message of
/// the agent.
#[derive(Debug)]
pub struct TokenStream(Arc<Mutex<Queue>>);

impl TokenStream {
    /// Waits for the next token. Returns `None` when the link has ended.
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
