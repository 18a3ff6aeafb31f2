//! The request that creates a conversation.

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
use crate::{ConversationId, hooks::HookConfig, json::open_enum::open_enum};

open_enum! {
    /// The environment in which a conversation runs.
    ConversationRuntime {
        /// The server's own process.
        Local = "local",
        /// A separate container.
        Docker = "docker",
    }
}

model! {
    /// The options for a new conversation (`StartConversationRequest` on the server).
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

    /// Sets when an action waits for approval. Server default: never.
    ///
    /// The server returns to this policy when it reloads the conversation, even if the policy was
    /// changed in between.
    model confirmation_policy: ConfirmationPolicy;
    /// Sets the analyzer that rates the risk of an action. Server default: none.
    model security_analyzer: SecurityAnalyzer;
    /// Sets the first message, which is sent when the conversation starts.
    model initial_message: InitialMessage;
    /// Sets the maximum number of steps in a run, after which the run fails. Server default: 500.
    value max_iterations: u32 where max_iterations > 0 => "must be at least 1";
    /// Sets whether an agent that repeats itself is stopped. Server default: true.
    value stuck_detection: bool;
    /// Adds a secret that the agent's commands can read from their environment. The server masks
    /// the value in the output of commands.
    entry secrets/secret: SecretSource;
    /// Sets whether the secrets in this request were encrypted by the server itself, with
    /// `X-Expose-Secrets: encrypted`. Server default: false.
    value secrets_encrypted: bool;
    /// Adds a Python module that the server imports to register the tool with the given name.
    entry tool_module_qualnames/tool_module: String;
    /// Adds a tool that the agent calls and the client executes. Names must be unique.
    named client_tools/client_tool: ClientToolSpec;
    /// Adds an agent to which the main agent can delegate work. Names must be unique.
    named agent_definitions/sub_agent: SubAgent;
    /// Adds a plugin.
    each plugins/plugin: Plugin;
    /// Sets the id of the user, for the traces of the server's deployment.
    text user_id;
    /// Sets the name of the conversation's trace span: 1 to 128 letters, digits and `._:/-`. Server
    /// default: `conversation`.
    text observability_span_name where is_span_name(&observability_span_name)
        => "must have 1 to 128 letters, digits and `._:/-`";
    /// Sets the parent span of another trace, in its serialized form.
    text observability_parent_span_context;
    /// Sets whether the server generates a title from the first message, which needs an additional
    /// model call. This builder sends false by default; the server default is true.
    value autotitle: bool;
    /// Sets the name of the model profile for titles, on the server. Server default: the agent's
    /// model.
    text title_llm_profile;
    /// Sets the prompt for the title, with the placeholders `{conversation_content}` and
    /// `{max_length}`. At most 2000 characters. Server default: a built-in prompt.
    text prompt where prompt.chars().count() <= 2000 => "must have at most 2000 characters";
    /// Sets where the conversation runs. Server default: depends on the server's configuration.
    value conversation_runtime: ConversationRuntime;
    /// Sets the resources of the conversation's container.
    model container: Container;
}

impl StartConversation {
    /// Creates a request for an agent that works in a directory on the server, with a new random
    /// id.
    ///
    /// The server creates the directory if needed, and a git repository in it if there is none.
    /// Automatic titles are disabled because they need a model call.
    pub fn new(agent: impl Into<AgentSource>, working_dir: impl Into<String>) -> Self {
        let agent = agent.into();
        let working_dir = match working_dir.into() {
            empty if empty.is_empty() => Field::refused("the working directory must not be empty"),
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

    /// Adds the session key to every secret in the request that needs it, those in the agent's
    /// context included: see [`SecretSource::with_session_key`].
    pub fn with_session_key(mut self, key: &SecretString) -> Self {
        give_key(&mut self.fields, Some(key));
        self
    }

    /// Returns whether [`with_session_key`](Self::with_session_key) would change this request.
    pub fn wants_session_key(&self) -> bool {
        give_key(&mut self.fields.clone(), None)
    }

    /// Sets the conversation id. If a conversation with this id exists, the server ignores all
    /// other options.
    pub fn conversation_id(mut self, id: ConversationId) -> Self {
        self.fields.put("conversation_id", id.to_string());
        self
    }

    /// Sets the parent conversation, which must exist and use the same directory.
    pub fn parent_conversation_id(mut self, id: ConversationId) -> Self {
        self.fields.put("parent_conversation_id", id.to_string());
        self
    }

    /// Sets a separate git worktree for the conversation. Used if the directory is in a repository
    /// that has a commit. Server default: the conversation works in the directory itself.
    pub fn worktree(mut self, worktree: Worktree) -> Self {
        self.fields.put("worktree", Field::plain(true));
        self.fields.put("worktree_options", worktree);
        self
    }

    /// Sets the hooks that the server runs.
    pub fn hook_config(mut self, hooks: HookConfig) -> Self {
        self.fields.put("hook_config", hooked(&hooks));
        self
    }

    /// Requires approval for every action before it runs.
    pub fn always_confirm(self) -> Self {
        self.confirmation_policy(ConfirmationPolicy::always())
    }

    /// Adds a tag. The key consists of `a-z` and `0-9`, and the value has at most 256 characters.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let value = if key.is_empty() || !key.chars().all(fits) {
            Field::refused("the key must consist of a-z and 0-9")
        } else if value.chars().count() > 256 {
            Field::refused("the value must have at most 256 characters")
        } else {
            value.into()
        };
        self.fields.insert("tags", key, value);
        self
    }

    /// Adds a value to the conversation's trace: a boolean, a number or a string, or a list with
    /// items of one of these types. The value is not shown.
    pub fn observability_metadata(
        mut self,
        name: impl Into<String>,
        value: impl Into<Value>,
    ) -> Self {
        let (name, value) = (name.into(), value.into());
        let value = match !name.is_empty() && is_trace_value(&value) {
            true => Field::hidden(value),
            false => Field::refused(
                "must have a name and be a boolean, number or string, or a list of values of one \
                 of these types",
            ),
        };
        self.fields.insert("observability_metadata", name, value);
        self
    }

    /// Adds a non-empty tag to the conversation's trace.
    pub fn observability_tag(mut self, tag: impl Into<String>) -> Self {
        let tag = match tag.into() {
            empty if empty.is_empty() => Field::refused("must not be empty"),
            tag => tag.into(),
        };
        self.fields.push("observability_tags", tag);
        self
    }

    /// Sets additions to an agent that the server creates from a profile or from settings.
    pub fn agent_launch_additions(mut self, additions: LaunchAdditions) -> Self {
        let with_profile = self.fields.get("agent_profile_id").is_some();
        let field = match Field::from(additions) {
            names if names.has("llm_profile_ref") && !with_profile => {
                Field::refused("`llm_profile_ref` requires the agent of a stored profile")
            }
            field => field,
        };
        self.fields.put("agent_launch_additions", field);
        self
    }

    /// Returns the conversation id. Returns the nil id, which is invalid for a new conversation, if
    /// [`from_json`](Self::from_json) or [`set`](Self::set) removed the id or set an invalid UUID.
    pub fn id(&self) -> ConversationId {
        let text = self.fields.text("conversation_id").unwrap_or_default();
        text.parse().unwrap_or_else(|_| Uuid::nil().into())
    }

    /// Returns whether there is a tag with this key.
    pub fn has_tag(&self, key: &str) -> bool {
        match self.fields.get("tags") {
            Some(Field::Object(tags)) => tags.get(key).is_some(),
            Some(Field::Plain(tags) | Field::Hidden(tags)) => tags.get(key).is_some(),
            _ => false,
        }
    }

    /// Returns whether there is a first message, which starts a run.
    pub fn has_initial_message(&self) -> bool {
        self.fields.get("initial_message").is_some()
    }

    /// Removes the first message from the request and returns it, for a client that sends the
    /// message itself once it is connected.
    pub fn take_initial_message(&mut self) -> Option<InitialMessage> {
        match self.fields.take("initial_message")? {
            Field::Object(fields) => Some(InitialMessage::of(fields)),
            Field::Plain(json) | Field::Hidden(json) => InitialMessage::from_json(json).ok(),
            _ => None,
        }
    }

    /// Returns the names of the tools in the agent's own configuration, as registered on the
    /// server. Empty if the server creates the agent from a profile or from settings.
    pub fn agent_tools(&self) -> Vec<&str> {
        match self.fields.get("agent") {
            Some(Field::Object(agent)) => agent.get("tools").map(names).unwrap_or_default(),
            Some(Field::Hidden(Value::Object(agent))) => {
                agent.get("tools").map(json_names).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the names of the client tools.
    pub fn client_tools(&self) -> Vec<&str> {
        self.fields
            .get("client_tools")
            .map(names)
            .unwrap_or_default()
    }

    /// Returns the names of the tools that have a Python module.
    pub fn module_tools(&self) -> Vec<&str> {
        match self.fields.get("tool_module_qualnames") {
            Some(Field::Object(modules)) => modules.names().collect(),
            Some(Field::Plain(Value::Object(modules)) | Field::Hidden(Value::Object(modules))) => {
                modules.keys().map(String::as_str).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the kind of the agent, such as `Agent` or `ACPAgent`. Returns `None` if the server
    /// creates the agent from a profile or from settings.
    pub fn agent_kind(&self) -> Option<&str> {
        match self.fields.get("agent")? {
            Field::Object(agent) => agent.text("kind"),
            Field::Hidden(agent) => agent.get("kind")?.as_str(),
            _ => None,
        }
    }
}

/// Returns the `name` of each item in a list.
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

/// Returns whether traces support a value. Lists must not mix integers and floats.
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
    fn invalid_tags_are_rejected_before_sending() {
        assert!(start().tag("ok9", "v").check().is_ok());
        for (key, value) in [
            ("Bad", "v".to_owned()),
            ("", "v".into()),
            ("a_b", "v".into()),
            ("long", "x".repeat(257)),
        ] {
            let error = start().tag(key, value).check().unwrap_err().to_string();
            let shown = if key.is_empty() { "\"\"" } else { key };
            assert!(error.starts_with(&format!("tags.{shown}: the ")), "{error}");
        }
    }

    #[test]
    fn the_key_is_only_in_the_wire_form() {
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
