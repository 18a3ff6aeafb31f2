//! Waiting for an authorization in the user's browser.

use std::{future::IntoFuture, time::Duration};

use oh_protocol::calls::mcp::OAuthJob;
use tokio::time::{sleep, timeout};

use crate::{Error, Mcp, Request, Result};

/// A wait for the end of an authorization: see [`Mcp::authorized`]. Await it for the result.
///
/// # Cancel safety
///
/// Dropping the future ends the wait, not the authorization. Another wait can follow.
#[derive(Debug, Clone)]
#[must_use = "nothing is sent until it is awaited"]
pub struct AuthorizationWait {
    mcp: Mcp,
    job_id: String,
    interval: Duration,
    timeout: Duration,
}

impl Mcp {
    /// Waits until an authorization has ended, by requesting its state at intervals.
    ///
    /// # Errors
    ///
    /// Returns [`Timeout`](crate::ErrorKind::Timeout) after the limit, and the errors of
    /// [`authorization`](Self::authorization). An authorization that failed is a result.
    pub fn authorized(&self, job_id: impl Into<String>) -> AuthorizationWait {
        AuthorizationWait {
            mcp: self.clone(),
            job_id: job_id.into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(15 * 60),
        }
    }
}

impl AuthorizationWait {
    /// Sets the time between two requests. Default: 1 s.
    pub fn interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    /// Sets how long to wait. Default: 15 minutes, for which the server keeps the job.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    async fn ended(&self) -> Result<OAuthJob> {
        loop {
            let job = self.mcp.authorization(&self.job_id).await?;
            if job.has_ended() {
                return Ok(job);
            }
            sleep(self.interval).await;
        }
    }
}

impl IntoFuture for AuthorizationWait {
    type Output = Result<OAuthJob>;
    type IntoFuture = Request<OAuthJob>;

    fn into_future(self) -> Self::IntoFuture {
        Request::new(async move {
            let limit = self.timeout;
            let ended = timeout(limit, self.ended()).await;
            ended.unwrap_or_else(|_| Err(Error::timeout("wait for the authorization", limit)))
        })
    }
}
