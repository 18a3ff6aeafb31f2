//! Checks whether the server has an agent's tools: the server accepts any name, and fails at the
//! first message.

use oh_protocol::{calls::tools::ListTools, config::StartConversation};
use oh_transport::{Client, ErrorKind as Wire};
use tracing::debug;

use crate::{Error, ErrorKind, Result};

/// Tools that need no registration, by their class names and their tool names.
const BUILT_IN: [&str; 12] = [
    "FinishTool",
    "finish",
    "ThinkTool",
    "think",
    "InvokeSkillTool",
    "invoke_skill",
    "SwitchLLMTool",
    "switch_llm",
    "VisionInspectTool",
    "inspect_image_with_vision",
    "ClassifyAndSwitchLLMTool",
    "route_task_to_model",
];

/// Rejects an agent with a tool that the server does not have, and a client tool with the name of
/// one of the agent's tools.
pub(super) async fn check(client: &Client, start: &StartConversation) -> Result<()> {
    let id = start.id();
    let ours = start.client_tools();
    let theirs = start.agent_tools();
    if let Some(name) = ours
        .iter()
        .find(|name| theirs.contains(name) || BUILT_IN.contains(name))
    {
        let what =
            format!("client_tools: `{name}` is already the name of one of the agent's tools");
        return Err(Error::new(ErrorKind::InvalidInput, id, what).advise("choose another name"));
    }
    let modules = start.module_tools();
    let unsure = |name: &&str| !BUILT_IN.contains(name) && !modules.contains(name);
    let mut unknown: Vec<&str> = theirs.into_iter().filter(unsure).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let failed = |error| Error::transport(id, "list the server's tools", error);
    // The client caches this, so it is usually free; tools registered since then are requested.
    let info = client.server_info().await.map_err(failed)?;
    unknown.retain(|name| !info.usable_tools.iter().any(|known| known == name));
    if unknown.is_empty() {
        return Ok(());
    }
    let known = match client.call(&ListTools::default()).await {
        Ok(known) => known,
        Err(error) if matches!(error.kind(), Wire::NotFound | Wire::Forbidden) => {
            debug!(
                conversation = %id,
                %error,
                "the server does not list its tools; tool names are not checked"
            );
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    unknown.retain(|name| !known.iter().any(|known| known == name));
    if unknown.is_empty() {
        return Ok(());
    }
    let what = format!(
        "the server has no tool named {}; available tools: {}",
        quoted(unknown),
        quoted(known.iter().map(String::as_str)),
    );
    Err(Error::new(ErrorKind::UnknownTool, id, what))
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
