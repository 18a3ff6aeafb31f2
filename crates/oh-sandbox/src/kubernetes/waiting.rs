//! Repeats requests that fail for a reason that passes.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::kubernetes::refused;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

/// The growing delays between attempts.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
    }

    /// Waits before the next attempt. Half of the delay is random, so that clients that were
    /// rejected together do not return together.
    pub(crate) async fn wait(&mut self, at_least: Option<Duration>) {
        let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
        let delay = self.0 / 2 + self.0 * random / 512;
        self.0 = (self.0 * 2).min(LAST);
        sleep(delay.max(at_least.unwrap_or_default())).await;
    }
}

/// Sends a request until it succeeds, fails permanently, or `deadline` has passed.
pub(crate) async fn repeated<T, F>(
    deadline: Instant,
    mut send: impl FnMut() -> F,
) -> kube::Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    let mut backoff = Backoff::new();
    loop {
        match send().await {
            Err(error) if refused::is_transient(&error) && Instant::now() < deadline => {
                debug!(%error, "the cluster did not answer; asking again");
                let left = deadline.saturating_duration_since(Instant::now());
                let at_least = refused::retry_after(&error).map(|delay| delay.min(left));
                backoff.wait(at_least).await;
            }
            result => return result,
        }
    }
}
