//! A request's or an answer's body: nothing, bytes, or a stream with backpressure.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;

use crate::{Error, ErrorKind, Result};

/// A body, read as a stream of chunks. Nothing is read ahead of its reader.
#[derive(Default)]
pub struct Body {
    source: Source,
    length: Option<u64>,
}

#[derive(Default)]
enum Source {
    #[default]
    Empty,
    Bytes(Bytes),
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self {
            source: Source::Empty,
            length: Some(0),
        }
    }

    /// A body that is produced as it is sent. `length` in bytes, where it is known beforehand.
    pub fn from_stream(
        stream: impl Stream<Item = Result<Bytes>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        Self {
            source: Source::Stream(Box::pin(stream)),
            length,
        }
    }

    /// The length in bytes, where it is known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Reads all of it, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or the body is longer than `limit`.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_next(cx)).await {
            let chunk = chunk?;
            if whole.len() + chunk.len() > limit {
                return Err(Error::new(
                    ErrorKind::Decode,
                    format!("the answer is longer than {limit} bytes"),
                ));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let length = Some(bytes.len() as u64);
        Self {
            source: Source::Bytes(bytes),
            length,
        }
    }
}

impl Stream for Body {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Source::Stream(stream) => stream.as_mut().poll_next(cx),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
