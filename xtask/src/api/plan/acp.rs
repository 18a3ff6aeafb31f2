//! Models of ACP agents.

use crate::api::terms::{Call, Handle, Kind, Module, Output, Type, field, method};

pub(super) const MODULE: Module = Module {
    name: "acp",
    docs: "Models of agents with the Agent Client Protocol (ACP). Servers before 1.57 may not have \
           this operation.",
    handle: Handle {
        name: "Acp",
        method: "acp",
        docs: "The agents with the Agent Client Protocol that a server can run",
        returns: "Returns what the server knows about agents with the Agent Client Protocol.",
    },
    calls: &[Call {
        operation: "POST /api/acp/models",
        name: "DiscoverAcpModels",
        docs: "starts the program of an ACP agent, and returns the models that it offers.",
        new: "Creates a call for this agent. Its model, MCP servers and context are ignored.",
        never: None,
        fields: &[
            field("agent_settings", "The agent.")
                .named("agent")
                .kind(Kind::Is("crate::config::AcpAgent")),
            field(
                "refresh",
                "Sets whether the program is started again. Server default: false, which means \
                 that an earlier result is used.",
            ),
            field(
                "secrets",
                "Adds a secret for the program, such as its API key. Replaces a secret with the \
                 same name.",
            )
            .named("secret")
            .kind(Kind::Entries("crate::config::SecretSource")),
        ],
        output: Output::Whole,
        method: method(
            "models",
            "list the models of the ACP agent",
            "Starts the program of an ACP agent, and returns the models that it offers ({op}). A \
             program that fails is not an error: see the field `error`. Waits at most 2 minutes.",
        )
        .errors(
            "Returns [`Validation`](crate::ErrorKind::Validation) if the server rejects the agent, \
             and [`Unsupported`](crate::ErrorKind::Unsupported) if the server is too old.",
        )
        .limit(120),
    }],
    types: &[
        Type {
            schema: "ACPModelDiscovery",
            name: "AcpModels",
            docs: "The models that an ACP agent offers.",
            new: None,
            fields: &[
                field("agent_name", "The name of the program, as it reports it."),
                field(
                    "agent_version",
                    "The version of the program, as it reports it.",
                ),
                field(
                    "available_models",
                    "The models. Empty if the program does not report any.",
                ),
                field(
                    "current_model_id",
                    "The id of the model that the program uses by default. May be an alias.",
                ),
                field(
                    "supports_runtime_model_switch",
                    "Whether a running conversation can change the model.",
                ),
                field("error", "Why the program could not report its models."),
            ],
        },
        Type {
            schema: "ACPModelInfo",
            name: "AcpModel",
            docs: "A model that an ACP agent offers.",
            new: None,
            fields: &[
                field("model_id", "The id, for `AcpAgent::acp_model`."),
                field("name", "The name for users."),
                field("description", "The description for users."),
            ],
        },
        Type {
            schema: "ACPModelDiscoveryError",
            name: "AcpModelsError",
            docs: "Why an ACP agent could not report its models.",
            new: None,
            fields: &[
                field(
                    "code",
                    "The kind: `ACPAuthRequired`, `ACPStartupTimeout`, `ACPSpawnError` or \
                     `ACPInitError`.",
                ),
                field("detail", "The message, without secrets."),
            ],
        },
    ],
};
