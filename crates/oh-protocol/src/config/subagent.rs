//! Agents that another agent may give work to.

use super::{
    Condenser, McpServer,
    fields::{Field, Fields},
    model::model,
};
use crate::{hooks::HookConfig, open_enum::open_enum};

open_enum! {
    /// When the actions of an agent that works for another wait for approval.
    PermissionMode {
        /// Always.
        AlwaysConfirm = "always_confirm",
        /// Never.
        NeverConfirm = "never_confirm",
        /// When they are risky.
        ConfirmRisky = "confirm_risky",
    }
}

open_enum! {
    /// Where an agent's definition was found.
    DefinitionLevel {
        /// In the workspace.
        Project = "project",
        /// In the user's home.
        User = "user",
        /// In the server itself.
        Builtin = "builtin",
        /// In a plugin.
        Plugin = "plugin",
        /// Nowhere: a program made it.
        Programmatic = "programmatic",
    }
}

model! {
    /// An agent that another may give work to, through the tool `task_tool_set`
    /// (`AgentDefinition` on the server).
    pub struct SubAgent;
    by_hand: ["name", "hooks"];

    /// What it is good for; the other agent chooses by it.
    text description;
    /// The profile of its model on the server, or `inherit` for the other's. Server's default:
    /// `inherit`.
    text model;
    /// The colour it is shown in.
    text color;
    /// The tools it has, by name.
    list tools: String;
    /// The skills it has, by name, of the workspace or the user.
    list skills: String;
    /// What it is told to be.
    text system_prompt;
    /// The file it is from.
    text source;
    /// Where it was found.
    value level: DefinitionLevel;
    /// Examples of when to use it.
    list when_to_use_examples: String;
    /// When its actions wait for approval. Server's default: as the other's.
    value permission_mode: PermissionMode;
    /// How many steps it may take. Server's default: as conversations.
    value max_iteration_per_run: u32 where max_iteration_per_run > 0 => "it is at least 1";
    /// What it may cost, in US dollars. Server's default: anything.
    value max_budget_per_run: f64 where max_budget_per_run > 0.0 => "it is above 0";
    /// Adds a server of the Model Context Protocol. Not used while it works for another agent,
    /// whose servers it has then.
    entry mcp_config/mcp_server: McpServer;
    /// The directory of the server with the profiles of models.
    text profile_store_dir;
    /// How its long history is shortened. Server's default: by summaries.
    model condenser: Condenser;
    /// Adds anything else that is to be known of it. Not shown.
    json metadata/metadata;
}

impl SubAgent {
    /// Adds servers of the Model Context Protocol by name, such as those of an
    /// [`McpFile`](super::McpFile). One of the same name is replaced.
    pub fn mcp_servers(mut self, servers: impl IntoIterator<Item = (String, McpServer)>) -> Self {
        for (name, server) in servers {
            self.fields.insert("mcp_config", name, server);
        }
        self
    }

    /// An agent by its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("SubAgent").with("name", name.into()),
        }
    }

    /// Its hooks.
    pub fn hooks(mut self, hooks: HookConfig) -> Self {
        self.fields.put("hooks", hooked(&hooks));
        self
    }
}

/// Hooks that keep their own rules.
pub(super) fn hooked(hooks: &HookConfig) -> Field {
    match hooks.check() {
        Ok(()) => Field::plain(hooks),
        Err(error) => Field::refused(error.context().to_owned()),
    }
}
