//! Setters of the conversation builder: one for each field of the start request. The request
//! validates the values.

use oh_protocol::{
    ConversationId,
    config::{
        ClientToolSpec, ConfirmationPolicy, Container, ConversationRuntime, InitialMessage,
        LaunchAdditions, Plugin, SecretSource, SecurityAnalyzer, StartConversation, SubAgent,
        Worktree,
    },
    hooks::HookConfig,
};
use serde_json::Value;

use super::ConversationBuilder;
use crate::ClientTool;

impl ConversationBuilder {
    /// Sets the conversation's id. Default: a random one. If the server already has a conversation
    /// with this id, that conversation is found, and the server ignores all other options:
    /// [`origin`](crate::Conversation::origin) reports this, with the differences.
    pub fn id(self, id: ConversationId) -> Self {
        self.configure(|start| start.conversation_id(id))
    }

    /// Sets the first message of the conversation. This **always starts a run**, regardless of what
    /// the message itself requests; [`join`](crate::Conversation::join) waits for the run. The
    /// message is not sent to a conversation that is found. Default: none.
    pub fn initial_message(self, message: impl Into<InitialMessage>) -> Self {
        self.configure(|start| start.initial_message(message))
    }

    /// Sets the hooks to run on the server. Default: none; the server does not look for hooks
    /// itself.
    pub fn hooks(self, hooks: HookConfig) -> Self {
        self.configure(|start| start.hook_config(hooks))
    }

    /// Sets the number of steps after which a run ends with an error. Server's default: 500.
    pub fn max_iterations(self, steps: u32) -> Self {
        self.configure(|start| start.max_iterations(steps))
    }

    /// Sets whether an agent that repeats itself is stopped. Server's default: yes.
    pub fn stuck_detection(self, stop: bool) -> Self {
        self.configure(|start| start.stuck_detection(stop))
    }

    /// Sets which actions need approval before they run. Server's default: none.
    pub fn confirmation_policy(self, policy: ConfirmationPolicy) -> Self {
        self.configure(|start| start.confirmation_policy(policy))
    }

    /// Requires approval of every action before it runs. Server's default: no approval.
    pub fn always_confirm(self) -> Self {
        self.configure(StartConversation::always_confirm)
    }

    /// Sets the analyzer that assesses the risk of actions. Server's default: only the agent's
    /// model.
    pub fn security_analyzer(self, analyzer: SecurityAnalyzer) -> Self {
        self.configure(|start| start.security_analyzer(analyzer))
    }

    /// Adds a tag: the key consists of `a-z` and `0-9`, the value of at most 256 characters.
    /// Default: none, except the tags that [`plugin`](Self::plugin) and
    /// [`automation`](Self::automation) add.
    pub fn tag(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configure(|start| start.tag(key, value))
    }

    /// Adds several tags. A later [`tag`](Self::tag) with the same key overrides the value.
    /// Default: as for [`tag`](Self::tag).
    pub fn tags<K: Into<String>, V: Into<String>>(
        self,
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let tags = tags.into_iter();
        self.configure(|start| tags.fold(start, |start, (key, value)| start.tag(key, value)))
    }

    /// Adds a secret: a text, or a lookup by the server. The agent's commands have the secret in
    /// their environment, and the server stores it with the conversation and masks it in command
    /// output. Default: none.
    pub fn secret(self, name: impl Into<String>, source: impl Into<SecretSource>) -> Self {
        self.configure(|start| start.secret(name, source))
    }

    /// Sets whether the secrets in this request are encrypted by the server, as returned under
    /// `X-Expose-Secrets: encrypted`. Server's default: no.
    pub fn secrets_encrypted(self, encrypted: bool) -> Self {
        self.configure(|start| start.secrets_encrypted(encrypted))
    }

    /// Adds a tool that the agent calls and this program executes. Names must be unique. Default:
    /// none.
    pub fn client_tool(mut self, tool: ClientTool) -> Self {
        self = self.client_tool_spec(tool.spec());
        if let Some(reason) = tool.unusable() {
            let reason = format!("client_tools: `{}`: {reason}", tool.name());
            self.plan.unusable.get_or_insert(reason);
        }
        self.following.tools.push(tool);
        self
    }

    /// Adds a tool that the agent calls and another program executes, by reading the events.
    /// Default: none.
    pub fn client_tool_spec(self, tool: ClientToolSpec) -> Self {
        self.configure(|start| start.client_tool(tool))
    }

    /// Sets the Python module that the server imports for a tool. Default: the server has the tools
    /// of its packages and those it was started with.
    pub fn tool_module(self, tool: impl Into<String>, module: impl Into<String>) -> Self {
        self.configure(|start| start.tool_module(tool, module.into()))
    }

    /// Adds an agent to which the agent may delegate work. Names must be unique. Delegating
    /// requires the tool `task_tool_set`. Default: the sub-agents that the server has.
    ///
    /// ```no_run
    /// # async fn begin(workspace: &impl oh_transport::WorkspaceHandle, agent: oh_protocol::config::Agent) -> oh_conversation::Result<()> {
    /// use oh_conversation::Conversation;
    /// use oh_protocol::config::SubAgent;
    ///
    /// let reviewer = SubAgent::new("reviewer")
    ///     .description("reads a change and says what is wrong with it")
    ///     .system_prompt("You review changes.");
    /// let conversation = Conversation::builder(workspace, agent.tool("task_tool_set"))
    ///     .sub_agent(reviewer)
    ///     .start()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn sub_agent(self, agent: SubAgent) -> Self {
        self.configure(|start| start.sub_agent(agent))
    }

    /// Adds a plugin, which combines skills, MCP servers and hooks. Plugins are loaded with the
    /// first message. Default: none.
    ///
    /// The tag `plugins` lists the plugins' sources, without credentials and as many as fit in a
    /// tag, unless the tag is set explicitly. Plugins on the server's disk are not listed.
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plan.sources.extend(plugin.source_url());
        self.configure(|start| start.plugin(plugin))
    }

    /// Uses a separate git worktree, if the directory is in a repository with a commit. Server's
    /// default: works in the directory itself.
    pub fn worktree(self, worktree: Worktree) -> Self {
        self.configure(|start| start.worktree(worktree))
    }

    /// Makes the conversation a child of another one, which must exist and use the same directory.
    /// Default: no parent.
    pub fn parent(self, id: ConversationId) -> Self {
        self.configure(|start| start.parent_conversation_id(id))
    }

    /// Sets whether the server generates a title from the first message. The server uses a separate
    /// model call, which counts towards the conversation's cost. If the call fails, the log has a
    /// `ConversationErrorEvent`, and the run continues. Default: no, unlike the server's default;
    /// [`generate_title`](crate::Title::generate) generates a title on demand.
    pub fn autotitle(self, make: bool) -> Self {
        self.configure(|start| start.autotitle(make))
    }

    /// Sets the profile, on the server, of the model for such titles. Server's default: the agent's
    /// model.
    pub fn title_profile(self, profile: impl Into<String>) -> Self {
        self.configure(|start| start.title_llm_profile(profile))
    }

    /// Sets the prompt for such titles, with `{conversation_content}` and `{max_length}`; at most
    /// 2000 characters. Server's default: its own prompt.
    pub fn title_prompt(self, prompt: impl Into<String>) -> Self {
        self.configure(|start| start.prompt(prompt))
    }

    /// Sets additions to an agent that is defined on the server, by a profile or by settings.
    /// Default: none.
    pub fn launch_additions(self, additions: LaunchAdditions) -> Self {
        self.configure(|start| start.agent_launch_additions(additions))
    }

    /// Sets the user's id, for traces of the server's deployment. Default: none.
    pub fn user_id(self, user: impl Into<String>) -> Self {
        self.configure(|start| start.user_id(user))
    }

    /// Sets the name of the conversation's span in traces: 1 to 128 letters, digits and `._:/-`.
    /// Server's default: `conversation`.
    pub fn span_name(self, name: impl Into<String>) -> Self {
        self.configure(|start| start.observability_span_name(name))
    }

    /// Sets the parent span in another trace, in its serialized form. Default: none.
    pub fn parent_span(self, context: impl Into<String>) -> Self {
        self.configure(|start| start.observability_parent_span_context(context))
    }

    /// Adds a value to the conversation's trace: a boolean, number or text, or a list of one of
    /// these types. Default: none.
    pub fn trace_metadata(self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.configure(|start| start.observability_metadata(name, value))
    }

    /// Adds a tag to the conversation's trace. Default: none.
    pub fn trace_tag(self, tag: impl Into<String>) -> Self {
        self.configure(|start| start.observability_tag(tag))
    }

    /// Sets where the conversation runs. Server's default: as configured there.
    pub fn runtime(self, runtime: ConversationRuntime) -> Self {
        self.configure(|start| start.conversation_runtime(runtime))
    }

    /// Sets the limits of the conversation's container, if it runs in one. Server's default: its
    /// own limits.
    pub fn container(self, container: Container) -> Self {
        self.configure(|start| start.container(container))
    }
}
