//! The workspace for commands and files of the library itself.

use oh_protocol::{
    Call as _,
    calls::{Scope, server::GetServerInfo},
};
use oh_transport::{Body, WorkspaceHandle};
use serde_json::Value;

use crate::Workspace;

/// Returns the workspace in which helper commands run. They stay out of a conversation's history,
/// unless the conversation's commands run on another machine than the server.
pub(crate) async fn helper(workspace: &Workspace) -> Workspace {
    match workspace.conversation().is_some() && runs_elsewhere(workspace).await {
        true => workspace.clone(),
        false => workspace.in_scope(Scope::Server),
    }
}

/// Returns whether conversations on the server may run in containers.
async fn runs_elsewhere(workspace: &Workspace) -> bool {
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
    const MOST: usize = 1024 * 1024;
    let ask = async {
        let client = workspace.client();
        let request = GetServerInfo::default().request().ok()?;
        let answer = client.stream_within(request, Body::empty(), LIMIT).await;
        let answer = client.accepted(answer.ok()?).await.ok()?;
        let body = answer.into_body().collect(MOST).await.ok()?;
        serde_json::from_slice::<Value>(&body).ok()
    };
    let info = ask.await.unwrap_or_default();
    let other = |runtime: &Value| runtime.as_str().is_some_and(|runtime| runtime != "local");
    let offered = info["available_conversation_runtimes"].as_array();
    other(&info["conversation_runtime"]) || offered.is_some_and(|all| all.iter().any(other))
}
