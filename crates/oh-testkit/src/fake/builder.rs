//! The configuration of a fake server.

use std::{fmt, sync::Arc};

use oh_protocol::event::SecurityRisk;
use serde_json::Value;

use crate::fake::{
    FakeServer,
    serve::Serving,
    state::{
        commands::CommandOutput,
        config::Config,
        policy::ProposedAction,
        tools::{HookCall, Observation, Played, Tool, Verdict},
        world::World,
    },
};
use crate::{Result, Script, http::Listening, model::Model};

/// Builds a [`FakeServer`].
#[must_use]
#[derive(Default)]
pub struct FakeServerBuilder {
    config: Config,
}

impl FakeServer {
    /// Starts a server with an empty script, for tests that write the logs themselves.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be opened.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Returns a builder for a server with a script, tools and hooks.
    pub fn builder() -> FakeServerBuilder {
        FakeServerBuilder::default()
    }
}

impl FakeServerBuilder {
    /// Sets the session key that clients need. Default: `fake-session-key`.
    pub fn session_api_key(mut self, key: impl Into<String>) -> Self {
        self.config.key = Some(key.into());
        self
    }

    /// Disables the session key.
    pub fn open(mut self) -> Self {
        self.config.key = None;
        self
    }

    /// Starts the server dormant, as with `OH_DEFERRED_INIT`. Default: active.
    ///
    /// Until a client sends this secret key to `/api/init`, `/api` and `/v1` return 503 and sockets
    /// return 403. The session keys and the run limit of the activation request stay in effect,
    /// also after restarts. Its other fields configure a machine and are ignored.
    pub fn deferred_init(mut self, secret_key: impl Into<String>) -> Self {
        self.config.secret_key = Some(secret_key.into());
        self
    }

    /// Sets the reported version. Default: 1.58.2.
    ///
    /// The behaviour is that of 1.58, unless it is changed by
    /// [`without_session_socket`](Self::without_session_socket),
    /// [`updates_before_messages`](Self::updates_before_messages) or
    /// [`runs_wait_for_tools`](Self::runs_wait_for_tools).
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.config.version = version.into();
        self
    }

    /// Provides only the legacy event socket, like servers before 1.45.
    pub fn without_session_socket(mut self) -> Self {
        self.config.session_socket = false;
        self
    }

    /// Sends a user's message to sockets after the `last_user_message_id` update that follows it in
    /// the log, like servers 1.45 to 1.57. A session socket receives `seq` 0, 2, 1, 3. The log,
    /// replays and REST use the order of the log. Default: in order, like 1.58.
    ///
    /// [`Fault::swap`](crate::Fault::swap) has the same effect for any event, and
    /// [`Fault::gap`](crate::Fault::gap) omits an event.
    pub fn updates_before_messages(mut self) -> Self {
        self.config.updates_first = true;
        self
    }

    /// Delays the responses to `/run`, to an approval and to a message that starts a run until the
    /// running tool has ended. Servers 1.45 to 1.50 do this, because they check the status while
    /// they hold the state lock.
    ///
    /// The state after the tool decides the outcome: a 409 response if the run continues, or the
    /// approval of an action that waits. Default: `/run` returns 409 immediately while a run is
    /// active, like 1.57 and later. Messages, rejections, pauses and changed settings always wait
    /// for the tool.
    pub fn runs_wait_for_tools(mut self) -> Self {
        self.config.runs_wait = true;
        self
    }

    /// Sets how many conversations may run at once (`OH_MAX_CONCURRENT_RUNS`). Default: 10, as on
    /// the agent server.
    ///
    /// At the limit, runs, goals, children and new conversations are rejected with 429. A message
    /// that would start a run is saved anyway.
    pub fn max_concurrent_runs(mut self, most: usize) -> Self {
        self.config.max_concurrent_runs = most;
        self
    }

    /// Sets the seed of ids and random numbers. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// Sets the script of the agents. Without [`Script::each_conversation`], all conversations
    /// share one sequence.
    pub fn script(mut self, script: Script) -> Self {
        self.config.script = script;
        self
    }

    /// Sets the model of the agents, instead of a script: a [`Model`] or a closure.
    ///
    /// ```
    /// use oh_testkit::{FakeServer, Step, model::ModelRequest};
    ///
    /// let echo = |request: &ModelRequest| Step::text(request.last_text());
    /// let server = FakeServer::builder().model(echo);
    /// # let _ = server;
    /// ```
    pub fn model(self, model: impl Model + 'static) -> Self {
        self.script(Script::of(model))
    }

    /// Sets the observation that a tool returns for its arguments.
    ///
    /// The tools of the server's default agent (`terminal`, `file_editor`, `task_tracker`, the
    /// `browser_*` tools of `browser_tool_set`, `finish`, `think`) have default observations, most
    /// of them empty.
    pub fn tool(
        self,
        name: impl Into<String>,
        play: impl Fn(&Value) -> Observation + Send + Sync + 'static,
    ) -> Self {
        self.custom_tool(name, Played(play))
    }

    /// Sets a tool that has a state, or that depends on the conversation.
    pub fn custom_tool(mut self, name: impl Into<String>, tool: impl Tool + 'static) -> Self {
        self.config.tools.insert(name.into(), Arc::new(tool));
        self
    }

    /// Sets the verdicts of configured hooks. Default: all hooks allow.
    pub fn hooks(mut self, judge: impl Fn(&HookCall) -> Verdict + Send + Sync + 'static) -> Self {
        self.config.judge = Arc::new(judge);
        self
    }

    /// Sets how security analyzers other than `LLMSecurityAnalyzer` assess an action.
    ///
    /// If the conversation has a security analyzer, it assesses each action that the agent
    /// proposes. The result is logged as a `SecurityAnalysisEvent`, and the confirmation policy
    /// `ConfirmRisky` uses it to decide whether the action waits for an approval. Without an
    /// analyzer, all risks are unknown. `LLMSecurityAnalyzer` uses the risk that the model claims
    /// in the argument `security_risk` of a call, and needs no closure.
    ///
    /// Default: all risks are [`Unknown`](SecurityRisk::Unknown), and [`FakeServer::verify`]
    /// reports the use of an analyzer that the fake server cannot play. A panic in the closure
    /// results in a `HIGH` risk, like a failing analyzer on the agent server, and is also reported.
    ///
    /// ```
    /// use oh_protocol::event::SecurityRisk;
    /// use oh_testkit::FakeServer;
    ///
    /// let server = FakeServer::builder().analyzer(|action| match action.tool.as_str() {
    ///     "terminal" => SecurityRisk::High,
    ///     _ => SecurityRisk::Low,
    /// });
    /// # let _ = server;
    /// ```
    pub fn analyzer(
        mut self,
        analyze: impl Fn(&ProposedAction) -> SecurityRisk + Send + Sync + 'static,
    ) -> Self {
        self.config.analyze = Some(Arc::new(analyze));
        self
    }

    /// Sets the results of shell commands (`/api/bash`). Default: 501.
    pub fn commands(
        mut self,
        shell: impl Fn(&str) -> CommandOutput + Send + Sync + 'static,
    ) -> Self {
        self.config.shell = Some(Arc::new(shell));
        self
    }

    /// Opens the port and starts serving.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be opened.
    pub async fn start(self) -> Result<FakeServer> {
        let world = Arc::new(World::new(self.config));
        let listening = Listening::start(Serving(Arc::clone(&world))).await?;
        Ok(FakeServer { listening, world })
    }
}

impl fmt::Debug for FakeServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeServerBuilder")
            .field("version", &self.config.version)
            .field("seed", &self.config.seed)
            .field("script", &self.config.script)
            .finish_non_exhaustive()
    }
}
