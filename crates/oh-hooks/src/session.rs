//! The hooks of a session that run here: those an old server leaves to its client, and a
//! program's own. Knows no server: it is told which one it is.

use std::path::PathBuf;

use oh_protocol::{
    Event, Payload,
    calls::server::ServerInfo,
    event::HookExecutionEvent,
    hooks::{HookConfig, HookEventType, HookMatcher},
};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    DryRun, Error, ErrorKind, HookExecution, HookInput, HookOutcome, LocalExecutions, Result,
};

/// The first version of the server that takes a conversation's hooks, and runs them all.
const FIRST_TO_RUN_THEM: (u32, u32, u32) = (1, 10, 0);

/// Whether a server runs the SessionStart and SessionEnd hooks of a conversation itself.
///
/// Seen on real ones: 1.9 passes over a conversation's hooks, all of them, and so leaves those of
/// the session to the client; 1.10, 1.12 and 1.13 run them as every later one does. (The Python
/// client up to 1.12 ran them for every server, but never told the server of them. This one does,
/// and running them here, too, would be twice.) A version that does not read as one is taken for a
/// newer server.
pub fn server_runs_session_hooks(server: &ServerInfo) -> bool {
    server
        .version_numbers()
        .is_none_or(|version| version >= FIRST_TO_RUN_THEM)
}

/// Runs SessionStart and SessionEnd hooks here, each once.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let server: oh_protocol::calls::server::ServerInfo =
/// #     serde_json::from_str(r#"{"version": "1.58.0"}"#).unwrap();
/// # let hooks = oh_hooks::HookConfig::new();
/// use oh_hooks::{Hook, HookConfig, SessionHooks};
///
/// let mut session = SessionHooks::new("/tmp")
///     // What the conversation was given: nothing of it, where the server runs it itself.
///     .of_conversation(&hooks, &server)
///     // What this program wants to have run here, whatever the server.
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
    /// A session without hooks yet; they will run in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            run: DryRun::new(directory),
            hooks: HookConfig::new(),
            id: None,
            watchers: Vec::new(),
            started: false,
        }
    }

    /// Adds the session hooks of a conversation if its server leaves them to the client, and
    /// nothing if the server [runs them itself](server_runs_session_hooks).
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

    /// Adds hooks that run here whatever the server: checks at the start, cleaning up at the end.
    pub fn own(mut self, hooks: HookConfig) -> Self {
        self.hooks = self.hooks.merge(hooks);
        self
    }

    /// The conversation's id, for `OPENHANDS_SESSION_ID`.
    pub fn session_id(mut self, id: impl ToString) -> Self {
        self.id = Some(id.to_string());
        self
    }

    /// Adds an environment variable. The hooks have this process's own otherwise.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.run = self.run.env(name, value);
        self
    }

    /// The hooks that run from now on, for [`Executions::with_local`](crate::Executions::with_local).
    pub fn watch(&mut self) -> LocalExecutions {
        let (sender, watcher) = LocalExecutions::channel();
        self.watchers.push(sender);
        watcher
    }

    /// Runs the SessionStart hooks, and gives what came of each; nothing the second time.
    ///
    /// A hook cannot keep a session from starting: a program that wants that looks at
    /// [`blocked`](HookExecutionEvent::blocked). Context that a hook gives is the program's to
    /// send. When cancelled, the hook that runs ends and the rest does not run any more.
    ///
    /// # Errors
    ///
    /// As [`DryRun::run`], and [`ErrorKind::Invalid`] for a hook that is about neither
    /// SessionStart nor SessionEnd; nothing was run then.
    pub async fn start(&mut self) -> Result<Vec<HookExecution>> {
        let foreign = self.hooks.iter().find(|(event, _, _)| !of_session(event));
        if let Some((event, _, hook)) = foreign {
            let (field, label) = (event.field(), hook.label());
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{field} `{label}` cannot run on the client: give it to the conversation"),
                None,
            ));
        }
        crate::check(&self.hooks)?;
        if std::mem::replace(&mut self.started, true) {
            return Ok(Vec::new());
        }
        self.all(HookEventType::SessionStart).await
    }

    /// Runs the SessionEnd hooks of a session that was started, and ends the watchers.
    ///
    /// # Errors
    ///
    /// As [`DryRun::run`].
    pub async fn end(self) -> Result<Vec<HookExecution>> {
        if !self.started {
            return Ok(Vec::new());
        }
        self.all(HookEventType::SessionEnd).await
    }

    /// One after the other, so that each is told when it is through.
    async fn all(&self, event: HookEventType) -> Result<Vec<HookExecution>> {
        let mut input = HookInput::new(event.clone());
        input.session_id.clone_from(&self.id);
        let mut executions = Vec::new();
        for hook in crate::hooks_for(&self.hooks, &event, None)? {
            let one = HookConfig::new().on(event.clone(), HookMatcher::all().hook(hook.clone()));
            for outcome in self.run.run(&one, &input).await?.outcomes {
                let Some(execution) = local(&event, outcome) else {
                    continue;
                };
                for watcher in &self.watchers {
                    // Whoever does not watch any more is not told.
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

/// What the server keeps of a text in its log: 50,000 characters.
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

/// In the server's own form, read by the same reader; it always reads.
fn local(event: &HookEventType, outcome: HookOutcome) -> Option<HookExecution> {
    let took = outcome.took;
    let wire = json!({
        "kind": "HookExecutionEvent",
        "id": "",
        "timestamp": "",
        "source": "hook",
        "hook_event_type": event.as_str(),
        "hook_command": outcome.hook,
        "success": outcome.success,
        "blocked": outcome.blocked,
        "exit_code": outcome.exit_code,
        "stdout": as_logged(outcome.stdout),
        "stderr": as_logged(outcome.stderr),
        "reason": outcome.reason.map(as_logged),
        "additional_context": outcome.additional_context.map(as_logged),
        "error": outcome.error.map(as_logged),
    });
    let event = Event::from_json(wire.to_string()).ok()?;
    match event.payload() {
        Payload::HookExecution(hook) => Some(HookExecution {
            event: HookExecutionEvent::clone(hook),
            local: true,
            took: Some(took),
        }),
        _ => None,
    }
}
