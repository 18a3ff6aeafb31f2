//! The runtime of a session of the Runtime API, and the meaning of its states.

use std::sync::{Arc, OnceLock};

use crate::{
    Result,
    hosted::{
        plane::Plane,
        runtime_api::{Runtime, RuntimeApi},
        service::{Ended, Reached, Service, State},
    },
};

/// The runtime of a session.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) api: RuntimeApi,
    pub(crate) id: String,
    /// Not known if the response to the request that starts the runtime was lost.
    runtime_id: Arc<OnceLock<String>>,
}

impl Session {
    pub(crate) fn new(api: RuntimeApi, id: String) -> Self {
        Self {
            api,
            id,
            runtime_id: Arc::default(),
        }
    }

    /// Sets the id of the runtime, which does not change.
    pub(crate) fn has_runtime(&self, id: String) {
        let _known = self.runtime_id.set(id);
    }

    async fn runtime_id(&self) -> Result<Option<String>> {
        match self.runtime_id.get() {
            Some(id) => Ok(Some(id.clone())),
            None => self.api.find(&self.id).await,
        }
    }
}

impl Service for Session {
    const NOUN: &'static str = "runtime";
    const RESUMES_AGAIN: bool = false;

    fn plane(&self) -> &Plane {
        &self.api.plane
    }

    fn id(&self) -> &str {
        &self.id
    }

    async fn state(&self) -> Result<State> {
        let runtime = self.api.session(&self.id).await?;
        Ok(runtime.map_or(State::Missing, state))
    }

    async fn pause(&self) -> Result<()> {
        match self.runtime_id().await? {
            Some(id) => self.api.pause(&id).await,
            None => Ok(()),
        }
    }

    async fn resume(&self) -> Result<()> {
        match self.runtime_id().await? {
            Some(id) => self.api.resume(&id).await,
            None => Ok(()),
        }
    }

    async fn remove(&self) -> Result<()> {
        match self.runtime_id().await? {
            Some(id) => self.api.stop(&id).await,
            None => Ok(()),
        }
    }
}

/// Returns what the reported state of a runtime means.
pub(crate) fn state(runtime: Runtime) -> State {
    let reasons = runtime.reasons.as_deref().unwrap_or_default();
    let with_reasons = |text: String| match reasons {
        "" => text,
        reasons => format!("{text}: {reasons}"),
    };
    let ended = |text: &str| {
        let out_of_memory = reasons.contains("OOMKilled");
        let why = with_reasons(text.to_owned());
        State::Ended(Ended::new(why, out_of_memory, runtime.logs.clone()))
    };
    match (runtime.status.as_str(), runtime.pod_status.as_str()) {
        ("stopped" | "stopping", _) => ended("the runtime was stopped"),
        ("error", _) => ended("the runtime has the status `error`"),
        ("paused", _) => State::Paused,
        (_, "ready") => State::Ready(Reached {
            id: runtime.id,
            url: runtime.url,
            key: runtime.key,
        }),
        (_, "failed") => ended("the pod of the runtime has failed"),
        (_, "unknown") => ended("the state of the pod is unknown: its node may be lost"),
        (_, "crashloopbackoff") => ended(
            "the server in the pod crashes again and again; check the image and the command, or \
             set a higher `resource_factor` if its memory was too small",
        ),
        (_, "") => State::Waiting("the Runtime API does not report a pod status".to_owned()),
        (_, other) => State::Waiting(with_reasons(format!("the pod status is `{other}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

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
    fn each_state_is_ready_waiting_paused_or_final() {
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
            ("paused", "not found", "paused"),
        ] {
            let found = match state(runtime(status, pod_status, None)) {
                State::Ready(_) => "ready",
                State::Waiting(_) => "waiting",
                State::Paused => "paused",
                State::Ended(_) => "ended",
                State::Missing => "missing",
            };
            assert_eq!(found, expected, "{status} {pod_status}");
        }
    }

    #[test]
    fn the_reason_of_a_restart_decides_the_kind_of_the_end() {
        let reasons = Some(r#"["OOMKilled"]"#);
        let State::Ended(ended) = state(runtime("running", "crashloopbackoff", reasons)) else {
            panic!("the state is final");
        };
        assert!(ended.why.contains("OOMKilled"), "{}", ended.why);
        assert_eq!(ended.into_error().kind(), ErrorKind::OutOfMemory);
    }
}
