//! Detection of stalled transfers: limits the time without progress, not the total time.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::{Body, Error, ErrorKind, Result};

/// The maximum size of a chunk that is passed on, so that each chunk counts as progress.
const PIECE: usize = 16 * 1024;

/// The time at which a request body last produced data.
pub(crate) struct Progress(Arc<Mutex<Instant>>);

/// Wraps a body so that its progress can be observed, chunk by chunk.
pub(crate) fn watched(body: Body) -> (Body, Progress) {
    let last = Arc::new(Mutex::new(Instant::now()));
    let progress = Progress(last.clone());
    if body.length() == Some(0) {
        return (body, progress);
    }
    let length = body.length();
    let watched = Watched {
        body,
        rest: Bytes::new(),
        last,
    };
    (Body::from_stream(watched, length), progress)
}

impl Progress {
    /// Waits until there has been no progress for `limit`.
    pub(crate) async fn stalled(&self, limit: Duration) -> Error {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(end) = last.checked_add(limit) else {
                return std::future::pending().await;
            };
            if end <= Instant::now() {
                return stood_still(limit);
            }
            sleep_until(end).await;
        }
    }
}

/// Wraps a response body so that it fails if its reader waits longer than `limit`.
pub(crate) fn limited(body: Body, limit: Duration) -> Body {
    let length = body.length();
    let waiting = None;
    Body::from_stream(
        Limited {
            body,
            limit,
            waiting,
        },
        length,
    )
}

fn stood_still(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no progress for {limit:?}"))
}

struct Watched {
    body: Body,
    /// Data from the body that has not been passed on.
    rest: Bytes,
    last: Arc<Mutex<Instant>>,
}

impl Stream for Watched {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let chunk = if this.rest.is_empty() {
            ready!(Pin::new(&mut this.body).poll_next(cx))
        } else {
            Some(Ok(std::mem::take(&mut this.rest)))
        };
        let chunk = chunk.map(|chunk| {
            chunk.map(|mut chunk| {
                this.rest = chunk.split_off(chunk.len().min(PIECE));
                chunk
            })
        });
        *this.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Poll::Ready(chunk)
    }
}

struct Limited {
    body: Body,
    limit: Duration,
    /// Set only while the reader waits, so that a slow reader does not count as a slow server.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Stream for Limited {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(chunk) = Pin::new(&mut this.body).poll_next(cx) {
            this.waiting = None;
            return Poll::Ready(chunk);
        }
        let limit = this.limit;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(cx));
        this.body = Body::empty();
        Poll::Ready(Some(Err(stood_still(limit))))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_in_one_piece_makes_progress_while_it_is_sent() {
        let whole = Bytes::from(vec![b'x'; 64 * PIECE + 1]);
        let (mut body, progress) = watched(Body::from(whole.clone()));
        assert_eq!(body.length(), Some(whole.len() as u64));
        let limit = Duration::from_millis(500);
        let mut stalled = std::pin::pin!(progress.stalled(limit));
        let mut left = Vec::new();
        while let Some(piece) = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
            left.extend_from_slice(&piece.unwrap());
            // Simulate a slow link: each chunk takes a while to send.
            tokio::select! {
                biased;
                error = &mut stalled => panic!("{error} after {} bytes", left.len()),
                () = sleep(Duration::from_millis(400)) => {}
            }
        }
        assert!(left == whole);
        assert!(stalled.await.is_timeout());
    }
}
