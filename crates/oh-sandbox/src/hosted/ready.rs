//! Decides from what the Runtime API reports whether a runtime is ready, and waits for it.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::{
    Error, ErrorKind, ExitReport, Result,
    hosted::{
        plane::retry_after,
        runtime_api::{Runtime, RuntimeApi},
        settings::Times,
    },
};

/// The meaning of a runtime's state.
pub(crate) enum Pod {
    Ready,
    /// The runtime may become ready.
    Waiting(String),
    /// The runtime will not become ready. How it ended, and why.
    Ended(ExitReport, String),
}

/// Returns what the reported state of a runtime means.
pub(crate) fn pod(runtime: &Runtime) -> Pod {
    let reasons = runtime.reasons.as_deref().unwrap_or_default();
    let with_reasons = |text: String| match reasons {
        "" => text,
        reasons => format!("{text}: {reasons}"),
    };
    let out_of_memory = reasons.contains("OOMKilled");
    let ended = |text: &str| {
        let report = ExitReport::of_container(None, out_of_memory);
        Pod::Ended(report, with_reasons(text.to_owned()))
    };
    match (runtime.status.as_str(), runtime.pod_status.as_str()) {
        ("stopped" | "stopping", _) => ended("the runtime was stopped"),
        ("error", _) => ended("the runtime has the status `error`"),
        (_, "ready") => Pod::Ready,
        (_, "failed") => ended("the pod of the runtime has failed"),
        (_, "unknown") => ended("the state of the pod is unknown: its node may be lost"),
        (_, "crashloopbackoff") => ended(
            "the server in the pod crashes again and again; check the image and the command, or \
             set a higher `resource_factor` if its memory was too small",
        ),
        (_, "") => Pod::Waiting("the Runtime API does not report a pod status".to_owned()),
        (_, other) => Pod::Waiting(with_reasons(format!("the pod status is `{other}`"))),
    }
}

/// Waits until the pod of a runtime is ready.
pub(crate) async fn pod_ready(
    api: &RuntimeApi,
    session_id: &str,
    limit: Duration,
    times: &Times,
) -> Result<Runtime> {
    let mut last = "the Runtime API has not answered".to_owned();
    match timeout(limit, poll(api, session_id, times.poll, &mut last)).await {
        Ok(polled) => polled,
        Err(_) => {
            let seconds = times.ready.as_secs_f32();
            let message = format!(
                "the runtime was not ready within {seconds} s: {last}; check the image and the \
                 quota, or set a longer time with `ready_within`"
            );
            Err(Error::new(ErrorKind::NotReady, message))
        }
    }
}

async fn poll(
    api: &RuntimeApi,
    session_id: &str,
    every: Duration,
    last: &mut String,
) -> Result<Runtime> {
    let mut seen = false;
    loop {
        let mut wait = every;
        match api.session(session_id).await {
            Ok(Some(runtime)) => {
                seen = true;
                match pod(&runtime) {
                    Pod::Ready => return Ok(runtime),
                    Pod::Waiting(why) => *last = why,
                    Pod::Ended(report, why) => return Err(ended(&report, why, runtime.logs)),
                }
            }
            Ok(None) if seen => {
                let message = "the runtime has vanished while it was starting: the Runtime API \
                               does not have its session any more; start another one";
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            // The session of a new runtime may not be visible at once.
            Ok(None) => "the Runtime API does not have the session".clone_into(last),
            Err(error) if error.is_transient() => {
                wait = every.max(retry_after(&error).unwrap_or_default());
                *last = error.to_string();
            }
            Err(error) => return Err(error),
        }
        debug!(session_id, state = %last, "waiting for the runtime");
        sleep(wait).await;
    }
}

fn ended(report: &ExitReport, why: String, logs: Vec<String>) -> Error {
    let kind = match report.out_of_memory {
        true => ErrorKind::OutOfMemory,
        false => ErrorKind::Died,
    };
    Error::new(kind, why).with_log_tail(logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(status: &str, pod_status: &str, reasons: Option<&str>) -> Runtime {
        Runtime {
            id: "one".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            key: "key".into(),
            status: status.to_owned(),
            pod_status: pod_status.to_owned(),
            logs: Vec::new(),
            reasons: reasons.map(str::to_owned),
        }
    }

    #[test]
    fn each_state_is_ready_waiting_or_final() {
        for (status, pod_status, expected) in [
            ("running", "ready", "ready"),
            ("running", "pending", "waiting"),
            ("running", "running", "waiting"),
            ("running", "not found", "waiting"),
            ("running", "some new state", "waiting"),
            ("running", "", "waiting"),
            ("running", "failed", "ended"),
            ("running", "unknown", "ended"),
            ("running", "crashloopbackoff", "ended"),
            ("stopped", "ready", "ended"),
            ("error", "pending", "ended"),
        ] {
            let found = match pod(&runtime(status, pod_status, None)) {
                Pod::Ready => "ready",
                Pod::Waiting(_) => "waiting",
                Pod::Ended(..) => "ended",
            };
            assert_eq!(found, expected, "{status} {pod_status}");
        }
    }

    #[test]
    fn the_reason_of_a_restart_decides_the_kind_of_the_end() {
        let reasons = Some(r#"["OOMKilled"]"#);
        let Pod::Ended(report, why) = pod(&runtime("running", "crashloopbackoff", reasons)) else {
            panic!("the state is final");
        };
        assert!(why.contains("OOMKilled"), "{why}");
        let error = ended(&report, why, Vec::new());
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    }
}
