//! Where a conversation's agent comes from, and what is added to it there.

use serde_json::Value;
use uuid::Uuid;

use super::{
    AcpAgent, Agent, Skill,
    fields::{Field, Fields},
    model::model,
};

/// Where a conversation's agent comes from.
#[derive(Debug, Clone)]
#[must_use]
pub struct AgentSource {
    pub(super) field: &'static str,
    pub(super) agent: Field,
}

impl AgentSource {
    /// An agent profile stored on the server.
    pub fn profile(id: Uuid) -> Self {
        Self {
            field: "agent_profile_id",
            agent: Field::plain(id.to_string()),
        }
    }

    /// Settings as `GET /api/settings` gives them, which the server makes an agent of.
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
    /// What is added to an agent once the server has it (`agent_launch_additions`).
    pub struct LaunchAdditions;
    by_hand: [];

    /// A text for the end of the system prompt, of at most 32 768 characters.
    text system_message_suffix_append
        where system_message_suffix_append.chars().count() <= 32_768
        => "it has at most 32768 characters";
    /// Adds a skill, unless the agent has one of its name.
    named skills/skill: Skill;
    /// The profile of the model to use, in place of the one that an agent profile names.
    text llm_profile_ref;
}

impl LaunchAdditions {
    /// Nothing yet.
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
