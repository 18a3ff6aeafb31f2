//! Starting a run without approving anything.

use std::fmt;

use oh_protocol::{
    ConversationId, ExecutionStatus,
    calls::{
        conversations::{Get, Run},
        events::{Count, EventFilter},
    },
    state::ConversationInfo,
};
use oh_transport::{Client, ErrorKind as Wire};

use crate::{Error, ErrorKind, Result};

/// The result of [`Control::run`](crate::Control::run).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunStart {
    /// The server has accepted the run.
    Started,
    /// A run was already in progress.
    Running,
}

impl fmt::Display for RunStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Running => "already running",
        })
    }
}

/// Starts a run, if it can execute no action that waits for approval.
pub(crate) async fn run(client: Client, id: ConversationId) -> Result<RunStart> {
    let info = client.call(&Get::new(id)).await;
    let info = info.map_err(|error| Error::transport(id, "read the conversation", error))?;
    match info.execution_status() {
        ExecutionStatus::Running => return Ok(RunStart::Running),
        ExecutionStatus::WaitingForConfirmation => {
            return Err(pending(id, "an action waits for approval"));
        }
        status if asks(&info) && (!is_idle(&status) || has_actions(&client, id).await?) => {
            let what = "the policy may ask for approval, and an action may wait for it";
            return Err(pending(id, what));
        }
        _ => {}
    }
    let Err(error) = client.call(&Run::new(id)).await else {
        return Ok(RunStart::Started);
    };
    match error.kind() {
        Wire::Conflict => Ok(RunStart::Running),
        _ if error.is_unclear() => {
            // A run in progress can only be ours: none was in progress before.
            let info = client.call(&Get::new(id)).await;
            match info.is_ok_and(|info| info.execution_status().is_running()) {
                true => Ok(RunStart::Started),
                false => Err(Error::ambiguous(id, "started the run", error)),
            }
        }
        _ => Err(Error::transport(id, "start a run", error)),
    }
}

fn is_idle(status: &ExecutionStatus) -> bool {
    matches!(status, ExecutionStatus::Idle)
}

/// Returns whether the server may ask for approval of an action. A policy that cannot be read may.
fn asks(info: &ConversationInfo) -> bool {
    info.state().confirmation_policy().as_deref() != Some("NeverConfirm")
}

/// Returns whether the log has an action. Without one, none can wait.
async fn has_actions(client: &Client, id: ConversationId) -> Result<bool> {
    let mut filter = EventFilter::default();
    filter.kind = Some("ActionEvent".to_owned());
    let count = client.call(&Count::new(id).filter(filter)).await;
    let count = count.map_err(|error| Error::transport(id, "count the actions", error))?;
    Ok(count > 0)
}

fn pending(id: ConversationId, what: &str) -> Error {
    let what = format!("cannot start a run: {what}, and a run would execute it");
    let error = Error::new(ErrorKind::PendingConfirmation, id, what);
    error.advise("attach with `oh-conversation`, and approve or reject it")
}
