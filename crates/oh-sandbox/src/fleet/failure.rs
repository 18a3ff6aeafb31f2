//! Why a server could not be started, and whether another attempt may succeed.

use std::fmt;

use crate::{Error, ErrorKind};

/// Why a [`Provider`](crate::Provider) could not start a server, and whether a retry makes sense.
///
/// Errors of this project's crates convert with `?`. Crashes, quotas, timeouts and failed
/// connections are then retried. A missing image, rejected credentials or an invalid option are
/// not: the next attempt would fail in the same way.
#[derive(Clone)]
pub struct StartError {
    error: Error,
    retry: bool,
}

impl StartError {
    /// Creates an error that the fleet retries.
    pub fn transient(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::other(error.into(), true)
    }

    /// Creates an error that the fleet does not retry.
    pub fn permanent(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::other(error.into(), false)
    }

    fn other(source: Box<dyn std::error::Error + Send + Sync>, retry: bool) -> Self {
        let error = Error::new(ErrorKind::NoServer, "cannot start a server for the fleet");
        Self {
            error: error.with_source(source),
            retry,
        }
    }

    /// Returns the kind of the failure. [`ErrorKind::NoServer`] for errors of other crates.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// Returns whether the fleet starts another attempt.
    pub fn is_retried(&self) -> bool {
        self.retry
    }

    pub(super) fn error(&self) -> &Error {
        &self.error
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        let retry = is_worth_a_retry(&error);
        Self { error, retry }
    }
}

impl From<oh_process::Error> for StartError {
    fn from(error: oh_process::Error) -> Self {
        use oh_process::ErrorKind as Local;
        let (kind, retry) = match error.kind() {
            Local::InvalidInput => (ErrorKind::InvalidInput, false),
            Local::Unsupported => (ErrorKind::Unsupported, false),
            Local::NotAnAgentServer => (ErrorKind::NotAnAgentServer, false),
            Local::NoSpace => (ErrorKind::NoSpace, true),
            Local::PortTaken | Local::Stranger => (ErrorKind::PortTaken, true),
            Local::Died => (ErrorKind::Died, true),
            Local::NotReady => (ErrorKind::NotReady, true),
            Local::NoInterpreter
            | Local::BadEnvironment
            | Local::UnknownVersion
            | Local::StateInUse
            | Local::Io => (ErrorKind::NoServer, false),
            Local::Unauthorized => (ErrorKind::Unauthorized, false),
            Local::Forbidden => (ErrorKind::Forbidden, false),
            _ => (ErrorKind::NoServer, true),
        };
        let error = Error::new(kind, "cannot start a local server").with_source(error);
        Self { error, retry }
    }
}

impl From<oh_transport::Error> for StartError {
    fn from(error: oh_transport::Error) -> Self {
        Error::transport("cannot reach a server", error).into()
    }
}

fn is_worth_a_retry(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Died
        | ErrorKind::OutOfMemory
        | ErrorKind::NotReady
        | ErrorKind::Quota
        | ErrorKind::PullFailed
        | ErrorKind::PortTaken
        | ErrorKind::NoSpace
        | ErrorKind::NoEngine
        | ErrorKind::NoCluster
        | ErrorKind::Engine
        | ErrorKind::Cluster
        | ErrorKind::Spawn
        | ErrorKind::Connect
        | ErrorKind::Timeout
        | ErrorKind::Interrupted
        | ErrorKind::RateLimited
        | ErrorKind::Server => true,
        ErrorKind::Claim => has_lost_its_pod(error),
        _ => false,
    }
}

#[cfg(feature = "kubernetes")]
fn has_lost_its_pod(error: &Error) -> bool {
    use crate::ClaimReason as Reason;
    let reason = error.claim_failure().map(|failure| failure.reason);
    let lost = [
        Reason::PodFailed,
        Reason::PodSucceeded,
        Reason::ClaimExpired,
        Reason::SandboxExpired,
        Reason::Deleted,
    ];
    reason.is_some_and(|reason| lost.contains(&reason))
}

#[cfg(not(feature = "kubernetes"))]
fn has_lost_its_pod(_: &Error) -> bool {
    false
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartError")
            .field("error", &self.error)
            .field("retry", &self.retry)
            .finish()
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_quotas_and_timeouts_are_retried_and_configuration_is_not() {
        let retried = |kind| StartError::from(Error::new(kind, "x")).is_retried();
        for kind in [
            ErrorKind::Died,
            ErrorKind::Quota,
            ErrorKind::NotReady,
            ErrorKind::Timeout,
            ErrorKind::RateLimited,
        ] {
            assert!(retried(kind), "{kind:?}");
        }
        for kind in [
            ErrorKind::NoImage,
            ErrorKind::InvalidInput,
            ErrorKind::EngineDenied,
            ErrorKind::ClusterDenied,
            ErrorKind::Unauthorized,
            ErrorKind::Claim,
        ] {
            assert!(!retried(kind), "{kind:?}");
        }
    }

    #[test]
    fn an_error_of_another_crate_keeps_its_reason() {
        let error = StartError::transient("no more licences");
        assert!(error.is_retried() && error.kind() == ErrorKind::NoServer);
        assert!(error.to_string().contains("no more licences"), "{error}");
        assert!(!StartError::permanent("never").is_retried());
    }
}
