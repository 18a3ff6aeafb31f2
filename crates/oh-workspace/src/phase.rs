//! Progress of an automation run: the phase that the environment's page shows next to the run.

use std::{fmt, time::Duration};

use oh_transport::automation::variable;
use secrecy::SecretString;
use serde_json::json;
use tracing::debug;
use url::Url;

use crate::{Result, automation::callback_url, post::post};

/// Timeout of a report. Short, because the work waits for it.
const LIMIT: Duration = Duration::from_secs(5);
/// The maximum length of a phase, in characters.
const LONGEST: usize = 200;

/// Reports the phase of the work to the URL in `AUTOMATION_PHASE_URL`, which the automation
/// environment shows while the run works.
///
/// ```no_run
/// # async fn run() -> oh_workspace::Result<()> {
/// use oh_workspace::AutomationPhases;
///
/// let phases = AutomationPhases::from_env()?;
/// phases.report("Checking out the pull request").await;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct AutomationPhases(Option<Receiver>);

#[derive(Clone)]
struct Receiver {
    url: Url,
    key: SecretString,
}

impl AutomationPhases {
    /// Creates the reports that the environment requests. They go to `AUTOMATION_PHASE_URL`, with
    /// `AUTOMATION_CALLBACK_API_KEY`, or else `OPENHANDS_API_KEY`, as bearer token. Where the URL
    /// or the token is not set, reports do nothing.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the URL is invalid.
    pub fn from_env() -> Result<Self> {
        let key = variable("AUTOMATION_CALLBACK_API_KEY");
        let key = key.or_else(|| variable("OPENHANDS_API_KEY"));
        match (variable("AUTOMATION_PHASE_URL"), key) {
            (Some(url), Some(key)) => Self::new(&url, key),
            _ => Ok(Self::default()),
        }
    }

    /// Creates reports to this URL, with a bearer token.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if this is not a valid
    /// `http://` or `https://` URL.
    pub fn new(url: &str, key: impl Into<SecretString>) -> Result<Self> {
        let url = callback_url(url)?;
        let key = key.into();
        Ok(Self(Some(Receiver { url, key })))
    }

    /// Reports what the work does now, and waits until the report is sent, for at most 5 s. Only
    /// the first 200 characters are sent. Secrets in known forms are hidden.
    ///
    /// A report is only shown, so a failure is a line in the log at level `debug`, and no error.
    /// The environment rejects reports after the end of the run.
    pub async fn report(&self, phase: impl Into<String>) {
        let Some(Receiver { url, key }) = &self.0 else {
            return;
        };
        let phase = oh_protocol::redact::text(&phase.into());
        let phase: String = phase.chars().take(LONGEST).collect();
        if phase.is_empty() {
            return;
        }
        let sent = post(url, Some(key), &json!({ "phase": phase }), LIMIT).await;
        if let Err(error) = sent {
            debug!(%error, "the phase was not reported");
        }
    }
}

// The URL may contain a token in its query.
impl fmt::Debug for AutomationPhases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.as_ref().map(|to| to.url.host_str());
        f.debug_struct("AutomationPhases")
            .field("host", &host)
            .finish_non_exhaustive()
    }
}
