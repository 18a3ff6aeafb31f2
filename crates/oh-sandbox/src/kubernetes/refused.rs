//! Converts errors of the cluster's API.

use std::time::Duration;

use kube::core::Status;

use crate::{Error, ErrorKind};

/// Returns the error of a request to the cluster, with the cluster's own message.
pub(crate) fn error(context: &str, error: kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => refused(context, &status),
        other if is_connection(&other) => {
            let message = format!("{context}: the cluster cannot be reached; check its address");
            Error::new(ErrorKind::NoCluster, message).with_source(other)
        }
        other @ kube::Error::Auth(_) => {
            let message = format!("{context}: the credentials of the kubeconfig cannot be used");
            Error::new(ErrorKind::ClusterDenied, message).with_source(other)
        }
        other => Error::new(ErrorKind::Cluster, context).with_source(other),
    }
}

fn refused(context: &str, status: &Status) -> Error {
    let (kind, remedy) = match status.code {
        401 => (
            ErrorKind::ClusterDenied,
            "; the cluster rejects the credentials: log in again",
        ),
        403 if status.message.contains("exceeded quota") => (
            ErrorKind::Quota,
            "; end other sandboxes, or ask for a higher quota",
        ),
        403 => (
            ErrorKind::ClusterDenied,
            "; ask the owner of the cluster for the role in docs/kubernetes.md",
        ),
        404 => (ErrorKind::NotFound, ""),
        409 => (ErrorKind::Conflict, ""),
        400 | 422 => (ErrorKind::InvalidInput, ""),
        429 => (ErrorKind::RateLimited, ""),
        _ => (ErrorKind::Cluster, ""),
    };
    let (code, message) = (status.code, status.message.trim());
    Error::new(kind, format!("{context}: {message} ({code}){remedy}"))
}

fn is_connection(error: &kube::Error) -> bool {
    matches!(
        error,
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_)
    )
}

/// Returns whether a request that failed like this may succeed later.
pub(crate) fn is_transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        other => is_connection(other),
    }
}

/// Returns the delay that the cluster asks for.
pub(crate) fn retry_after(error: &kube::Error) -> Option<Duration> {
    let kube::Error::Api(status) = error else {
        return None;
    };
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// Returns whether the object of a request does not exist.
pub(crate) fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
