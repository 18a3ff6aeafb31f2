//! The status of the agent's MCP servers. If one of them does not start, the agent server continues
//! without the tools of all of them, and reports this only in its own log.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use oh_protocol::{Event, Json, Payload, event::SystemPromptEvent, state::ConversationState};

use crate::{AgentRequests, Request};

/// The kind of the event that lists an agent's tools.
const PROMPT: &str = "SystemPromptEvent";

/// The status of an agent's MCP servers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum McpStatus {
    /// The agent has no enabled MCP servers.
    NotConfigured,
    /// The agent has not started: its MCP servers start with the first message.
    NotStarted,
    /// The agent has the tools of its MCP servers.
    Connected {
        /// The names of the tools.
        tools: Vec<String>,
    },
    /// The agent continues without any of the tools: one of these servers did not start, or none
    /// offers a tool. [`calls::mcp::TestServer`](oh_protocol::calls::mcp::TestServer) returns the
    /// reason. Older agent servers (1.43) reject the first message instead.
    Failed {
        /// The names of the enabled servers.
        servers: Vec<String>,
    },
    /// The status is not available: an ACP agent starts its MCP servers itself.
    Unknown,
}

impl McpStatus {
    /// Returns whether the agent is missing the tools that were configured.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// Returns the names of the enabled MCP servers in an agent's description.
fn switched_on(state: &ConversationState) -> Vec<String> {
    let agent = state.get("agent");
    let Some(config) = agent.and_then(|agent| agent.get("mcp_config")) else {
        return Vec::new();
    };
    // Older servers nest them one level deeper.
    let config = config.get("mcpServers").unwrap_or(config);
    let servers = config.decode::<BTreeMap<String, Json>>();
    let is_on = |server: &Json| {
        let enabled = server.get("enabled");
        enabled.is_none_or(|enabled| enabled.decode::<bool>().unwrap_or(true))
    };
    servers
        .into_iter()
        .flatten()
        .filter(|(_, server)| is_on(server))
        .map(|(name, _)| name)
        .collect()
}

/// Returns the status that follows from an agent's list of tools.
fn status(servers: Vec<String>, prompt: &SystemPromptEvent) -> McpStatus {
    let tools = prompt.tools.iter();
    let theirs = tools.filter(|tool| &*tool.kind == "MCPToolDefinition");
    let tools: Vec<String> = theirs
        .map(|tool| tool.title.as_deref().unwrap_or_default().to_owned())
        .collect();
    match tools.is_empty() {
        true => McpStatus::Failed { servers },
        false => McpStatus::Connected { tools },
    }
}

impl AgentRequests {
    /// Returns whether the agent has the tools of its MCP servers.
    ///
    /// The status is derived from the agent's configuration and from the list of tools with which
    /// the agent starts. If that list is not among the events held, it is fetched from the server
    /// (`GET …/events/search`). Tools that an MCP server adds or removes later are not considered.
    ///
    /// # Errors
    ///
    /// Returns an error if the list is not held and the request fails.
    pub fn mcp_status(&self) -> Request<McpStatus> {
        let this = self.clone();
        Request::new(async move {
            let state = this.conversation.state();
            if state.agent_kind().as_deref() == Some("ACPAgent") {
                return Ok(McpStatus::Unknown);
            }
            let servers = switched_on(&state);
            if servers.is_empty() {
                return Ok(McpStatus::NotConfigured);
            }
            let (held, whole) = {
                let log = this.conversation.mirror().read().log.clone();
                let mut events = log.range(log.start()..log.end());
                let first = events.find(|event| event.kind() == PROMPT).cloned();
                (first, log.start() == 0)
            };
            let prompt = match held {
                None if !whole => {
                    let mut found =
                        std::pin::pin!(this.conversation.log().search().kind(PROMPT).limit(1));
                    found.next().await.transpose()?
                }
                held => held,
            };
            Ok(match prompt.as_ref().map(Event::decode) {
                Some(Payload::SystemPrompt(prompt)) => status(servers, &prompt),
                _ => McpStatus::NotStarted,
            })
        })
    }
}
