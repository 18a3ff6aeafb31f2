//! What became of the agent's MCP servers. Where one does not start, the agent server goes on
//! without the tools of all, and says so in its own log only.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use oh_protocol::{Event, Json, Payload, event::SystemPromptEvent, state::ConversationState};

use crate::{Conversation, Result};

/// The kind of the event that lists an agent's tools.
const PROMPT: &str = "SystemPromptEvent";

/// What became of an agent's MCP servers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum McpStatus {
    /// The agent has no MCP servers that are switched on.
    NotConfigured,
    /// The agent has not begun: it starts its MCP servers with the first message.
    NotStarted,
    /// The agent has their tools.
    Connected {
        /// The names of the tools.
        tools: Vec<String>,
    },
    /// The agent goes on without any of their tools: one of these servers did not start, or none
    /// offers a tool. [`calls::mcp::TestServer`](oh_protocol::calls::mcp::TestServer) tells why.
    /// Older agent servers (1.43) refuse the first message instead.
    Failed {
        /// The names of the servers that are switched on.
        servers: Vec<String>,
    },
    /// The agent server does not tell: an agent that speaks ACP starts them by itself.
    Unknown,
}

impl McpStatus {
    /// Returns whether the agent does without tools that it was meant to have.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// The names of the MCP servers in an agent's description that are switched on.
fn switched_on(state: &ConversationState) -> Vec<String> {
    let agent = state.get("agent");
    let Some(config) = agent.and_then(|agent| agent.get("mcp_config")) else {
        return Vec::new();
    };
    // Older servers have them one level deeper.
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

/// The status that an agent's list of tools tells.
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

impl Conversation {
    /// Tells whether the agent has the tools of its MCP servers.
    ///
    /// It is read from the agent's configuration and from the list of tools that the agent begins
    /// with. Where that list is not among the events held, it is read from the server
    /// (`GET …/events/search`). Tools that an MCP server takes back or adds later do not count.
    ///
    /// # Errors
    ///
    /// When the list is not here and the server cannot be asked.
    pub async fn mcp_status(&self) -> Result<McpStatus> {
        let state = self.state();
        if state.agent_kind().as_deref() == Some("ACPAgent") {
            return Ok(McpStatus::Unknown);
        }
        let servers = switched_on(&state);
        if servers.is_empty() {
            return Ok(McpStatus::NotConfigured);
        }
        let (held, whole) = {
            let log = self.mirror().read().log.clone();
            let mut events = log.range(log.start()..log.end());
            let first = events.find(|event| event.kind() == PROMPT).cloned();
            (first, log.start() == 0)
        };
        let prompt = match held {
            None if !whole => {
                let mut found = std::pin::pin!(self.search_events().kind(PROMPT).limit(1));
                found.next().await.transpose()?
            }
            held => held,
        };
        Ok(match prompt.as_ref().map(Event::decode) {
            Some(Payload::SystemPrompt(prompt)) => status(servers, &prompt),
            _ => McpStatus::NotStarted,
        })
    }
}
