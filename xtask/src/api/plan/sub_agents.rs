//! Sub-agents.

use crate::api::terms::{Call, Handle, Kind, Module, Output, Type, field, method};

pub(super) const MODULE: Module = Module {
    name: "sub_agents",
    docs: "Sub-agents: agents to which another agent can delegate work, as the server finds them.",
    handle: Handle {
        name: "SubAgents",
        method: "sub_agents",
        docs: "The sub-agents that a server finds",
        returns: "Returns the agents to which another agent can delegate work.",
    },
    calls: &[Call {
        operation: "POST /api/sub-agents",
        name: "ListSubAgents",
        docs: "returns the sub-agents of a project, of the user and of the server.",
        new: "Creates a call for the sub-agents of all sources.",
        never: None,
        fields: &[
            field(
                "project_dir",
                "Sets the directory of the project on the server.",
            ),
            field(
                "load_project",
                "Sets whether the sub-agents of the project are included. Server default: true.",
            ),
            field(
                "load_user",
                "Sets whether the sub-agents in the home directory are included. Server default: \
                 true.",
            ),
            field(
                "load_builtin",
                "Sets whether the server's own sub-agents are included. Server default: true.",
            ),
        ],
        output: Output::Part("agents"),
        method: method(
            "list",
            "list the sub-agents",
            "Returns the sub-agents of a project, of the user and of the server ({op}).",
        ),
    }],
    types: &[Type {
        schema: "SubAgentInfo",
        name: "SubAgentInfo",
        docs: "A sub-agent.",
        new: None,
        fields: &[
            field("name", "The name."),
            field(
                "description",
                "The description, by which another agent chooses it.",
            ),
            field("model", "The name of the model profile, or `inherit`."),
            field("color", "The display colour."),
            field("tools", "The tools, by name."),
            field("skills", "The skills, by name."),
            field("system_prompt", "The system prompt."),
            field(
                "source",
                "The file on the server that defines the sub-agent.",
            ),
            field("level", "Where the definition was found.")
                .kind(Kind::Is("crate::config::DefinitionLevel")),
            field("is_builtin", "Whether the sub-agent is part of the server."),
            field(
                "when_to_use_examples",
                "Examples of when to use the sub-agent.",
            ),
            field("permission_mode", "When its actions wait for approval.")
                .kind(Kind::Is("crate::config::PermissionMode")),
            field("max_iteration_per_run", "The maximum number of steps."),
            field("max_budget_per_run", "The maximum cost, in US dollars."),
            field("mcp_config", "The MCP servers of the definition, as JSON."),
            field("mcp_servers", "The same under an older name.").kind(Kind::Omitted),
            field("hooks", "The hooks, as JSON."),
            field("condenser", "How a long history is shortened, as JSON."),
            field(
                "profile_store_dir",
                "The directory of model profiles on the server.",
            ),
            field("metadata", "Other fields of the definition."),
        ],
    }],
};
