//! The source of a conversation's agent, and additions that the server makes to the agent.

use serde_json::Value;
use uuid::Uuid;

use super::{
    AcpAgent, Agent, Skill,
    fields::{Field, Fields},
    model::model,
};

/// The source of a conversation's agent.
#[derive(Debug, Clone)]
#[must_use]
pub struct AgentSource {
    pub(super) field: &'static str,
    pub(super) agent: Field,
}

impl AgentSource {
    /// Uses an agent profile that is stored on the server.
    pub fn profile(id: Uuid) -> Self {
        Self {
            field: "agent_profile_id",
            agent: Field::plain(id.to_string()),
        }
    }

    /// Uses settings as returned by `GET /api/settings`, from which the server creates an agent.
    pub fn settings(settings: impl Into<Value>) -> Self {
        Self {
            field: "agent_settings",
            agent: Field::hidden(settings.into()),
        }
    }

    fn of(agent: impl Into<Field>) -> Self {
        Self {
            field: "agent",
            agent: agent.into(),
        }
    }
}

impl From<Agent> for AgentSource {
    fn from(agent: Agent) -> Self {
        Self::of(agent)
    }
}

impl From<AcpAgent> for AgentSource {
    fn from(agent: AcpAgent) -> Self {
        Self::of(agent)
    }
}

model! {
    /// Additions to an agent that the server creates (`agent_launch_additions`).
    pub struct LaunchAdditions;
    by_hand: [];

    /// Sets a text that is appended to the system prompt, at most 32 768 characters.
    text system_message_suffix_append
        where system_message_suffix_append.chars().count() <= 32_768
        => "must have at most 32768 characters";
    /// Adds a skill, unless the agent already has a skill with the same name.
    named skills/skill: Skill;
    /// Sets the model profile, which replaces that of the agent profile.
    text llm_profile_ref;
}

impl LaunchAdditions {
    /// Creates an empty set of additions.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("LaunchAdditions"),
        }
    }
}

impl Default for LaunchAdditions {
    fn default() -> Self {
        Self::new()
    }
}
