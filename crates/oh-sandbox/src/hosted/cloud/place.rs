//! The sandbox that a server owns, and the meaning of its states.

use std::time::Duration;

use crate::{
    Result,
    hosted::{
        cloud::{
            api::Cloud,
            sandboxes::{CloudSandbox, CloudStatus, ExposedUrl},
        },
        plane::Plane,
        service::{Ended, Reached, Service, State},
    },
};

/// A sandbox of an account.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) cloud: Cloud,
    pub(crate) id: String,
    /// Time limit of the response to the request that resumes the sandbox.
    pub(crate) slow: Duration,
}

impl Service for Place {
    const NOUN: &'static str = "sandbox";
    const RESUMES_AGAIN: bool = true;

    fn plane(&self) -> &Plane {
        self.cloud.plane()
    }

    fn id(&self) -> &str {
        &self.id
    }

    async fn state(&self) -> Result<State> {
        match self.cloud.sandbox(&self.id).await? {
            Some(sandbox) => self.meaning(sandbox),
            None => Ok(State::Missing),
        }
    }

    async fn pause(&self) -> Result<()> {
        self.cloud.pause_sandbox(&self.id).await
    }

    async fn resume(&self) -> Result<()> {
        self.cloud.resume_within(self.id.clone(), self.slow).await
    }

    async fn remove(&self) -> Result<()> {
        self.cloud.delete_sandbox(&self.id).await
    }
}

impl Place {
    fn meaning(&self, sandbox: CloudSandbox) -> Result<State> {
        let ended = |why: &str| {
            let why = match &sandbox.reason {
                Some(reason) => format!("{why}: {reason}"),
                None => format!("{why}; the service gives no reason"),
            };
            Ok(State::Ended(Ended::new(why, false, Vec::new())))
        };
        match &sandbox.status {
            CloudStatus::Running => self.reached(sandbox).map(State::Ready),
            CloudStatus::Paused => Ok(State::Paused),
            CloudStatus::Error => ended("the sandbox has the status ERROR"),
            CloudStatus::Missing => {
                ended("the sandbox has vanished: its status is MISSING, so it may be deleted")
            }
            CloudStatus::Starting | CloudStatus::Other(_) => {
                let status = &sandbox.status;
                Ok(State::Waiting(format!("the status is {status}")))
            }
        }
    }

    fn reached(&self, sandbox: CloudSandbox) -> Result<Reached> {
        let doing = "cannot use the sandbox";
        let malformed = |name| self.cloud.plane().malformed(doing, name);
        let mut urls = sandbox.exposed_urls.into_iter();
        let url = urls.find(|url| url.name == ExposedUrl::AGENT_SERVER);
        let url = url.ok_or_else(|| malformed("exposed_urls.AGENT_SERVER"))?;
        // The service omits the key for users who do not own the sandbox.
        let key = sandbox.key.ok_or_else(|| malformed("session_api_key"))?;
        Ok(Reached {
            id: sandbox.id,
            url: url.url,
            key,
        })
    }
}
