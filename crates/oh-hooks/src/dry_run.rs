//! Runs hooks locally the way the server runs them, so that tests take milliseconds and need no
//! server.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use oh_protocol::hooks::{Hook, HookConfig, HookKind};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use crate::{HookInput, HookOutcome, Result, Trial, check, hooks_for};

/// Runs the hooks of a configuration for given events in a local directory.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use oh_hooks::{DryRun, Hook, HookConfig, HookEventType, HookInput};
///
/// let hooks = HookConfig::new().stop(Hook::command("echo 'tests fail' >&2; exit 2"));
/// let trial = DryRun::new("/tmp").run(&hooks, &HookInput::new(HookEventType::Stop)).await?;
/// assert!(trial.denied());
/// assert_eq!(trial.feedback().as_deref(), Some("tests fail"));
/// assert_eq!(trial[0].exit_code, 2);
/// # Ok::<_, oh_hooks::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct DryRun {
    directory: PathBuf,
    variables: BTreeMap<String, String>,
    cap: usize,
    reply: Option<String>,
}

impl DryRun {
    /// Creates a dry run whose hooks run in `directory`. Hooks get the environment of this process
    /// and the variables that the server sets.
    ///
    /// As on the server, hooks do not see the server's own secrets: `SESSION_API_KEY`,
    /// `OH_SESSION_API_KEYS_…`, `OH_SECRET_KEY` and the telemetry keys.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            directory: std::path::absolute(&directory).unwrap_or(directory),
            variables: BTreeMap::new(),
            cap: 1 << 20,
            reply: None,
        }
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Sets how many bytes of stdout and of stderr are kept. Default: 1 MiB each.
    ///
    /// Output beyond the cap is read and dropped, so that a hook never blocks on a full pipe. JSON
    /// beyond the cap is not decoded; [`truncated`](HookOutcome::truncated) is set in that case.
    pub fn output_cap(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// Sets the model's answer to prompt and agent hooks.
    ///
    /// Without an answer, these hooks behave as on a server without a model: they allow the event
    /// and are recorded as failed.
    pub fn reply(mut self, text: impl Into<String>) -> Self {
        self.reply = Some(text.into());
        self
    }

    /// Runs the hooks that match the event, in order, until one denies an event that can be denied.
    ///
    /// Every command runs in its own process group, which is killed when this function returns or
    /// its future is dropped. Processes that a hook leaves behind are killed too; on the server
    /// they would continue to run. A detached hook is also awaited, so that its effects can be
    /// inspected, but its result is ignored.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration breaks one of the server's [rules](check), or if it
    /// has a pattern that only the server can evaluate. Failures of a hook itself are part of its
    /// outcome.
    pub fn run(
        &self,
        hooks: &HookConfig,
        input: &HookInput,
    ) -> impl Future<Output = Result<Trial>> + Send + use<> {
        let (this, hooks, input) = (self.clone(), hooks.clone(), input.clone());
        async move { this.run_all(&hooks, &input).await }
    }

    async fn run_all(&self, hooks: &HookConfig, input: &HookInput) -> Result<Trial> {
        check(hooks)?;
        let mut outcomes = Vec::new();
        for hook in hooks_for(hooks, &input.event_type, input.tool_name.as_deref())? {
            let outcome = Box::pin(self.run_one(hook, input)).await;
            let denied = outcome.blocked && input.event_type.can_block();
            outcomes.push(outcome);
            if denied {
                break;
            }
        }
        Ok(Trial {
            event: input.event_type.clone(),
            outcomes,
        })
    }

    async fn run_one(&self, hook: &Hook, input: &HookInput) -> HookOutcome {
        let started = Instant::now();
        let reply = self.reply.as_deref();
        let outcome = match hook.kind() {
            HookKind::Prompt => HookOutcome::judge_reply("Prompt", reply),
            HookKind::Agent => HookOutcome::judge_reply("Agent", reply),
            HookKind::Command => self.run_command(hook, input).await,
            other => HookOutcome::failed(format!("hooks of type {other} run only on the server")),
        };
        HookOutcome {
            hook: hook.label(),
            duration: started.elapsed(),
            ..outcome
        }
    }

    async fn run_command(&self, hook: &Hook, input: &HookInput) -> HookOutcome {
        let event = serde_json::to_vec(&self.placed(input)).unwrap_or_default();
        let mut child = match self.shell(hook, input).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return HookOutcome::failed(format!("Hook command not found: {error}"));
            }
            Err(error) => return HookOutcome::failed(format!("Hook execution failed: {error}")),
        };
        let mut group = Group(child.id());
        let limit = hook.time_limit();
        let talk = talk(&mut child, &mut group, &event, self.cap);
        let ended = tokio::time::timeout(limit, talk).await;
        if hook.is_detached() {
            // The server does not wait for a detached hook, so its result has no effect.
            return HookOutcome {
                success: true,
                ..HookOutcome::default()
            };
        }
        match ended {
            Err(_) => {
                let seconds = limit.as_secs();
                HookOutcome::failed(format!("Hook timed out after {seconds} seconds"))
            }
            Ok(Err(error)) => HookOutcome::failed(format!("Hook execution failed: {error}")),
            Ok(Ok((code, stdout, stderr))) => HookOutcome {
                truncated: stdout.cut || stderr.cut,
                ..HookOutcome::judge(code, stdout.text, stderr.text)
            },
        }
    }

    fn shell(&self, hook: &Hook, input: &HookInput) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", hook.command_line()])
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(is_the_servers) {
                command.env_remove(name);
            }
        }
        if std::env::var_os("AI_AGENT").is_none_or(|name| name.is_empty()) {
            command.env("AI_AGENT", "openhands");
        }
        let session = input.session_id.as_deref().unwrap_or("");
        command
            .env("OPENHANDS_PROJECT_DIR", &self.directory)
            .env("OPENHANDS_SESSION_ID", session)
            .env("OPENHANDS_EVENT_TYPE", input.event_type.as_str());
        if let Some(tool) = input.tool_name.as_deref().filter(|name| !name.is_empty()) {
            command.env("OPENHANDS_TOOL_NAME", tool);
        }
        command.envs(&self.variables);
        command
    }

    fn placed(&self, input: &HookInput) -> HookInput {
        let mut input = input.clone();
        let here = |path: &Path| path.display().to_string();
        input
            .working_dir
            .get_or_insert_with(|| here(&self.directory));
        input
    }
}

/// Returns whether the server removes the variable from the environment of its hooks.
fn is_the_servers(name: &str) -> bool {
    name.starts_with("OH_SESSION_API_KEYS_")
        || matches!(
            name,
            "SESSION_API_KEY"
                | "OH_SECRET_KEY"
                | "LMNR_PROJECT_API_KEY"
                | "OTEL_HEADERS"
                | "OTEL_EXPORTER_OTLP_HEADERS"
                | "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
        )
}

/// Kills a process group when its leader has exited or when this guard is dropped.
struct Group(Option<u32>);

impl Group {
    /// Waits until the leader has exited, then kills the rest of the group before the leader is
    /// reaped. After that, the process id could belong to another process.
    async fn leader_ended(&mut self) -> io::Result<()> {
        let Some(leader) = self.id() else {
            return Ok(());
        };
        let ended = tokio::task::spawn_blocking(move || {
            use rustix::process::{WaitId, WaitIdOptions, waitid};
            loop {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                match waitid(WaitId::Pid(leader), options) {
                    Err(rustix::io::Errno::INTR) => {}
                    ended => return ended.map(drop),
                }
            }
        });
        ended.await.map_err(io::Error::other)??;
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        if let Some(group) = self.id() {
            // Fails if the hook left no processes behind.
            _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        self.0 = None;
    }

    fn id(&self) -> Option<rustix::process::Pid> {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        id.and_then(rustix::process::Pid::from_raw)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// The output of a pipe, and whether it was truncated.
struct Kept {
    text: String,
    cut: bool,
}

async fn talk(
    child: &mut Child,
    group: &mut Group,
    event: &[u8],
    cap: usize,
) -> io::Result<(i32, Kept, Kept)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // Fails if the hook exits without reading its event, which is allowed.
            _ = stdin.write_all(event).await;
        }
    };
    let ((), stdout, stderr) = tokio::join!(write, kept(stdout, cap), kept(stderr, cap));
    let (stdout, stderr) = (stdout?, stderr?);
    group.leader_ended().await?;
    let status = child.wait().await?;
    let code = status
        .code()
        .unwrap_or_else(|| status.signal().map_or(-1, |signal| -signal));
    Ok((code, stdout, stderr))
}

async fn kept(pipe: Option<impl AsyncRead + Unpin>, cap: usize) -> io::Result<Kept> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let mut cut = false;
    if let Some(mut pipe) = pipe {
        loop {
            let read = pipe.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            let take = read.min(cap - all.len());
            all.extend_from_slice(&buffer[..take]);
            cut |= take < read;
        }
    }
    let text = match cut {
        // The cap may have cut a multi-byte character.
        true => String::from_utf8_lossy(&all).into_owned(),
        // The server decodes output as strict UTF-8; a hook fails if it writes anything else.
        false => String::from_utf8(all)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
    };
    // Python's text mode translates newlines in the same way.
    let text = match text.contains('\r') {
        true => text.replace("\r\n", "\n").replace('\r', "\n"),
        false => text,
    };
    Ok(Kept { text, cut })
}
