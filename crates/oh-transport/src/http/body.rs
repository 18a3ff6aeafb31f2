//! The body of a request or a response: empty, bytes, or a stream with backpressure.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;

use crate::{Error, ErrorKind, Result};

/// A body as a stream of chunks. Chunks are read only on demand.
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
    /// Creates an empty body.
    pub fn empty() -> Self {
        Self {
            source: Source::Empty,
            length: Some(0),
        }
    }

    /// Creates a body from a stream that is polled as the body is sent. `length` is the size in
    /// bytes, if known in advance.
    pub fn from_stream(
        stream: impl Stream<Item = Result<Bytes>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        Self {
            source: Source::Stream(Box::pin(stream)),
            length,
        }
    }

    /// Returns the length in bytes, if known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Reads the whole body, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection breaks or the body is longer than `limit`.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_next(cx)).await {
            let chunk = chunk?;
            if whole.len() + chunk.len() > limit {
                return Err(Error::new(
                    ErrorKind::Decode,
                    format!("the response is longer than {limit} bytes"),
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

impl Body {
    /// Waits for the next chunk. Returns `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    struct Chunks(Vec<Result<Bytes>>);

    impl Stream for Chunks {
        type Item = Result<Bytes>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready((!self.0.is_empty()).then(|| self.0.remove(0)))
        }
    }

    fn chunks(chunks: &[&'static str]) -> Body {
        let chunks = chunks.iter().map(|chunk| Ok(Bytes::from(*chunk))).collect();
        Body::from_stream(Chunks(chunks), None)
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(Body::empty().collect(0).await.unwrap(), "");
        assert_eq!(
            Body::from(Bytes::from("abc")).collect(3).await.unwrap(),
            "abc"
        );
        assert_eq!(chunks(&["a", "", "bc"]).collect(3).await.unwrap(), "abc");
        for body in [Body::from(Bytes::from("abc")), chunks(&["ab", "c"])] {
            let error = body.collect(2).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
            assert!(error.to_string().contains("longer than 2 bytes"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_truncated_body_is_not_complete() {
        let broken = Err(Error::new(ErrorKind::Interrupted, "cut"));
        let body = Body::from_stream(Chunks(vec![Ok(Bytes::from("a")), broken]), Some(2));
        assert_eq!(body.length(), Some(2));
        assert_eq!(
            body.collect(10).await.unwrap_err().kind(),
            ErrorKind::Interrupted
        );
    }
}
