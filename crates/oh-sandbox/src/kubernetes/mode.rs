//! Suspends a sandbox, and lets it run again.

use kube::{
    Resource as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::{
    Error, ErrorKind, Result,
    kubernetes::{
        changes::Changes,
        cluster::Cluster,
        refused,
        resources::{Condition, Sandbox},
        waiting::repeated,
    },
};

/// Whether a sandbox has a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Running,
    Suspended,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Suspended => "Suspended",
        }
    }

    fn is_reached(self, sandbox: &Sandbox) -> bool {
        let is_true = |kind: &str| {
            let holds =
                |condition: &Condition| condition.kind == kind && condition.status == "True";
            sandbox.status.conditions.iter().any(holds)
        };
        match self {
            Self::Running => is_true("Ready") && !is_true("Suspended"),
            Self::Suspended => is_true("Suspended"),
        }
    }
}

/// Returns whether a sandbox is suspended, or is about to be.
pub(crate) fn is_suspended(sandbox: &Sandbox) -> bool {
    Mode::Suspended.is_reached(sandbox)
}

/// Sets the mode of a sandbox, and waits until the cluster has carried it out. Returns the sandbox
/// then.
pub(crate) async fn set(
    cluster: &Cluster,
    name: &str,
    mode: Mode,
    deadline: Instant,
) -> Result<Sandbox> {
    let api = cluster.sandboxes();
    let patch = Patch::Merge(json!({"spec": {"operatingMode": mode.name()}}));
    let params = PatchParams::default();
    let patched = repeated(deadline, || api.patch(name, &params, &patch)).await;
    let patched = patched.map_err(|error| refused::error("cannot change the sandbox", error))?;
    if mode.is_reached(&patched) {
        return Ok(patched);
    }
    let version = patched.meta().resource_version.clone().unwrap_or_default();
    let mut changes = Changes::since(api, name.to_owned(), version);
    let reached = async {
        loop {
            let next = changes.next().await;
            let failed = |error| refused::error("cannot watch the sandbox", error);
            match next.map_err(failed)? {
                Some(sandbox) if mode.is_reached(&sandbox) => return Ok(sandbox),
                Some(_) => {}
                None => {
                    let message = format!("sandbox {name} was deleted");
                    return Err(Error::new(ErrorKind::NotFound, message));
                }
            }
        }
    };
    timeout_at(deadline, reached).await.unwrap_or_else(|_| {
        let mode = mode.name();
        let message = format!(
            "sandbox {name} was not in mode {mode} in time; check its pod, or set a longer \
             `ready_within`"
        );
        Err(Error::new(ErrorKind::NotReady, message))
    })
}
