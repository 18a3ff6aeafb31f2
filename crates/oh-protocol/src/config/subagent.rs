//! Agents to which another agent can delegate work.

use super::{
    Condenser, McpServer,
    fields::{Field, Fields},
    model::model,
};
use crate::{hooks::HookConfig, json::open_enum::open_enum};

open_enum! {
    /// The policy by which the actions of a sub-agent wait for approval.
    PermissionMode {
        /// Always.
        AlwaysConfirm = "always_confirm",
        /// Never.
        NeverConfirm = "never_confirm",
        /// If the action is risky.
        ConfirmRisky = "confirm_risky",
    }
}

open_enum! {
    /// The place where an agent's definition was found.
    DefinitionLevel {
        /// The workspace.
        Project = "project",
        /// The user's home directory.
        User = "user",
        /// The server itself.
        Builtin = "builtin",
        /// A plugin.
        Plugin = "plugin",
        /// A program, which created the definition.
        Programmatic = "programmatic",
    }
}

model! {
    /// An agent to which another agent can delegate work, with the tool `task_tool_set`
    /// (`AgentDefinition` on the server).
    pub struct SubAgent;
    by_hand: ["name", "hooks"];

    /// Sets the description, by which the other agent chooses a sub-agent.
    text description;
    /// Sets the name of the model profile on the server, or `inherit` for the other agent's model.
    /// Server default: `inherit`.
    text model;
    /// Sets the display colour.
    text color;
    /// Sets the agent's tools, by name.
    list tools: String;
    /// Sets the agent's skills, by name. The skills belong to the workspace or the user.
    list skills: String;
    /// Sets the system prompt.
    text system_prompt;
    /// Sets the file that the definition was loaded from.
    text source;
    /// Sets the place where the definition was found.
    value level: DefinitionLevel;
    /// Sets examples of when to use the agent.
    list when_to_use_examples: String;
    /// Sets when the agent's actions wait for approval. Server default: the other agent's policy.
    value permission_mode: PermissionMode;
    /// Sets the maximum number of steps. Server default: the default for conversations.
    value max_iteration_per_run: u32 where max_iteration_per_run > 0 => "must be at least 1";
    /// Sets the maximum cost, in US dollars. Server default: no limit.
    value max_budget_per_run: f64 where max_budget_per_run > 0.0 => "must be above 0";
    /// Adds an MCP server (Model Context Protocol). Not used while the agent works for another
    /// agent; in that case the other agent's servers are used.
    entry mcp_config/mcp_server: McpServer;
    /// Sets the directory of model profiles on the server.
    text profile_store_dir;
    /// Sets how a long history is shortened. Server default: by summaries.
    model condenser: Condenser;
    /// Adds any other metadata. Not shown.
    json metadata/metadata;
}

impl SubAgent {
    /// Adds MCP servers by name, for example from an [`McpFile`](super::McpFile). Replaces servers
    /// with the same name.
    pub fn mcp_servers(mut self, servers: impl IntoIterator<Item = (String, McpServer)>) -> Self {
        for (name, server) in servers {
            self.fields.insert("mcp_config", name, server);
        }
        self
    }

    /// Creates an agent with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("SubAgent").with("name", name.into()),
        }
    }

    /// Sets the agent's hooks.
    pub fn hooks(mut self, hooks: HookConfig) -> Self {
        self.fields.put("hooks", hooked(&hooks));
        self
    }
}

/// Converts hooks to a field and checks the rules of hooks.
pub(super) fn hooked(hooks: &HookConfig) -> Field {
    match hooks.check() {
        Ok(()) => Field::plain(hooks),
        Err(error) => Field::refused(error.context().to_owned()),
    }
}
