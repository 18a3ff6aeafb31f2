//! What a conversation can be started with besides its agent and its directory: a method for each
//! field of the start request. Knows no rules; the request checks itself.

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
    /// Uses this id. Default: a random one. If the server has it already, that conversation is
    /// found and everything else here is ignored, as the server does:
    /// [`origin`](crate::Conversation::origin) says so, and what differs.
    pub fn id(self, id: ConversationId) -> Self {
        self.configure(|start| start.conversation_id(id))
    }

    /// A message that the conversation begins with. It **always starts a run**, whatever it says
    /// of that itself; [`join`](crate::Conversation::join) awaits it. Not sent to a conversation
    /// that is found. Default: none.
    pub fn initial_message(self, message: impl Into<InitialMessage>) -> Self {
        self.configure(|start| start.initial_message(message))
    }

    /// Hooks to run on the server. Default: none; the server does not look for any itself.
    pub fn hooks(self, hooks: HookConfig) -> Self {
        self.configure(|start| start.hook_config(hooks))
    }

    /// After how many steps a run ends in error. Server's default: 500.
    pub fn max_iterations(self, steps: u32) -> Self {
        self.configure(|start| start.max_iterations(steps))
    }

    /// Whether an agent that goes in circles is stopped. Server's default: yes.
    pub fn stuck_detection(self, stop: bool) -> Self {
        self.configure(|start| start.stuck_detection(stop))
    }

    /// When an action waits for approval before it runs. Server's default: never.
    pub fn confirmation_policy(self, policy: ConfirmationPolicy) -> Self {
        self.configure(|start| start.confirmation_policy(policy))
    }

    /// Asks for approval of every action before it runs. Server's default: of none.
    pub fn always_confirm(self) -> Self {
        self.configure(StartConversation::always_confirm)
    }

    /// What judges how risky an action is. Server's default: nothing but the agent's model.
    pub fn security_analyzer(self, analyzer: SecurityAnalyzer) -> Self {
        self.configure(|start| start.security_analyzer(analyzer))
    }

    /// A tag: key of `a-z` and `0-9`, value of at most 256 characters. Default: none, but for what
    /// [`plugin`](Self::plugin) says.
    pub fn tag(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configure(|start| start.tag(key, value))
    }

    /// Several tags at once, such as those an automation environment asks for; a later
    /// [`tag`](Self::tag) of the same key wins. Default: none.
    pub fn tags<K: Into<String>, V: Into<String>>(
        self,
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let tags = tags.into_iter();
        self.configure(|start| tags.fold(start, |start, (key, value)| start.tag(key, value)))
    }

    /// A secret that the agent's commands find in their environment, kept with the conversation
    /// and masked in what they print. A text, or a lookup by the server. Default: none.
    pub fn secret(self, name: impl Into<String>, source: impl Into<SecretSource>) -> Self {
        self.configure(|start| start.secret(name, source))
    }

    /// Whether secrets given here are as the server encrypted them itself, under
    /// `X-Expose-Secrets: encrypted`. Server's default: no.
    pub fn secrets_encrypted(self, encrypted: bool) -> Self {
        self.configure(|start| start.secrets_encrypted(encrypted))
    }

    /// A tool that the agent calls and this program carries out; each name once. Default: none.
    pub fn client_tool(mut self, tool: ClientTool) -> Self {
        self = self.client_tool_spec(tool.spec());
        self.following.tools.push(tool);
        self
    }

    /// A tool that the agent calls and somebody else carries out, who reads the events. Default:
    /// none.
    pub fn client_tool_spec(self, tool: ClientToolSpec) -> Self {
        self.configure(|start| start.client_tool(tool))
    }

    /// A Python module that the server imports to know the tool of a name. Default: it knows those
    /// of its own packages and of what it was started with.
    pub fn tool_module(self, tool: impl Into<String>, module: impl Into<String>) -> Self {
        self.configure(|start| start.tool_module(tool, module.into()))
    }

    /// An agent that the agent may give work to; each name once. It takes the tool
    /// `task_tool_set` to do so. Default: those that the server has.
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

    /// A plugin: skills, servers of the Model Context Protocol and hooks in one. Loaded with the
    /// first message. Default: none.
    ///
    /// The tag `plugins` names where they come from, without credentials and as many as a tag
    /// holds, unless it is set otherwise; those on the server's disk are not named.
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plan.sources.extend(plugin.source_url());
        self.configure(|start| start.plugin(plugin))
    }

    /// Works in a git worktree of its own, where the directory is in a repository with a commit.
    /// Server's default: in the directory itself.
    pub fn worktree(self, worktree: Worktree) -> Self {
        self.configure(|start| start.worktree(worktree))
    }

    /// Makes it a part of another conversation, which exists and works in the same directory.
    /// Default: it stands for itself.
    pub fn parent(self, id: ConversationId) -> Self {
        self.configure(|start| start.parent_conversation_id(id))
    }

    /// Whether the server makes a title of the first message, with a model call of its own that
    /// the conversation pays for. Should it fail, the log has a `ConversationErrorEvent`; the run
    /// does not end by it. Default: no, unlike the server's;
    /// [`generate_title`](crate::Conversation::generate_title) makes one when it is wanted.
    pub fn autotitle(self, make: bool) -> Self {
        self.configure(|start| start.autotitle(make))
    }

    /// The profile of the model for such titles, on the server. Server's default: the agent's
    /// model.
    pub fn title_profile(self, profile: impl Into<String>) -> Self {
        self.configure(|start| start.title_llm_profile(profile))
    }

    /// What that model is asked, with `{conversation_content}` and `{max_length}`; at most 2000
    /// characters. Server's default: its own words.
    pub fn title_prompt(self, prompt: impl Into<String>) -> Self {
        self.configure(|start| start.prompt(prompt))
    }

    /// What is added to an agent that the server knows better than the caller: one of a profile
    /// or of settings. Default: nothing.
    pub fn launch_additions(self, additions: LaunchAdditions) -> Self {
        self.configure(|start| start.agent_launch_additions(additions))
    }

    /// Who the user is, for traces of the server's deployment. Default: nobody.
    pub fn user_id(self, user: impl Into<String>) -> Self {
        self.configure(|start| start.user_id(user))
    }

    /// What the conversation's span is called in traces: letters, digits and `._:/-`, at most
    /// 128. Server's default: `conversation`.
    pub fn span_name(self, name: impl Into<String>) -> Self {
        self.configure(|start| start.observability_span_name(name))
    }

    /// The span of another trace that this one is part of, in its serialized form. Default: none.
    pub fn parent_span(self, context: impl Into<String>) -> Self {
        self.configure(|start| start.observability_parent_span_context(context))
    }

    /// A value for the conversation's trace: a boolean, number or text, or a list of one of them.
    /// Default: none.
    pub fn trace_metadata(self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.configure(|start| start.observability_metadata(name, value))
    }

    /// A tag for the conversation's trace. Default: none.
    pub fn trace_tag(self, tag: impl Into<String>) -> Self {
        self.configure(|start| start.observability_tag(tag))
    }

    /// Where the conversation runs. Server's default: as it is configured.
    pub fn runtime(self, runtime: ConversationRuntime) -> Self {
        self.configure(|start| start.conversation_runtime(runtime))
    }

    /// What its container may use, where it runs in one. Server's default: its own limits.
    pub fn container(self, container: Container) -> Self {
        self.configure(|start| start.container(container))
    }
}
