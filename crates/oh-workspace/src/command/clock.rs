//! The server's clock: its uptime and its current time.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use oh_protocol::{Answer, Call as _, calls::server::GetServerInfo};
use oh_transport::{Body, Client};

/// Timeout of the request.
const LIMIT: Duration = Duration::from_secs(10);
/// Maximum response size. A response is a few kilobytes.
const MAX_RESPONSE: usize = 1024 * 1024;
/// Tolerance for rounding (one second) and for a proxy's clock, in seconds. A forked server starts
/// in little more time than that.
const TOLERANCE: f64 = 1.5;

/// The server's clock at the time of one response.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerClock {
    /// Seconds since the server started, rounded down.
    uptime: f64,
    /// The time of the response; `None` when a proxy removed the header.
    now: Option<Timestamp>,
}

impl ServerClock {
    /// Requests the clock. Returns `None` when the server does not respond, or does not report its
    /// uptime.
    pub(super) async fn ask(client: &Client) -> Option<Self> {
        let call = GetServerInfo::default();
        let asked = client.stream_within(call.request().ok()?, Body::empty(), LIMIT);
        let (head, body) = client.accepted(asked.await.ok()?).await.ok()?.into_parts();
        let now = head.headers.get(http::header::DATE);
        let now = now.and_then(|date| rfc2822::parse(date.to_str().ok()?).ok());
        let body = body.collect(MAX_RESPONSE).await.ok()?;
        let info = call
            .decode(Answer::new(head.status, head.headers, body))
            .ok()?;
        (info.uptime > 0.0).then_some(Self {
            uptime: info.uptime,
            now: now.map(|now| now.timestamp()),
        })
    }

    /// Returns how long ago the moment was.
    pub(super) fn age(&self, moment: Timestamp) -> Option<Duration> {
        let age = self.now?.duration_since(moment);
        Some(Duration::try_from(age).unwrap_or_default())
    }

    /// Returns whether the server started after something of this age.
    pub(super) fn is_younger_than(&self, age: Duration) -> bool {
        self.uptime + 1.0 < age.as_secs_f64()
    }

    /// Returns the same as `is_younger_than`, for an age that was computed from two clocks.
    pub(super) fn is_clearly_younger_than(&self, age: Duration) -> bool {
        self.uptime + TOLERANCE < age.as_secs_f64()
    }
}
