//! What the server's own clock says: how old it is, and when it is.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use oh_protocol::{Answer, Call as _, calls::server::GetServerInfo};
use oh_transport::{Body, Client};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// An answer is a few kilobytes.
const MOST: usize = 1024 * 1024;
/// What rounding may be off, a second, and what a proxy's clock may. A server that is forked takes
/// hardly longer than that to start.
const OFF: f64 = 1.5;

/// The server's clock, as of one answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerClock {
    /// Seconds since the server started, rounded down.
    uptime: f64,
    /// The time of the answer; none where a proxy took it away.
    now: Option<Timestamp>,
}

impl ServerClock {
    /// Asks the server. None when it does not answer, or does not say how old it is.
    pub(super) async fn ask(client: &Client) -> Option<Self> {
        let call = GetServerInfo::default();
        let asked = client.stream_within(call.request().ok()?, Body::empty(), LIMIT);
        let (head, body) = client.accepted(asked.await.ok()?).await.ok()?.into_parts();
        let now = head.headers.get(http::header::DATE);
        let now = now.and_then(|date| rfc2822::parse(date.to_str().ok()?).ok());
        let body = body.collect(MOST).await.ok()?;
        let info = call
            .decode(Answer::new(head.status, head.headers, body))
            .ok()?;
        (info.uptime > 0.0).then_some(Self {
            uptime: info.uptime,
            now: now.map(|now| now.timestamp()),
        })
    }

    /// How long ago this was.
    pub(super) fn age(&self, moment: Timestamp) -> Option<Duration> {
        let age = self.now?.duration_since(moment);
        Some(Duration::try_from(age).unwrap_or_default())
    }

    /// Whether the server started after something this old.
    pub(super) fn is_younger_than(&self, age: Duration) -> bool {
        self.uptime + 1.0 < age.as_secs_f64()
    }

    /// The same, where the age comes from comparing clocks.
    pub(super) fn is_clearly_younger_than(&self, age: Duration) -> bool {
        self.uptime + OFF < age.as_secs_f64()
    }
}
