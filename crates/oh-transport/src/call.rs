//! A call on its way: attempts, the one decision what is sent again, and one limit for them all.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use http::StatusCode;
use oh_protocol::{Call, Operation, Repeat};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{Instrument, Span, debug, debug_span, field::Empty};

use crate::{Backoff, Client, Error, ErrorKind, Result};

/// How often a call that may be repeated is tried.
const ATTEMPTS: u32 = 5;

/// A call to be awaited.
///
/// # Errors
///
/// What the server refuses, as [`ErrorKind`] says; what failed on the way. A call whose
/// [`Repeat`] allows it is tried up to five times within its time limit when the server has seen
/// nothing, the connection broke, or the server answered 429 or 5xx; one that does not is tried
/// again only when no connection was made. `Retry-After` is waited for where the limit permits.
///
/// # Cancel safety
///
/// Dropping it abandons the answer. What the server does with the request goes on.
#[must_use = "a call does nothing until it is awaited"]
pub struct CallFuture<'a, C> {
    client: &'a Client,
    call: &'a C,
    timeout: Duration,
    single: bool,
}

/// One attempt of a call, as [`on_attempt`](crate::ClientBuilder::on_attempt) is told of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// Which operation it is: method and route, without values.
    pub operation: &'a Operation,
    /// 1 for the first attempt.
    pub number: u32,
    /// How long it took, from sending to the whole answer.
    pub elapsed: Duration,
    /// The answer's status, if there was an answer.
    pub status: Option<StatusCode>,
    /// What failed, if it failed.
    pub failure: Option<ErrorKind>,
    /// How long until the next attempt, if there will be one.
    pub retry_in: Option<Duration>,
}

impl<'a, C> CallFuture<'a, C> {
    pub(crate) fn new(client: &'a Client, call: &'a C, timeout: Duration) -> Self {
        Self {
            client,
            call,
            timeout,
            single: false,
        }
    }

    /// Sends the request once and never again, not even when no connection was made. For requests
    /// whose conditions must be checked before each attempt.
    pub fn single_attempt(mut self) -> Self {
        self.single = true;
        self
    }

    /// How long it may take, its repetitions included.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}

impl<C> fmt::Debug for CallFuture<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl<'a, C: Call> IntoFuture for CallFuture<'a, C> {
    type Output = Result<C::Output>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let operation = self.call.operation();
        let span = debug_span!(
            "call", method = %operation.method, route = operation.route, status = Empty,
            attempts = Empty, elapsed_ms = Empty,
        );
        Box::pin(self.attempts(operation).instrument(span))
    }
}

impl<C: Call> CallFuture<'_, C> {
    async fn attempts(self, operation: Operation) -> Result<C::Output> {
        let request = self.call.request()?;
        let begun = Instant::now();
        let deadline = after(begun, self.timeout);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let sent = Instant::now();
            let attempt = self.client.attempt(self.call, &request);
            let result = timeout_at(deadline, attempt).await.unwrap_or_else(|_| {
                let message = format!("no answer within {:?}", self.timeout);
                Err(Error::new(ErrorKind::Timeout, message))
            });
            let delay = result.as_ref().err().and_then(|error| {
                let delay = backoff.next_delay();
                let delay = error.retry_after().unwrap_or(delay);
                let again = !self.single
                    && may_repeat(error, operation.repeat)
                    && backoff.attempts() < ATTEMPTS
                    && delay < deadline.saturating_duration_since(Instant::now());
                again.then_some(delay)
            });
            let failure = result.as_ref().err();
            let attempt = Attempt {
                operation: &operation,
                number: backoff.attempts() + u32::from(failure.is_none()),
                elapsed: sent.elapsed(),
                status: match &result {
                    Ok((status, _)) => Some(*status),
                    Err(error) => error.status(),
                },
                failure: failure.map(Error::kind),
                retry_in: delay,
            };
            debug!(
                attempt = attempt.number, status = attempt.status.map(|status| status.as_u16()),
                failure = ?attempt.failure, elapsed_ms = attempt.elapsed.as_millis() as u64,
                retry_in_ms = attempt.retry_in.map(|delay| delay.as_millis() as u64),
                "attempt",
            );
            self.client.observe(&attempt);
            if let Some(delay) = delay {
                sleep(delay).await;
                continue;
            }
            let span = Span::current();
            span.record("status", attempt.status.map(|status| status.as_u16()));
            span.record("attempts", attempt.number);
            span.record("elapsed_ms", begun.elapsed().as_millis() as u64);
            return match result {
                Ok((_, output)) => Ok(output),
                Err(error) => Err(error.with_target(request.path())),
            };
        }
    }
}

/// The one place that decides what is sent again.
fn may_repeat(error: &Error, repeat: Repeat) -> bool {
    match error.kind() {
        // The server has seen nothing.
        ErrorKind::Connect => true,
        ErrorKind::Interrupted | ErrorKind::RateLimited | ErrorKind::Server => {
            repeat == Repeat::Idempotent
        }
        _ => false,
    }
}

/// An instant that far away, or as far as instants go.
fn after(start: Instant, limit: Duration) -> Instant {
    const DECADES: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(limit.min(DECADES)).unwrap_or(start)
}

#[cfg(test)]
mod tests;
