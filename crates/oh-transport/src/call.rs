//! Runs a call: attempts, the retry decision, and one time limit for all attempts.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use oh_protocol::{Answer, Call, Operation, Repeat};
use secrecy::SecretString;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{Instrument, Span, debug, debug_span, field::Empty};

use crate::{Attempt, Backoff, Client, Error, ErrorKind, Result, auth::Credentials};

/// The maximum number of attempts for a call that may be repeated.
const ATTEMPTS: u32 = 5;
/// The minimum of the default attempt timeout. A blocking hook freezes the whole server, by default
/// for up to a minute.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(90);

/// A future that sends a call and returns its response. Created by [`Client::call`].
///
/// The call is sent when the future is first polled. Options that are set later have no effect.
///
/// # Errors
///
/// Returns an error if the server rejects the call or the transport fails; see [`ErrorKind`].
///
/// A call whose [`Repeat`] allows it is attempted up to five times within its time limit. Such a
/// call is retried in these cases; any other call only if no connection was made:
///
/// - The server has not seen the request, or the connection broke.
/// - An attempt made no progress for the [attempt timeout](Self::attempt_timeout).
/// - The server returned 429, or a 5xx other than 501 and 505.
///
/// The delay between attempts follows `Retry-After`. It is at least 50 to 100 ms and doubles with
/// each attempt. If the time limit expires during retries, `source()` of the
/// [`Timeout`](ErrorKind::Timeout) is the last failure.
///
/// # Cancel safety
///
/// Dropping the future discards the response. The server continues to process the request.
#[must_use = "a call does nothing until it is awaited"]
pub struct CallFuture<'a, C: Call> {
    /// The call; `None` after the first poll.
    unsent: Option<Unsent<C>>,
    sent: Option<Sent<'a, C::Output>>,
}

type Sent<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A call with its options.
struct Unsent<C> {
    client: Client,
    call: C,
    timeout: Duration,
    single: bool,
    attempt_timeout: Option<Duration>,
    own: Credentials,
}

impl Client {
    /// Creates a future that sends a call and returns its result. Dropping the future discards the
    /// response, but does not cancel work that the server has started.
    ///
    /// The call is passed by value or by reference. By value, the future owns everything it needs,
    /// so a task can run it:
    ///
    /// ```no_run
    /// # async fn count(client: oh_transport::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use oh_protocol::calls::conversations::Count;
    ///
    /// let counting = tokio::spawn(client.call(Count::default()));
    /// println!("{} conversations", counting.await??);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`CallFuture`].
    pub fn call<'a, C: Call + 'a>(&self, call: C) -> CallFuture<'a, C> {
        let (timeout, attempt_timeout) = self.timeouts();
        CallFuture {
            unsent: Some(Unsent {
                client: self.clone(),
                call,
                timeout,
                single: false,
                attempt_timeout,
                own: Credentials::default(),
            }),
            sent: None,
        }
    }
}

impl<C: Call> CallFuture<'_, C> {
    /// Disables all retries, even if no connection was made. For requests whose preconditions must
    /// be checked before each attempt.
    pub fn single_attempt(self) -> Self {
        self.with(|unsent| unsent.single = true)
    }

    /// Sets the timeout of the call, including retries. Default: the client's
    /// [`timeout`](crate::ClientBuilder::timeout).
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(|unsent| unsent.timeout = limit)
    }

    /// Sets how long one attempt may go without progress before the call is retried. Applies only
    /// to calls that may be repeated. Default: the client's
    /// [`attempt_timeout`](crate::ClientBuilder::attempt_timeout).
    pub fn attempt_timeout(self, limit: Duration) -> Self {
        self.with(|unsent| unsent.attempt_timeout = Some(limit))
    }

    /// Sends the call with this session key instead of the client's, for a server or a gateway that
    /// distinguishes users by their keys. Default: the client's key. An
    /// [`AuthProvider`](crate::AuthProvider) is not asked. An invalid key fails with
    /// [`ErrorKind::InvalidInput`].
    ///
    /// The call goes to the client's URL: a key must not reach another host by mistake. For another
    /// host, create another [`Client`].
    ///
    /// ```no_run
    /// # async fn count(client: oh_transport::Client, key: oh_transport::secrecy::SecretString)
    /// # -> oh_transport::Result<()> {
    /// use oh_protocol::calls::conversations::Count;
    ///
    /// let count = client.call(Count::default()).session_api_key(key).await?;
    /// println!("{count} conversations");
    /// # Ok(()) }
    /// ```
    pub fn session_api_key(self, key: impl Into<SecretString>) -> Self {
        self.with(|unsent| unsent.own.key = Some(key.into()))
    }

    /// Sends the call with `Authorization: Bearer …`, in addition to the session key, for a gateway
    /// in front of the server. Default: the client's headers. The token overrides an
    /// `Authorization` header of the client.
    pub fn bearer_token(self, token: impl Into<SecretString>) -> Self {
        self.with(|unsent| unsent.own.bearer = Some(token.into()))
    }

    fn with(mut self, set: impl FnOnce(&mut Unsent<C>)) -> Self {
        if let Some(unsent) = &mut self.unsent {
            set(unsent);
        }
        self
    }
}

impl<C: Call> fmt::Debug for CallFuture<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeout = self.unsent.as_ref().map(|unsent| unsent.timeout);
        f.debug_struct("CallFuture")
            .field("timeout", &timeout)
            .finish_non_exhaustive()
    }
}

// The call is moved out before the request is pinned.
impl<C: Call> Unpin for CallFuture<'_, C> {}

impl<'a, C: Call + 'a> Future for CallFuture<'a, C> {
    type Output = Result<C::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(unsent) = this.unsent.take() {
            this.sent = Some(unsent.send());
        }
        match &mut this.sent {
            Some(sent) => sent.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<C: Call> Unsent<C> {
    fn send<'a>(self) -> Sent<'a, C::Output>
    where
        C: 'a,
    {
        let operation = self.call.operation();
        let span = debug_span!(
            "call", method = %operation.method, route = operation.route, status = Empty,
            attempts = Empty, elapsed_ms = Empty,
        );
        Box::pin(self.attempts(operation).instrument(span))
    }

    async fn attempts(self, operation: Operation) -> Result<C::Output> {
        let mut request = self.call.request()?;
        self.own.add_to(&mut request.headers)?;
        let begun = Instant::now();
        let deadline = after(begun, self.timeout);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let repeatable = operation.repeat == Repeat::Idempotent && !self.single;
        let without_progress = repeatable.then(|| {
            self.attempt_timeout
                .unwrap_or_else(|| (self.timeout / 2).max(ATTEMPT_TIMEOUT))
        });
        // The failure of the previous attempt, and whether any attempt may have reached the server.
        let mut before: Option<Error> = None;
        let mut arrived = false;
        loop {
            let sent = Instant::now();
            let client = &self.client;
            let attempt = client.attempt(&self.call, &request, &self.own, without_progress);
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
                self.client.invalidate_after(error);
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

    /// Returns the error for an expired time limit. `before` is the failure that was being retried.
    fn out_of_time(&self, before: Option<Error>) -> Error {
        let limit = self.timeout;
        match before {
            None => Error::new(ErrorKind::Timeout, format!("no response within {limit:?}")),
            Some(before) => Error::new(
                ErrorKind::Timeout,
                format!("no successful response within {limit:?} while retrying"),
            )
            .with_source(before),
        }
    }

    /// Returns the response of a deletion that an earlier attempt has completed.
    fn removed(&self, error: &Error) -> Result<(StatusCode, C::Output)> {
        let status = error.status().unwrap_or(StatusCode::NOT_FOUND);
        let answer = Answer::new(StatusCode::NO_CONTENT, HeaderMap::new(), Bytes::new());
        Ok((status, self.call.decode(answer)?))
    }
}

/// Returns whether a 404 means that an earlier attempt, whose response was lost, already deleted
/// the resource.
fn removed(operation: &Operation, error: &Error) -> bool {
    operation.method == Method::DELETE
        && error.status() == Some(StatusCode::NOT_FOUND)
        // Only agent servers send a JSON body; a gateway's 404 does not count.
        && error.body().is_some()
}

/// Returns whether a call may be sent again. All retry decisions are made here.
fn may_repeat(error: &Error, repeat: Repeat) -> bool {
    match error.kind() {
        // The server has not seen the request.
        ErrorKind::Connect => true,
        ErrorKind::Interrupted
        | ErrorKind::Timeout
        | ErrorKind::RateLimited
        | ErrorKind::Server => repeat == Repeat::Idempotent && error.is_transient(),
        _ => false,
    }
}

/// Returns the instant `limit` after `start`, capped at 30 years.
fn after(start: Instant, limit: Duration) -> Instant {
    const DECADES: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(limit.min(DECADES)).unwrap_or(start)
}

#[cfg(test)]
mod tests;
