//! The context of an agent in addition to its prompt.

use super::{Marketplace, SecretSource, Skill, fields::Fields, model::model};

model! {
    /// The context of an agent in addition to its prompt (`AgentContext` on the server).
    pub struct AgentContext;
    by_hand: [];

    /// Adds a skill. Names must be unique.
    named skills/skill: Skill;
    /// Sets a text that is appended to the system prompt.
    text system_message_suffix;
    /// Sets a text that is appended to every user message.
    text user_message_suffix;
    /// Sets whether skills from `~/.openhands` on the server are loaded. Server default: false.
    value load_user_skills: bool;
    /// Sets whether public skills are downloaded and loaded. Server default: false.
    value load_public_skills: bool;
    /// Sets the marketplace file for public skills. `None` means all public skills. Server default:
    /// `marketplaces/default.json`.
    nullable marketplace_path: String;
    /// Adds a marketplace for plugins and skills.
    each registered_marketplaces/marketplace: Marketplace;
    /// Sets whether skills of the workspace are loaded, including `AGENTS.md`. Server default:
    /// false.
    value load_project_skills: bool;
    /// Sets whether the agents' memory files are loaded. Server default: false.
    value load_memory: bool;
    /// Sets the text of the memory. Usually set by the server.
    text memory_context;
    /// Sets the names of skills that are excluded, regardless of their source.
    list disabled_skills: String;
    /// Adds a secret whose name is included in the prompt.
    entry secrets/secret: SecretSource;
    /// Sets the current date and time for the prompt, in any format. Server default: the server's
    /// clock.
    nullable current_datetime: String;
}

impl AgentContext {
    /// Creates an empty context.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("AgentContext"),
        }
    }
}

impl Default for AgentContext {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_skill_is_rejected_by_name() {
        let context = AgentContext::new()
            .skill(Skill::new("s", "one"))
            .skill(Skill::new("s", "two"));
        let error = context.check().unwrap_err().to_string();
        assert_eq!(error, "skills[1]: the name `s` is already in use");
    }

    #[test]
    fn secrets_of_a_context_are_not_shown() {
        let context = AgentContext::new().secret("TOKEN", "canary");
        let shown = format!("{context:?}");
        assert!(
            shown.contains("TOKEN") && !shown.contains("canary"),
            "{shown}"
        );
    }
}
