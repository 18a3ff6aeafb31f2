//! The errors of a container that ended before its server was ready.

use crate::{Engine, Error, ErrorKind, ExitReport};

/// Returns the error of a container whose port the engine did not publish.
pub(crate) async fn no_port(engine: &Engine, container: &str) -> Error {
    match engine.end_of(container).await {
        Ok(Some(report)) => ended_early(&report),
        _ => Error::new(
            ErrorKind::Engine,
            "the engine has not published the server's port; use a network that can publish ports",
        ),
    }
}

pub(crate) fn ended_early(report: &ExitReport) -> Error {
    let (kind, message) = match (report.out_of_memory, report.signal) {
        (true, _) => (
            ErrorKind::OutOfMemory,
            "the server needed more memory than its container may use; set a higher limit with \
             `memory`",
        ),
        // Not every engine reports that memory was the reason.
        (false, Some(9)) => (
            ErrorKind::Died,
            "the server in the container was killed before it was ready; if its memory is limited, \
             set a higher limit with `memory`",
        ),
        (false, _) => (
            ErrorKind::Died,
            "the server in the container ended before it was ready",
        ),
    };
    Error::new(kind, message).with_exit(report.clone())
}

/// Finds the reason of an early end in the last output.
pub(crate) fn explained(error: Error) -> Error {
    let tail = error.log_tail();
    let says = |part: &str| tail.iter().any(|line| line.to_lowercase().contains(part));
    let (kind, message) = if error.kind() != ErrorKind::Died {
        return error;
    } else if says("exec format error") {
        (
            ErrorKind::WrongPlatform,
            "the image is for another processor than the engine's; use another image, or install \
             an emulator on the engine's machine (`binfmt_misc`)",
        )
    } else if says("no module named openhands") || says("unrecognized option") {
        (
            ErrorKind::NotAnAgentServer,
            "the container does not start an agent server; correct the name of the image",
        )
    } else {
        return error;
    };
    let explained = Error::new(kind, message).with_log_tail(tail.to_vec());
    match error.exit() {
        Some(exit) => explained.with_exit(exit.clone()),
        None => explained,
    }
}
