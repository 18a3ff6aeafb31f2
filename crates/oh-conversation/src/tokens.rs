//! Text as the model writes it: pieces that no log holds, for those who want to see typing.
//!
//! Pieces are hints. The event that ends an item holds the whole text; nothing here is stored.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;
use oh_protocol::{Event, SessionFrame, Text, event::StreamingDeltaEvent};
use tokio::sync::mpsc;

/// Pieces a slow reader may be behind before it misses some.
const WAITING: usize = 1024;

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
    /// The event with this id is in the log and holds the whole text.
    Finished {
        /// Id of the event.
        item_id: Box<str>,
    },
}

/// Where pieces are handed out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens(Arc<Mutex<Vec<mpsc::Sender<Token>>>>);

impl Tokens {
    pub(crate) fn subscribe(&self) -> TokenStream {
        let (sender, receiver) = mpsc::channel(WAITING);
        self.lock().push(sender);
        TokenStream(receiver)
    }

    pub(crate) fn progress(&self, frame: SessionFrame) {
        self.give(|| match frame {
            SessionFrame::ItemStarted {
                item_id, attempt, ..
            } => vec![Token::Started { item_id, attempt }],
            SessionFrame::Delta {
                item_id,
                attempt,
                kind,
                content,
                ..
            } => vec![if &*kind == "reasoning" {
                Token::Reasoning {
                    item_id,
                    attempt,
                    content,
                }
            } else {
                Token::Text {
                    item_id,
                    attempt,
                    content,
                }
            }],
            SessionFrame::ItemAborted {
                item_id, attempt, ..
            } => vec![Token::Aborted { item_id, attempt }],
            _ => Vec::new(),
        });
    }

    pub(crate) fn legacy(&self, delta: &StreamingDeltaEvent) {
        let piece = |text: &Option<Text>| {
            text.as_deref()
                .filter(|text| !text.is_empty())
                .map(Into::into)
        };
        self.give(|| {
            let reasoning = piece(&delta.reasoning_content).map(|content| Token::Reasoning {
                item_id: "".into(),
                attempt: 0,
                content,
            });
            let text = piece(&delta.content).map(|content| Token::Text {
                item_id: "".into(),
                attempt: 0,
                content,
            });
            reasoning.into_iter().chain(text).collect()
        });
    }

    /// An event was appended: an item with its id is complete.
    pub(crate) fn durable(&self, event: &Event) {
        if matches!(event.kind(), "ActionEvent" | "MessageEvent")
            && event.source().as_str() == "agent"
        {
            self.give(|| {
                vec![Token::Finished {
                    item_id: event.id().into(),
                }]
            });
        }
    }

    fn give(&self, tokens: impl FnOnce() -> Vec<Token>) {
        let mut readers = self.lock();
        if readers.is_empty() {
            return;
        }
        for token in tokens() {
            // Never wait for a reader: a full one misses pieces, the event brings them all.
            readers.retain(|reader| {
                !matches!(
                    reader.try_send(token.clone()),
                    Err(mpsc::error::TrySendError::Closed(_))
                )
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Token>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`Token`]s as they come. Ends with the conversation's handle.
///
/// A reader more than 1024 pieces behind misses some; [`Token::Finished`] names the event that
/// has them all.
#[derive(Debug)]
pub struct TokenStream(mpsc::Receiver<Token>);

impl TokenStream {
    /// The next piece. Cancel-safe.
    pub async fn next(&mut self) -> Option<Token> {
        self.0.recv().await
    }
}

impl Stream for TokenStream {
    type Item = Token;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Token>> {
        self.0.poll_recv(cx)
    }
}
