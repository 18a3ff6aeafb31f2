//! How a fake server is set up before it starts.

use std::{collections::HashMap, fmt, sync::Arc};

use oh_protocol::event::SecurityRisk;
use serde_json::Value;

use super::{
    CommandOutput, FakeServer, HookCall, Observation, ProposedAction, Serving, Verdict,
    world::{Analyze, Judge, Shell, Tool, World},
};
use crate::{Result, Script, http::Listening};

/// Builds a [`FakeServer`].
#[must_use]
pub struct FakeServerBuilder {
    pub(super) key: Option<String>,
    pub(super) secret_key: Option<String>,
    pub(super) version: String,
    pub(super) session_socket: bool,
    pub(super) updates_first: bool,
    pub(super) runs_wait: bool,
    pub(super) max_concurrent_runs: usize,
    pub(super) seed: u64,
    pub(super) script: Script,
    pub(super) tools: HashMap<String, Tool>,
    pub(super) judge: Judge,
    pub(super) analyze: Option<Analyze>,
    pub(super) shell: Option<Shell>,
}

impl Default for FakeServerBuilder {
    fn default() -> Self {
        Self {
            key: Some("fake-session-key".to_owned()),
            secret_key: None,
            version: "1.58.0".to_owned(),
            session_socket: true,
            updates_first: false,
            runs_wait: false,
            max_concurrent_runs: 10,
            seed: 0,
            script: Script::new(),
            tools: HashMap::new(),
            judge: Arc::new(|_| Verdict::allow()),
            analyze: None,
            shell: None,
        }
    }
}

impl FakeServerBuilder {
    /// The session key it asks for. Default: `fake-session-key`.
    pub fn session_api_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Asks for no key.
    pub fn open(mut self) -> Self {
        self.key = None;
        self
    }

    /// Starts dormant, as with `OH_DEFERRED_INIT`: `/api` and `/v1` answer 503 and sockets 403
    /// until somebody who knows this secret key posts to `/api/init`. Session keys and the number
    /// of runs that come with it hold from then on, through restarts too; the rest of it is about
    /// a machine, and ignored. Default: awake.
    pub fn deferred_init(mut self, secret_key: impl Into<String>) -> Self {
        self.secret_key = Some(secret_key.into());
        self
    }

    /// The version it says it is. Default: 1.58.0. It behaves as 1.58 all the same, but for
    /// [`without_session_socket`](Self::without_session_socket),
    /// [`updates_before_messages`](Self::updates_before_messages) and
    /// [`runs_wait_for_tools`](Self::runs_wait_for_tools).
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Has only the legacy event socket, as servers before 1.45.
    pub fn without_session_socket(mut self) -> Self {
        self.session_socket = false;
        self
    }

    /// Sends a user's message to sockets after the `last_user_message_id` update that follows it
    /// in the log, as servers 1.45 to 1.57 do: a session socket gets `seq` 0, 2, 1, 3. The log, a
    /// replay and REST have the order of the log. Default: in order, as 1.58 does.
    ///
    /// [`Fault::swap`](crate::Fault::swap) is the same for any event, and
    /// [`Fault::gap`](crate::Fault::gap) leaves one out.
    pub fn updates_before_messages(mut self) -> Self {
        self.updates_first = true;
        self
    }

    /// Answers `/run`, an approval and a message that runs only once the tool that is at work has
    /// ended, as servers of 1.45 to 1.50 do: they look at the status behind the state's lock. What
    /// they find then decides: 409 while the run goes on, and an approval where an action waits.
    /// Default: while a run is under way `/run` is answered with 409 at once, as by 1.57 and later.
    /// Messages, rejections, pauses and changed settings wait for the tool in each case.
    pub fn runs_wait_for_tools(mut self) -> Self {
        self.runs_wait = true;
        self
    }

    /// How many conversations may run at once (`OH_MAX_CONCURRENT_RUNS`). Default: 10, as the
    /// agent server's. While all are taken, runs, goals, children and new conversations are
    /// refused with 429; a message that was to run is saved all the same.
    pub fn max_concurrent_runs(mut self, most: usize) -> Self {
        self.max_concurrent_runs = most;
        self
    }

    /// Fixes ids and chance. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What the agents say and do. Without [`Script::each_conversation`] all conversations
    /// share one sequence.
    pub fn script(mut self, script: Script) -> Self {
        self.script = script;
        self
    }

    /// What a tool answers to its arguments. Those of the server's default agent (`terminal`,
    /// `file_editor`, `task_tracker`, the `browser_*` tools of `browser_tool_set`, `finish`, `think`)
    /// have answers of their own, most of them empty.
    pub fn tool(
        mut self,
        name: impl Into<String>,
        play: impl Fn(&Value) -> Observation + Send + Sync + 'static,
    ) -> Self {
        self.tools.insert(name.into(), Arc::new(play));
        self
    }

    /// How configured hooks end. Default: they allow.
    pub fn hooks(mut self, judge: impl Fn(&HookCall) -> Verdict + Send + Sync + 'static) -> Self {
        self.judge = Arc::new(judge);
        self
    }

    /// Sets how security analyzers other than `LLMSecurityAnalyzer` judge an action.
    ///
    /// The agent proposes an action; where its conversation has a security analyzer, the analyzer
    /// judges it, the verdict is logged as a `SecurityAnalysisEvent`, and the confirmation policy
    /// `ConfirmRisky` decides by it whether the action waits for an approval. Without an analyzer
    /// every risk is unknown. The `LLMSecurityAnalyzer` repeats what the model claims with the
    /// argument `security_risk` of a call, and needs no closure.
    ///
    /// Default: each verdict is [`Unknown`](SecurityRisk::Unknown), and [`FakeServer::verify`]
    /// reports that an analyzer was asked that the fake server cannot play. A panic in the closure
    /// is a `HIGH` risk, as a failing analyzer is on the agent server, and is reported too.
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
        self.analyze = Some(Arc::new(analyze));
        self
    }

    /// What shell commands (`/api/bash`) answer. Default: 501.
    pub fn commands(
        mut self,
        shell: impl Fn(&str) -> CommandOutput + Send + Sync + 'static,
    ) -> Self {
        self.shell = Some(Arc::new(shell));
        self
    }

    /// Opens the port and serves.
    ///
    /// # Errors
    ///
    /// When no port can be opened.
    pub async fn start(self) -> Result<FakeServer> {
        let world = Arc::new(World::new(self));
        let listening = Listening::start(Serving(Arc::clone(&world))).await?;
        Ok(FakeServer { listening, world })
    }
}

impl fmt::Debug for FakeServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeServerBuilder")
            .field("version", &self.version)
            .field("seed", &self.seed)
            .field("script", &self.script)
            .finish_non_exhaustive()
    }
}
