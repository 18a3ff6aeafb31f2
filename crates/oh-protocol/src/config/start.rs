//! The request that starts a conversation.

use secrecy::SecretString;
use serde_json::Value;
use uuid::Uuid;

use super::{
    AgentSource, ClientToolSpec, ConfirmationPolicy, Container, InitialMessage, LaunchAdditions,
    Plugin, SecretSource, SecurityAnalyzer, SubAgent, Worktree,
    fields::{Field, Fields},
    model::model,
    secret::give_key,
    subagent::hooked,
};
use crate::{ConversationId, hooks::HookConfig, open_enum::open_enum};

open_enum! {
    /// Where a conversation runs.
    ConversationRuntime {
        /// In the server's own process.
        Local = "local",
        /// In a container of its own.
        Docker = "docker",
    }
}

model! {
    /// Everything a conversation is started with (`StartConversationRequest` on the server).
    ///
    /// ```
    /// use oh_protocol::config::{Agent, ConfirmationPolicy, Llm, StartConversation};
    ///
    /// let agent = Agent::default_preset(Llm::new("openai/gpt-5").api_key("sk-…"));
    /// let start = StartConversation::new(agent, "/project/project")
    ///     .confirmation_policy(ConfirmationPolicy::always())
    ///     .secret("GITHUB_TOKEN", "ghp_…")
    ///     .tag("team", "tools");
    /// start.check()?;
    /// # Ok::<(), oh_protocol::Error>(())
    /// ```
    pub struct StartConversation;
    by_hand: [
        "conversation_id", "agent", "agent_settings", "agent_profile_id", "workspace", "worktree",
        "worktree_options", "parent_conversation_id", "tags", "hook_config",
        "agent_launch_additions", "observability_metadata", "observability_tags",
    ];

    /// When an action waits for approval. Server's default: never.
    ///
    /// The server goes back to this one when it reloads the conversation, whatever was set in
    /// between.
    model confirmation_policy: ConfirmationPolicy;
    /// What judges how risky an action is. Server's default: nothing.
    model security_analyzer: SecurityAnalyzer;
    /// The first message, sent as the conversation starts.
    model initial_message: InitialMessage;
    /// After how many steps a run ends in error. Server's default: 500.
    value max_iterations: u32 where max_iterations > 0 => "it is at least 1";
    /// Whether an agent that goes in circles is stopped. Server's default: yes.
    value stuck_detection: bool;
    /// Adds a secret that the agent's commands find in their environment; it is masked in what
    /// they print.
    entry secrets/secret: SecretSource;
    /// Whether secrets given here are as the server encrypted them itself, under
    /// `X-Expose-Secrets: encrypted`. Server's default: no.
    value secrets_encrypted: bool;
    /// Adds a Python module that the server imports to know the tool of a name.
    entry tool_module_qualnames/tool_module: String;
    /// Adds a tool that the agent calls and the client carries out; each name once.
    named client_tools/client_tool: ClientToolSpec;
    /// Adds an agent that the agent may give work to; each name once.
    named agent_definitions/sub_agent: SubAgent;
    /// Adds a plugin.
    each plugins/plugin: Plugin;
    /// Who the user is, for traces of the server's deployment.
    text user_id;
    /// What the conversation's span is called: letters, digits and `._:/-`, at most 128. Server's
    /// default: `conversation`.
    text observability_span_name where is_span_name(&observability_span_name)
        => "it has 1 to 128 letters, digits and `._:/-`";
    /// The span of another trace that this one is part of, in its serialized form.
    text observability_parent_span_context;
    /// Whether the server makes a title of the first message, with a model call of its own. Off
    /// unless asked for; server's default: yes.
    value autotitle: bool;
    /// The profile of the model for titles, on the server. Server's default: the agent's model.
    text title_llm_profile;
    /// What that model is asked, with `{conversation_content}` and `{max_length}`; at most 2000
    /// characters. Server's default: its own words.
    text prompt where prompt.chars().count() <= 2000 => "it has at most 2000 characters";
    /// Where the conversation runs. Server's default: as it is configured.
    value conversation_runtime: ConversationRuntime;
    /// What its container may use.
    model container: Container;
}

impl StartConversation {
    /// An agent in a directory of the server, under a fresh random id.
    ///
    /// The server makes the directory if need be, and a git repository in it if there is none.
    /// Its own titles are off: they cost a model call.
    pub fn new(agent: impl Into<AgentSource>, working_dir: impl Into<String>) -> Self {
        let agent = agent.into();
        let working_dir = match working_dir.into() {
            empty if empty.is_empty() => Field::refused("a conversation needs a working directory"),
            directory => directory.into(),
        };
        let workspace = Fields::of("Workspace").with("working_dir", working_dir);
        let id = ConversationId::random().to_string();
        Self {
            fields: Fields::of("StartConversation")
                .with("conversation_id", id)
                .with(agent.field, agent.agent)
                .with("workspace", Field::Object(workspace))
                .with("autotitle", Field::plain(false)),
        }
    }

    /// Does the same as [`SecretSource::with_session_key`] for every secret in the request, also
    /// those of the agent's context.
    pub fn with_session_key(mut self, key: &SecretString) -> Self {
        give_key(&mut self.fields, Some(key));
        self
    }

    /// Returns whether [`with_session_key`](Self::with_session_key) would change it.
    pub fn wants_session_key(&self) -> bool {
        give_key(&mut self.fields.clone(), None)
    }

    /// Uses this id. If the server has it already, everything else here is ignored.
    pub fn conversation_id(mut self, id: ConversationId) -> Self {
        self.fields.put("conversation_id", id.to_string());
        self
    }

    /// Makes it a part of another conversation, which exists and works in the same directory.
    pub fn parent_conversation_id(mut self, id: ConversationId) -> Self {
        self.fields.put("parent_conversation_id", id.to_string());
        self
    }

    /// Works in a git worktree of its own, if the directory is in a repository with a commit.
    /// Server's default: in the directory itself.
    pub fn worktree(mut self, worktree: Worktree) -> Self {
        self.fields.put("worktree", Field::plain(true));
        self.fields.put("worktree_options", worktree);
        self
    }

    /// Hooks to run on the server.
    pub fn hook_config(mut self, hooks: HookConfig) -> Self {
        self.fields.put("hook_config", hooked(&hooks));
        self
    }

    /// Asks for approval of every action before it runs.
    pub fn always_confirm(self) -> Self {
        self.confirmation_policy(ConfirmationPolicy::always())
    }

    /// A tag: key of `a-z` and `0-9`, value of at most 256 characters.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let value = if key.is_empty() || !key.chars().all(fits) {
            Field::refused("a tag's key is made of a-z and 0-9")
        } else if value.chars().count() > 256 {
            Field::refused("a tag's value has at most 256 characters")
        } else {
            value.into()
        };
        self.fields.insert("tags", key, value);
        self
    }

    /// Adds a value to the conversation's trace: a boolean, number or text, or a list of one of
    /// them. Not shown.
    pub fn observability_metadata(
        mut self,
        name: impl Into<String>,
        value: impl Into<Value>,
    ) -> Self {
        let (name, value) = (name.into(), value.into());
        let value = match !name.is_empty() && is_trace_value(&value) {
            true => Field::hidden(value),
            false => Field::refused(
                "it has a name, and is a boolean, number or text, or a list of one of them",
            ),
        };
        self.fields.insert("observability_metadata", name, value);
        self
    }

    /// Adds a tag, which is not empty, to the conversation's trace.
    pub fn observability_tag(mut self, tag: impl Into<String>) -> Self {
        let tag = match tag.into() {
            empty if empty.is_empty() => Field::refused("it is not empty"),
            tag => tag.into(),
        };
        self.fields.push("observability_tags", tag);
        self
    }

    /// Adds to an agent that the server knows better than the caller: one of a profile or of
    /// settings.
    pub fn agent_launch_additions(mut self, additions: LaunchAdditions) -> Self {
        let with_profile = self.fields.get("agent_profile_id").is_some();
        let field = match Field::from(additions) {
            names if names.has("llm_profile_ref") && !with_profile => {
                Field::refused("`llm_profile_ref` takes an agent of a stored profile")
            }
            field => field,
        };
        self.fields.put("agent_launch_additions", field);
        self
    }

    /// The id it will have. The nil id, with which nothing is created, if
    /// [`from_json`](Self::from_json) or [`set`](Self::set) left it without a UUID.
    pub fn id(&self) -> ConversationId {
        let text = self.fields.text("conversation_id").unwrap_or_default();
        text.parse().unwrap_or_else(|_| Uuid::nil().into())
    }

    /// Whether there is a tag of this key.
    pub fn has_tag(&self, key: &str) -> bool {
        match self.fields.get("tags") {
            Some(Field::Object(tags)) => tags.get(key).is_some(),
            Some(Field::Plain(tags) | Field::Hidden(tags)) => tags.get(key).is_some(),
            _ => false,
        }
    }

    /// The tools that the agent names itself, as the server registers them. Empty if the server
    /// is to find the agent.
    pub fn agent_tools(&self) -> Vec<&str> {
        match self.fields.get("agent") {
            Some(Field::Object(agent)) => agent.get("tools").map(names).unwrap_or_default(),
            Some(Field::Hidden(Value::Object(agent))) => {
                agent.get("tools").map(json_names).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// The tools that are the client's own.
    pub fn client_tools(&self) -> Vec<&str> {
        self.fields
            .get("client_tools")
            .map(names)
            .unwrap_or_default()
    }

    /// The tools for which modules are named.
    pub fn module_tools(&self) -> Vec<&str> {
        match self.fields.get("tool_module_qualnames") {
            Some(Field::Object(modules)) => modules.names().collect(),
            Some(Field::Plain(Value::Object(modules)) | Field::Hidden(Value::Object(modules))) => {
                modules.keys().map(String::as_str).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The kind of agent it names itself, such as `Agent` or `ACPAgent`. `None` if the server is
    /// to find the agent.
    pub fn agent_kind(&self) -> Option<&str> {
        match self.fields.get("agent")? {
            Field::Object(agent) => agent.text("kind"),
            Field::Hidden(agent) => agent.get("kind")?.as_str(),
            _ => None,
        }
    }
}

/// The `name` of each item of a list.
fn names(list: &Field) -> Vec<&str> {
    match list {
        Field::List(items) => items.iter().filter_map(Field::name).collect(),
        Field::Plain(json) | Field::Hidden(json) => json_names(json),
        _ => Vec::new(),
    }
}

fn json_names(list: &Value) -> Vec<&str> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|item| item.get("name")?.as_str())
        .collect()
}

/// What traces can hold: never numbers with and without a fraction in one list.
fn is_trace_value(value: &Value) -> bool {
    match value {
        Value::Null | Value::Object(_) => false,
        Value::Array(items) => {
            items.iter().all(Value::is_string)
                || items.iter().all(Value::is_boolean)
                || items.iter().all(|item| item.is_i64() || item.is_u64())
                || items.iter().all(Value::is_f64)
        }
        _ => true,
    }
}

fn is_span_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    (1..=128).contains(&name.len()) && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{AcpAgent, Agent, Llm};

    fn start() -> StartConversation {
        StartConversation::new(Agent::new(Llm::with_canary()), "/w")
    }

    #[test]
    fn tags_outside_the_rules_are_refused_before_the_wire() {
        assert!(start().tag("ok9", "v").check().is_ok());
        for (key, value) in [
            ("Bad", "v".to_owned()),
            ("", "v".into()),
            ("a_b", "v".into()),
            ("long", "x".repeat(257)),
        ] {
            let error = start().tag(key, value).check().unwrap_err().to_string();
            let shown = if key.is_empty() { "\"\"" } else { key };
            assert!(
                error.starts_with(&format!("tags.{shown}: a tag's")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_key_is_in_the_wire_form_and_nowhere_else() {
        let start = start().secret("TOKEN", "canary");
        let wire = serde_json::to_string(&start).unwrap();
        assert_eq!(wire.matches("canary").count(), 2);
        assert!(!format!("{start:?}").contains("canary"));
    }

    #[test]
    fn an_error_names_the_path_and_never_the_value() {
        let bad = Agent::default_preset(Llm::with_canary().extra_header("x", "**********"));
        let error = StartConversation::new(bad, "/w").check().unwrap_err();
        let error = format!("{error} {error:?}");
        assert!(
            error.contains("agent.llm.extra_headers.x: the server's mask"),
            "{error}"
        );
        assert!(!error.contains("canary"), "{error}");
    }

    #[test]
    fn rules_of_the_server_are_checked_here() {
        let tool = || ClientToolSpec::new("t", "d");
        for (start, path) in [
            (
                StartConversation::new(Agent::new(Llm::new("m")), ""),
                "workspace.working_dir",
            ),
            (
                start().client_tool(tool()).client_tool(tool()),
                "client_tools[1]",
            ),
            (
                start()
                    .sub_agent(SubAgent::new("a"))
                    .sub_agent(SubAgent::new("a")),
                "agent_definitions[1]",
            ),
            (start().max_iterations(0), "max_iterations"),
            (
                start().observability_span_name("a b"),
                "observability_span_name",
            ),
            (start().prompt("x".repeat(2001)), "prompt"),
            (
                start().agent_launch_additions(LaunchAdditions::new().llm_profile_ref("p")),
                "agent_launch_additions",
            ),
            (
                start().hook_config(HookConfig::new().stop(crate::hooks::Hook::command(""))),
                "hook_config: stop[0].hooks[0]",
            ),
        ] {
            let error = start.check().unwrap_err().to_string();
            assert!(error.starts_with(path), "{error}");
        }
    }

    #[test]
    fn the_tools_of_a_start_are_known_however_the_agent_was_made() {
        let agent = Agent::new(Llm::with_canary()).tool("terminal").tool("x");
        let start = StartConversation::new(agent.clone(), "/w")
            .client_tool(ClientToolSpec::new("mine", "d"))
            .tool_module("theirs", "a.b");
        assert_eq!(start.agent_tools(), ["terminal", "x"]);
        assert_eq!(start.client_tools(), ["mine"]);
        assert_eq!(start.module_tools(), ["theirs"]);
        let read = StartConversation::from_json(serde_json::to_value(&start).unwrap()).unwrap();
        assert_eq!(read.agent_tools(), ["terminal", "x"]);
        assert_eq!(read.client_tools(), ["mine"]);
        assert_eq!(read.module_tools(), ["theirs"]);
    }

    #[test]
    fn each_source_of_an_agent_has_its_own_field() {
        let wire = |source: AgentSource| {
            let start = StartConversation::new(source, "/w");
            (
                start.agent_kind().map(str::to_owned),
                serde_json::to_value(start).unwrap(),
            )
        };
        let (kind, value) = wire(AcpAgent::new(["x"]).into());
        assert_eq!(
            (kind.as_deref(), &value["agent"]["acp_command"]),
            (Some("ACPAgent"), &json!(["x"]))
        );
        let (kind, value) = wire(AgentSource::settings(json!({"llm": {"model": "m"}})));
        assert_eq!(
            (kind, &value["agent_settings"]["llm"]["model"]),
            (None, &json!("m"))
        );
        let (_, value) = wire(AgentSource::profile(Uuid::nil()));
        assert_eq!(
            value["agent_profile_id"],
            "00000000-0000-0000-0000-000000000000"
        );
        assert!(value.get("agent").is_none());
    }

    #[test]
    fn the_id_is_known_before_anything_is_sent() {
        let id = ConversationId::random();
        assert_eq!(start().conversation_id(id).id(), id);
        assert_eq!(start().set("conversation_id", id.to_hex()).id(), id);
        assert_ne!(start().id(), start().id());
    }
}
