//! What an agent knows besides its prompt.

use super::{Marketplace, SecretSource, Skill, fields::Fields, model::model};

model! {
    /// What an agent knows besides its prompt (`AgentContext` on the server).
    pub struct AgentContext;
    by_hand: [];

    /// Adds a skill; each name once.
    named skills/skill: Skill;
    /// A text for the end of the system prompt.
    text system_message_suffix;
    /// A text for the end of every message of the user.
    text user_message_suffix;
    /// Whether skills below `~/.openhands` on the server are loaded. Server's default: no.
    value load_user_skills: bool;
    /// Whether public skills are loaded, over the network. Server's default: no.
    value load_public_skills: bool;
    /// Which marketplace file of the public skills is used; `None` for all of them. Server's
    /// default: `marketplaces/default.json`.
    nullable marketplace_path: String;
    /// Adds a marketplace for plugins and skills.
    each registered_marketplaces/marketplace: Marketplace;
    /// Whether skills of the workspace are loaded, `AGENTS.md` among them. Server's default: no.
    value load_project_skills: bool;
    /// Whether the memory that agents keep in files is loaded. Server's default: no.
    value load_memory: bool;
    /// The text of that memory. The server fills it in itself.
    text memory_context;
    /// The names of skills that are left out, wherever they come from.
    list disabled_skills: String;
    /// Adds a secret that the agent is told of by name.
    entry secrets/secret: SecretSource;
    /// The date and time the agent is told, in any form. Server's default: its own clock's.
    nullable current_datetime: String;
}

impl AgentContext {
    /// Nothing yet.
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
    fn a_skill_twice_is_refused_by_name() {
        let context = AgentContext::new()
            .skill(Skill::new("s", "one"))
            .skill(Skill::new("s", "two"));
        let error = context.check().unwrap_err().to_string();
        assert_eq!(error, "skills[1]: the name `s` is there already");
    }

    #[test]
    fn secrets_are_not_shown() {
        let context = AgentContext::new().secret("TOKEN", "canary");
        let shown = format!("{context:?}");
        assert!(
            shown.contains("TOKEN") && !shown.contains("canary"),
            "{shown}"
        );
    }
}
