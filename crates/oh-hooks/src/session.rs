//! Session hooks that run on the client: the hooks that an old server does not run, and hooks of
//! the program.

use std::path::PathBuf;

use oh_protocol::{
    calls::server::ServerInfo,
    event::HookExecutionEvent,
    hooks::{HookConfig, HookEventType, HookMatcher},
};
use tokio::sync::mpsc;

use crate::{
    DryRun, Error, ErrorKind, HookExecution, HookInput, HookOutcome, LocalExecutions, Result,
};

/// The first server version that accepts a conversation's hooks and runs all of them.
const FIRST_WITH_SESSION_HOOKS: (u32, u32, u32) = (1, 10, 0);

/// Returns whether a server runs the SessionStart and SessionEnd hooks of a conversation itself.
///
/// Verified on real servers: version 1.9 ignores all hooks of a conversation, so the client has to
/// run the session hooks. Versions 1.10, 1.12, 1.13 and all later ones run them. The Python client
/// up to 1.12 ran session hooks for every server but never sent them to the server. This client
/// sends them, so also running them locally would run them twice. A version that cannot be parsed
/// is treated as a newer server.
pub fn server_runs_session_hooks(server: &ServerInfo) -> bool {
    server
        .version_numbers()
        .is_none_or(|version| version >= FIRST_WITH_SESSION_HOOKS)
}

/// Runs SessionStart and SessionEnd hooks on the client, each once.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let server: oh_protocol::calls::server::ServerInfo =
/// #     serde_json::from_str(r#"{"version": "1.58.2"}"#).unwrap();
/// # let hooks = oh_hooks::HookConfig::new();
/// use oh_hooks::{Hook, HookConfig, SessionHooks};
///
/// let mut session = SessionHooks::new("/tmp")
///     // The session hooks of the conversation, if the server does not run them.
///     .of_conversation(&hooks, &server)
///     // Hooks of this program, which run with every server.
///     .own(HookConfig::new().session_start(Hook::command("command -v sh")));
/// for hook in session.start().await? {
///     assert!(hook.local && hook.success, "{hook:?}");
/// }
/// session.end().await?;
/// # Ok::<_, oh_hooks::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "hooks run when the session is started and ended"]
pub struct SessionHooks {
    run: DryRun,
    hooks: HookConfig,
    id: Option<String>,
    watchers: Vec<mpsc::UnboundedSender<HookExecution>>,
    started: bool,
}

impl SessionHooks {
    /// Creates a session without hooks. Hooks will run in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            run: DryRun::new(directory),
            hooks: HookConfig::new(),
            id: None,
            watchers: Vec::new(),
            started: false,
        }
    }

    /// Adds the session hooks of a conversation if its server does not run them. Adds nothing if
    /// the server [runs them itself](server_runs_session_hooks).
    pub fn of_conversation(mut self, hooks: &HookConfig, server: &ServerInfo) -> Self {
        if !server_runs_session_hooks(server) {
            for event in [HookEventType::SessionStart, HookEventType::SessionEnd] {
                for matcher in hooks.matchers(&event) {
                    self.hooks = self.hooks.on(event.clone(), matcher.clone());
                }
            }
        }
        self
    }

    /// Adds hooks that run on the client with every server, such as checks at the start and cleanup
    /// at the end.
    pub fn own(mut self, hooks: HookConfig) -> Self {
        self.hooks = self.hooks.merge(hooks);
        self
    }

    /// Sets the conversation id, which hooks get as `OPENHANDS_SESSION_ID`.
    pub fn session_id(mut self, id: impl ToString) -> Self {
        self.id = Some(id.to_string());
        self
    }

    /// Adds an environment variable. Hooks also inherit the environment of this process.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.run = self.run.env(name, value);
        self
    }

    /// Returns a stream of the hooks that run from now on, for
    /// [`Executions::with_local`](crate::Executions::with_local).
    pub fn watch(&mut self) -> LocalExecutions {
        let (sender, watcher) = LocalExecutions::channel();
        self.watchers.push(sender);
        watcher
    }

    /// Runs the SessionStart hooks and returns their results. Returns an empty list if the session
    /// has already been started.
    ///
    /// A hook cannot prevent the start of a session; a program that wants this checks
    /// [`blocked`](HookExecutionEvent::blocked). Context added by a hook is not sent to the agent
    /// automatically.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`DryRun::run`], and [`ErrorKind::InvalidInput`] for a hook of any
    /// event other than SessionStart and SessionEnd. In the latter case no hook was run.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the running hook is killed and the remaining hooks do not run.
    pub async fn start(&mut self) -> Result<Vec<HookExecution>> {
        let foreign = self.hooks.iter().find(|(event, _, _)| !of_session(event));
        if let Some((event, _, hook)) = foreign {
            let (field, label) = (event.field(), hook.label());
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "{field} `{label}` cannot run on the client: configure it for the \
                     conversation instead"
                ),
                None,
            ));
        }
        crate::check(&self.hooks)?;
        if std::mem::replace(&mut self.started, true) {
            return Ok(Vec::new());
        }
        self.all(HookEventType::SessionStart).await
    }

    /// Runs the SessionEnd hooks and ends the watchers. Returns an empty list if the session was
    /// not started.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`DryRun::run`].
    pub async fn end(self) -> Result<Vec<HookExecution>> {
        if !self.started {
            return Ok(Vec::new());
        }
        self.all(HookEventType::SessionEnd).await
    }

    /// Runs hooks one by one, so that watchers are notified as soon as each of them ends.
    async fn all(&self, event: HookEventType) -> Result<Vec<HookExecution>> {
        let mut input = HookInput::new(event.clone());
        input.session_id.clone_from(&self.id);
        let mut executions = Vec::new();
        for hook in crate::hooks_for(&self.hooks, &event, None)? {
            let one = HookConfig::new().on(event.clone(), HookMatcher::all().hook(hook.clone()));
            for outcome in self.run.run(&one, &input).await?.outcomes {
                let execution = local(&event, outcome);
                for watcher in &self.watchers {
                    // Fails if the watcher has been dropped.
                    _ = watcher.send(execution.clone());
                }
                executions.push(execution);
            }
        }
        Ok(executions)
    }
}

fn of_session(event: &HookEventType) -> bool {
    matches!(
        event,
        HookEventType::SessionStart | HookEventType::SessionEnd
    )
}

/// Truncates a text to 50,000 characters, as the server does in its event log.
fn as_logged(text: String) -> String {
    const MOST: usize = 50_000;
    const CUT: &str = "\n<TRUNCATED>";
    match text.char_indices().nth(MOST) {
        None => text,
        Some(_) => text
            .chars()
            .take(MOST - CUT.len())
            .chain(CUT.chars())
            .collect(),
    }
}

/// Returns the execution as the server would log it.
fn local(event: &HookEventType, outcome: HookOutcome) -> HookExecution {
    let logged = |text: Option<String>| text.map(|text| as_logged(text).into());
    let mut execution = HookExecutionEvent::default();
    execution.hook_event_type = event.as_str().into();
    execution.hook_command = outcome.hook.into();
    execution.success = outcome.success;
    execution.blocked = outcome.blocked;
    execution.exit_code = Some(outcome.exit_code);
    execution.stdout = as_logged(outcome.stdout).into();
    execution.stderr = as_logged(outcome.stderr).into();
    execution.reason = logged(outcome.reason);
    execution.additional_context = logged(outcome.additional_context);
    execution.error = logged(outcome.error);
    HookExecution {
        event: execution,
        local: true,
        duration: Some(outcome.duration),
    }
}
