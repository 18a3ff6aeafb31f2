//! A call on its way: attempts, the one decision what is sent again, and one limit for them all.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use oh_protocol::{Answer, Call, Operation, Repeat};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{Instrument, Span, debug, debug_span, field::Empty};

use crate::{Backoff, Client, Error, ErrorKind, Result};

/// How often a call that may be repeated is tried.
const ATTEMPTS: u32 = 5;
/// The least that an attempt may go without progress by default: a blocking hook freezes the whole
/// server, by default for up to a minute.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(90);

/// A call to be awaited.
///
/// # Errors
///
/// What the server refuses, as [`ErrorKind`] says; what failed on the way. A call whose
/// [`Repeat`] allows it is tried up to five times within its time limit when the server has seen
/// nothing, the connection broke, an attempt made no progress for the
/// [attempt timeout](Self::attempt_timeout), or the server answered 429 or 5xx; one that does not
/// is tried again only when no connection was made. Between attempts a call waits as long as
/// `Retry-After` asks, and at least 50 to 100 ms, twice as long each time. A
/// [`Timeout`](ErrorKind::Timeout) has the failure that was being retried as its source.
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
    attempt_timeout: Option<Duration>,
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
    pub(crate) fn new(
        client: &'a Client,
        call: &'a C,
        timeout: Duration,
        attempt_timeout: Option<Duration>,
    ) -> Self {
        Self {
            client,
            call,
            timeout,
            single: false,
            attempt_timeout,
        }
    }

    /// Sends the request once and never again, not even when no connection was made. For requests
    /// whose conditions must be checked before each attempt.
    pub fn single_attempt(mut self) -> Self {
        self.single = true;
        self
    }

    /// Sets how long the call may take, its repetitions included. Default: the client's
    /// [`timeout`](crate::ClientBuilder::timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Sets how long one attempt may go without progress before the call is repeated, if it may
    /// be. Default: the client's [`attempt_timeout`](crate::ClientBuilder::attempt_timeout).
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = Some(limit);
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
        let repeatable = operation.repeat == Repeat::Idempotent && !self.single;
        let without_progress = repeatable.then(|| {
            self.attempt_timeout
                .unwrap_or_else(|| (self.timeout / 2).max(ATTEMPT_TIMEOUT))
        });
        // The failure of the attempt before, and whether any attempt may have arrived.
        let mut before: Option<Error> = None;
        let mut arrived = false;
        loop {
            let sent = Instant::now();
            let attempt = self.client.attempt(self.call, &request, without_progress);
            let result = timeout_at(deadline, attempt)
                .await
                .unwrap_or_else(|_| Err(self.out_of_time(before.take())));
            let result = match result {
                Err(error) if arrived && removed(&operation, &error) => {
                    self.removed(&error).map_err(|_| error)
                }
                result => result,
            };
            if let Err(error) = &result {
                arrived |= !error.never_sent();
                if matches!(
                    error.kind(),
                    ErrorKind::Connect | ErrorKind::Interrupted | ErrorKind::Timeout
                ) {
                    self.client.doubt();
                }
            }
            let delay = result.as_ref().err().and_then(|error| {
                let delay = backoff.next_delay();
                let delay = error.retry_after().unwrap_or_default().max(delay);
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
                before = result.err();
                continue;
            }
            let span = Span::current();
            span.record("status", attempt.status.map(|status| status.as_u16()));
            span.record("attempts", attempt.number);
            span.record("elapsed_ms", begun.elapsed().as_millis() as u64);
            return match result {
                Ok((_, output)) => Ok(output),
                Err(error) => {
                    let error = if arrived { error.sent() } else { error };
                    Err(error.with_target(request.path()))
                }
            };
        }
    }

    /// The call's time is up; `before` is the failure that was being retried.
    fn out_of_time(&self, before: Option<Error>) -> Error {
        let limit = self.timeout;
        match before {
            None => Error::new(ErrorKind::Timeout, format!("no answer within {limit:?}")),
            Some(before) => Error::new(
                ErrorKind::Timeout,
                format!("no answer within {limit:?} while retrying"),
            )
            .with_source(before),
        }
    }

    /// What a deletion that succeeded would have given.
    fn removed(&self, error: &Error) -> Result<(StatusCode, C::Output)> {
        let status = error.status().unwrap_or(StatusCode::NOT_FOUND);
        let answer = Answer::new(StatusCode::NO_CONTENT, HeaderMap::new(), Bytes::new());
        Ok((status, self.call.decode(answer)?))
    }
}

/// Whether a 404 says that an earlier attempt, whose answer was lost, did what was asked.
fn removed(operation: &Operation, error: &Error) -> bool {
    operation.method == Method::DELETE
        && error.status() == Some(StatusCode::NOT_FOUND)
        // In the server's own words, not a gateway's.
        && error.body().is_some()
}

/// The one place that decides what is sent again.
fn may_repeat(error: &Error, repeat: Repeat) -> bool {
    match error.kind() {
        // The server has seen nothing.
        ErrorKind::Connect => true,
        ErrorKind::Interrupted
        | ErrorKind::Timeout
        | ErrorKind::RateLimited
        | ErrorKind::Server => repeat == Repeat::Idempotent,
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
