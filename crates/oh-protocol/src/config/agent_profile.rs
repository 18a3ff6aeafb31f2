//! Agent profiles: agents that are stored on the server and refer to stored models, tools and
//! secrets by name.

use super::{
    CriticMode, ToolSpec,
    fields::{Field, Fields},
    model::model,
};

model! {
    /// An agent that is stored on the server under a name. Refers to a model profile, to MCP
    /// servers and to secrets by name, so it contains no secrets itself.
    ///
    /// Created by [`new`](Self::new), or from an [`AcpAgentProfile`].
    ///
    /// ```
    /// use oh_protocol::config::AgentProfile;
    ///
    /// let profile = AgentProfile::new("fast")
    ///     .tool("terminal")
    ///     .tool("file_editor")
    ///     .mcp_server_refs(["fetch"])
    ///     .secret_refs(["GITHUB_TOKEN"]);
    /// profile.check()?;
    /// # Ok::<(), oh_protocol::Error>(())
    /// ```
    pub struct AgentProfile;
    by_hand: ["agent_kind", "llm_profile_ref"];

    /// Adds a tool. Names must be unique. Server default: the standard tools. To select none, set
    /// an empty list: `set("tools", json!([]))`.
    named tools/tool: ToolSpec;
    /// Sets which MCP servers of the settings the agent can use. An empty list means none. Server
    /// default: all.
    list mcp_server_refs: String;
    /// Sets which stored secrets the agent can use. An empty list means none. Server default: all.
    list secret_refs: String;
    /// Sets the agent's identity. Replaces the server's persona and coding workflow, but not its
    /// policies. Version 1.43 does not have this field.
    text persona where !persona.is_empty() && persona.chars().count() <= 65_536
        => "must have 1 to 65536 characters";
    /// Sets a text that is appended to the system prompt.
    text system_message_suffix;
    /// Sets the skills that the agent does not get, by name. Server default: none.
    list disabled_skills: String;
    /// Sets the public skills that the agent gets, by name. An empty list means none. Server
    /// default: all. Version 1.43 does not have this field.
    list public_skills: String;
    /// Sets how a long history is shortened. Server default: by summaries.
    model condenser: CondenserSettings;
    /// Sets the critic that evaluates the agent's work as it runs. Server default: none.
    model verification: Verification;
    /// Sets whether the agent gets the tool `route_task_to_model`, which chooses a model by the
    /// rules of a meta-profile. Server default: false. Version 1.43 does not have this field.
    value enable_classify_and_switch_llm_tool: bool;
    /// Sets the name of the meta-profile for `route_task_to_model`. Server default: the first one.
    /// Version 1.43 does not have this field.
    text meta_profile_ref where !meta_profile_ref.is_empty() => "must not be empty";
    /// Sets how many tools may run at the same time. Server default: 1.
    value tool_concurrency_limit: u32 where tool_concurrency_limit > 0 => "must be at least 1";
}

impl AgentProfile {
    /// Creates a profile that uses the model profile with this name. The model profile need not
    /// exist yet.
    pub fn new(llm_profile: impl Into<String>) -> Self {
        let llm_profile = match llm_profile.into() {
            empty if empty.is_empty() => Field::refused("must not be empty"),
            name => name.into(),
        };
        Self {
            fields: Fields::of("AgentProfile")
                .with("agent_kind", Field::plain("openhands"))
                .with("llm_profile_ref", llm_profile),
        }
    }
}

model! {
    /// An agent with the Agent Client Protocol (ACP) that is stored on the server under a name.
    ///
    /// Such an agent has its own model, tools and prompt. The server passes its credentials from
    /// the stored secrets.
    pub struct AcpAgentProfile;
    by_hand: ["agent_kind"];

    /// Sets which MCP servers of the settings the agent can use. An empty list means none. Server
    /// default: all.
    list mcp_server_refs: String;
    /// Sets which stored secrets the agent can use, including the agent's own credential. An empty
    /// list means none. Server default: all.
    list secret_refs: String;
    /// Sets the model that the program is asked to use. Server default: the program's choice.
    text acp_model;
    /// Sets the mode of the session. Server default: depends on the agent.
    text acp_session_mode;
    /// Sets the maximum time without output during a response. Server default: 1800 s.
    seconds acp_prompt_timeout;
    /// Sets the start-up timeout of the program. Server default: 90 s.
    seconds acp_startup_timeout;
    /// Sets additional arguments of the program. Not shown. Do not pass secrets: the server stores
    /// and returns them in plain text.
    hidden acp_args;
}

impl AcpAgentProfile {
    /// Creates a profile for an agent of the server's registry: `claude-code`, `codex`,
    /// `gemini-cli`, or on newer servers also `kimi-code`, `pi` and `opencode`.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("AcpAgentProfile")
                .with("agent_kind", Field::plain("acp"))
                .with("acp_server", server.into()),
        }
    }

    /// Creates a profile for any other program. The server splits the command into words as a
    /// shell does. Not shown. Do not pass secrets: the server stores and returns the command in
    /// plain text.
    pub fn custom(command: impl Into<String>) -> Self {
        let mut profile = Self::new("custom");
        let command = match command.into() {
            empty if empty.trim().is_empty() => Field::refused("must not be empty"),
            command => Field::hidden(command.into()),
        };
        profile.fields.put("acp_command", command);
        profile
    }
}

impl From<AcpAgentProfile> for AgentProfile {
    fn from(profile: AcpAgentProfile) -> Self {
        Self {
            fields: profile.fields,
        }
    }
}

model! {
    /// How an agent of a profile shortens a long history.
    pub struct CondenserSettings;
    by_hand: ["condenser_kind"];

    /// Sets whether the history is shortened. Server default: true.
    value enabled: bool;
    /// Sets the maximum number of events. Server default: 240.
    value max_size: u32 where max_size >= 20 => "must be at least 20";
    /// Sets the maximum number of tokens. Server default: no limit.
    value max_tokens: u32 where max_tokens > 0 => "must be at least 1";
    /// Sets how many events at the start are always kept. Server default: 2.
    value keep_first: u32;
    /// Sets the minimum share of events that a condensation must remove. Server default: 0.1.
    value minimum_progress: f64 where 0.0 < minimum_progress && minimum_progress < 1.0
        => "must be above 0 and below 1";
}

impl CondenserSettings {
    /// Creates settings that replace the middle of the history with a summary.
    pub fn summarizing() -> Self {
        Self::custom("llm_summarizing")
    }

    /// Creates settings that keep the whole history. Version 1.43 does not have them: use
    /// `summarizing().enabled(false)` there.
    pub fn none() -> Self {
        Self::custom("no_op")
    }

    /// Creates settings of a kind that this version does not support. Use [`set`](Self::set) for
    /// its fields.
    pub fn custom(kind: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("CondenserSettings").with("condenser_kind", kind.into()),
        }
    }
}

model! {
    /// The critic of an agent of a profile. The critic uses the key of the agent's model.
    pub struct Verification;
    by_hand: [];

    /// Sets whether the critic evaluates the agent's work. Server default: false.
    value critic_enabled: bool;
    /// Sets the events that are evaluated. Server default: [`CriticMode::FinishAndMessage`].
    value critic_mode: CriticMode;
    /// Sets whether the agent continues while the critic's score is too low. Server default: false.
    value enable_iterative_refinement: bool;
    /// Sets the score from which the work is good enough. Server default: 0.6.
    value critic_threshold: f64 where (0.0..=1.0).contains(&critic_threshold)
        => "must be at least 0 and at most 1";
    /// Sets how often the agent continues. Server default: 3.
    value max_refinement_iterations: u32 where max_refinement_iterations > 0
        => "must be at least 1";
    /// Sets the URL of the critic. Server default: the URL of the agent's model, if it is known to
    /// have a critic.
    address critic_server_url;
    /// Sets the model of the critic.
    text critic_model_name;
}

impl Verification {
    /// Creates settings without a critic.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("Verification"),
        }
    }
}

impl Default for Verification {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_has_the_form_of_the_server() {
        let profile = AgentProfile::new("fast")
            .tool("terminal")
            .mcp_server_refs(Vec::<String>::new())
            .condenser(CondenserSettings::summarizing().max_size(20))
            .verification(Verification::new().critic_enabled(true));
        profile.check().unwrap();
        let expected = json!({
            "agent_kind": "openhands",
            "llm_profile_ref": "fast",
            "tools": [{"name": "terminal"}],
            "mcp_server_refs": [],
            "condenser": {"condenser_kind": "llm_summarizing", "max_size": 20},
            "verification": {"critic_enabled": true},
        });
        assert_eq!(serde_json::to_value(&profile).unwrap(), expected);
        let acp = AgentProfile::from(AcpAgentProfile::custom("agent --token canary"));
        acp.check().unwrap();
        assert!(!format!("{acp:?}").contains("canary"));
        let sent = serde_json::to_value(&acp).unwrap();
        assert_eq!(sent["acp_command"], "agent --token canary");
    }

    #[test]
    fn an_invalid_value_is_named() {
        for (profile, path) in [
            (AgentProfile::new(""), "llm_profile_ref: "),
            (AgentProfile::new("m").persona(""), "persona: "),
            (
                AgentProfile::new("m").persona("x".repeat(65_537)),
                "persona: ",
            ),
            (AgentProfile::new("m").tool("a").tool("a"), "tools[1]: "),
            (
                AgentProfile::new("m").condenser(CondenserSettings::none().max_size(19)),
                "condenser.max_size: ",
            ),
            (
                AgentProfile::new("m").verification(Verification::new().critic_threshold(1.1)),
                "verification.critic_threshold: ",
            ),
            (AcpAgentProfile::custom(" ").into(), "acp_command: "),
            (
                AgentProfile::new("m").tool(ToolSpec::new("a").param("key", "**********")),
                "tools[0].params.key: ",
            ),
        ] {
            let error = profile.check().unwrap_err().to_string();
            assert!(error.starts_with(path), "{error}");
        }
    }
}
