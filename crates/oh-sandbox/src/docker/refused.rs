//! Finds the kind of an engine's refusal. Engines report most failures as a status and a sentence.

use std::{error::Error as StdError, io};

use bollard::errors::Error as Wire;

use crate::{Error, ErrorKind};

/// Parts of an engine's sentences, in lower case, and the kind that each means. The first match
/// counts. Both Docker's and Podman's sentences are listed.
const SENTENCES: &[(&str, ErrorKind)] = &[
    ("http request to an https server", ErrorKind::Tls),
    ("no space left on device", ErrorKind::NoSpace),
    ("disk quota exceeded", ErrorKind::NoSpace),
    ("exec format error", ErrorKind::WrongPlatform),
    (
        "does not match the specified platform",
        ErrorKind::WrongPlatform,
    ),
    ("no matching manifest for", ErrorKind::WrongPlatform),
    (
        "no image found in manifest list for",
        ErrorKind::WrongPlatform,
    ),
    ("could not select device driver", ErrorKind::NoGpu),
    ("unresolvable cdi devices", ErrorKind::NoGpu),
    ("bind source path does not exist", ErrorKind::NoVolume),
    ("statfs", ErrorKind::NoVolume),
    ("no such volume", ErrorKind::NoVolume),
    ("port is already allocated", ErrorKind::PortTaken),
    ("address already in use", ErrorKind::PortTaken),
    ("all ports are allocated", ErrorKind::PortTaken),
    ("no such image", ErrorKind::NoImage),
    ("image not known", ErrorKind::NoImage),
    ("manifest unknown", ErrorKind::NoImage),
    ("pull access denied", ErrorKind::NoImage),
    ("no basic auth credentials", ErrorKind::NoImage),
    ("unauthorized: authentication required", ErrorKind::NoImage),
    (
        "requested access to the resource is denied",
        ErrorKind::NoImage,
    ),
    ("repository does not exist", ErrorKind::NoImage),
    ("no such container", ErrorKind::NotFound),
    ("no container with name or id", ErrorKind::NotFound),
    ("executable file not found", ErrorKind::NotAnAgentServer),
    (
        "unable to start container process: exec:",
        ErrorKind::NotAnAgentServer,
    ),
    ("no command specified", ErrorKind::NotAnAgentServer),
    ("network", ErrorKind::InvalidInput),
    ("unable to find user", ErrorKind::InvalidInput),
    ("unable to set memory limit", ErrorKind::InvalidInput),
];

/// Returns the kind that a status and a sentence of the engine mean.
fn kind(status: u16, message: &str) -> ErrorKind {
    let message = message.to_lowercase();
    let known = SENTENCES
        .iter()
        .find(|(part, _)| {
            // `network` alone also occurs in failures of the engine's own network.
            message.contains(part) && (*part != "network" || message.contains("not found"))
        })
        .map(|(_, kind)| *kind);
    match (known, status) {
        (Some(kind), _) => kind,
        (None, 400) => ErrorKind::InvalidInput,
        (None, 404) => ErrorKind::NotFound,
        (None, 409) => ErrorKind::Conflict,
        _ => ErrorKind::Engine,
    }
}

/// Returns whether the engine refuses limits that this process may not set.
pub(crate) fn is_about_limits(error: &Wire) -> bool {
    let message = match error {
        Wire::DockerResponseServerError { message, .. } => message.to_lowercase(),
        _ => return false,
    };
    message.contains("rlimit") || message.contains("ulimit")
}

/// Returns whether the engine does not have what the request named.
pub(crate) fn is_missing(error: &Wire) -> bool {
    matches!(
        error,
        Wire::DockerResponseServerError {
            status_code: 404,
            ..
        }
    )
}

/// Returns whether the engine is in the state that the request asked for.
pub(crate) fn is_done_already(error: &Wire) -> bool {
    matches!(
        error,
        Wire::DockerResponseServerError {
            status_code: 304 | 409,
            ..
        }
    )
}

/// Creates the error of a refusal. `doing` says what failed.
pub(crate) fn error(doing: impl Into<String>, wire: Wire) -> Error {
    let doing = doing.into();
    if let Some(reason) = reason(&wire) {
        return Error::new(reason.kind(), doing).with_source(reason);
    }
    match &wire {
        Wire::DockerResponseServerError {
            status_code,
            message,
        } => refusal(&doing, kind(*status_code, message), message),
        Wire::DockerStreamError { error } => refusal(&doing, kind(500, error), error),
        Wire::RequestTimeoutError => {
            let message = format!("{doing}: the engine did not respond in time");
            Error::new(ErrorKind::Timeout, message)
        }
        Wire::HyperLegacyError { err } if err.is_connect() => {
            let message = format!("{doing}: cannot connect to the engine; check that it runs");
            Error::new(ErrorKind::NoEngine, message).with_source(wire)
        }
        _ => Error::new(ErrorKind::Engine, doing).with_source(wire),
    }
}

/// Returns the reason for a failed connection, if it is one of this crate or of TLS.
pub(crate) fn reason(error: &(dyn StdError + 'static)) -> Option<Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        // The source of an I/O error is that of the error inside.
        let inside = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let inside = inside.map(|inside| inside as &(dyn StdError + 'static));
        for error in [Some(error), inside].into_iter().flatten() {
            if let Some(ours) = error.downcast_ref::<Error>() {
                return Some(ours.clone());
            }
            #[cfg(feature = "tls")]
            if let Some(objection) = error.downcast_ref() {
                return Some(crate::docker::tls::objection(objection));
            }
        }
        next = error.source();
    }
    None
}

fn refusal(doing: &str, kind: ErrorKind, message: &str) -> Error {
    let message = message.trim().trim_end_matches('.');
    let remedy = match kind {
        ErrorKind::Tls => "; set DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, or use `certificates`",
        ErrorKind::NoSpace => {
            "; free some space on the engine's device, for example with \
                               `docker system prune`"
        }
        ErrorKind::WrongPlatform => {
            "; use an image for the engine's platform, or set `platform` \
                                     if the engine can emulate another one"
        }
        ErrorKind::NoGpu => "; install the GPU vendor's container toolkit, or do not ask for a GPU",
        ErrorKind::NoVolume => "; create it first",
        ErrorKind::PortTaken if message.contains("all ports") => {
            "; remove containers that publish ports, or widen the engine's range of ports"
        }
        ErrorKind::PortTaken => "; use no fixed port, so that the engine chooses a free one",
        ErrorKind::NotAnAgentServer => "; the image does not start an agent server",
        ErrorKind::Engine if message.contains("rlimit") => {
            "; the engine's default limits are above those that it may set: lower \
             `default_ulimits` (`nofile` and `nproc`) in its configuration"
        }
        _ => "",
    };
    Error::new(kind, format!("{doing}: {message}{remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_engines_have_their_kinds() {
        for (status, message, expected) in [
            (404, "No such image: nothing:latest", ErrorKind::NoImage),
            (404, "No such container: 4f", ErrorKind::NotFound),
            (
                400,
                "invalid mount config for type \"bind\": bind source path does not exist: /x",
                ErrorKind::NoVolume,
            ),
            (
                500,
                "driver failed programming external connectivity on endpoint a: Bind for \
                 127.0.0.1:80 failed: port is already allocated",
                ErrorKind::PortTaken,
            ),
            (
                500,
                "could not select device driver \"\" with capabilities: [[gpu]]",
                ErrorKind::NoGpu,
            ),
            (
                400,
                "OCI runtime create failed: exec: \"--host\": executable file not found in $PATH",
                ErrorKind::NotAnAgentServer,
            ),
            (
                400,
                "OCI runtime create failed: runc create failed: unable to start container \
                 process: exec: \"/no/such/program\": stat /no/such/program: no such file or \
                 directory: unknown",
                ErrorKind::NotAnAgentServer,
            ),
            (404, "network nowhere not found", ErrorKind::InvalidInput),
            (500, "write /a: no space left on device", ErrorKind::NoSpace),
            (
                400,
                "Minimum memory limit allowed is 6MB",
                ErrorKind::InvalidInput,
            ),
            (
                409,
                "Conflict. The container name \"/a\" is already in use by container \"b\"",
                ErrorKind::Conflict,
            ),
            (
                400,
                "unable to find user nobody2: no matching entries in passwd file",
                ErrorKind::InvalidInput,
            ),
            (
                500,
                "unable to set memory limit to 1048576 (current usage: 2494464)",
                ErrorKind::InvalidInput,
            ),
            (500, "something else", ErrorKind::Engine),
        ] {
            assert_eq!(kind(status, message), expected, "{message}");
        }
    }

    #[test]
    fn refused_limits_are_recognized() {
        let wire = |message: &str| Wire::DockerResponseServerError {
            status_code: 500,
            message: message.to_owned(),
        };
        assert!(is_about_limits(&wire(
            "OCI runtime create failed: error setting rlimit type 7: operation not permitted"
        )));
        assert!(is_about_limits(&wire("ulimit option \"x\" requires...")));
        assert!(!is_about_limits(&wire("no space left on device")));
    }

    #[test]
    fn defaults_of_the_engine_that_it_may_not_set_have_a_remedy() {
        let wire = Wire::DockerResponseServerError {
            status_code: 500,
            message: "runc: runc create failed: unable to start container process: error during \
                      container init: error setting rlimit type 6: operation not permitted"
                .to_owned(),
        };
        let error = error("cannot start the container", wire);
        assert_eq!(error.kind(), ErrorKind::Engine);
        assert!(error.to_string().contains("`default_ulimits`"), "{error}");
    }

    #[test]
    fn an_error_has_the_operation_the_reason_and_the_remedy() {
        let wire = Wire::DockerResponseServerError {
            status_code: 500,
            message: "Bind for 127.0.0.1:80 failed: port is already allocated.".to_owned(),
        };
        let error = error("cannot start the container", wire);
        let expected = "cannot start the container: Bind for 127.0.0.1:80 failed: port is already \
                        allocated; use no fixed port, so that the engine chooses a free one";
        assert_eq!(error.to_string(), expected);
    }
}
