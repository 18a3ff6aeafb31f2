//! Whole WebSocket messages.

use bytes::Bytes;

/// A whole WebSocket message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// A text message: valid UTF-8, in its own allocation.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
}
