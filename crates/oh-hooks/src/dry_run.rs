//! Runs hooks here, as the server would there: to test them in milliseconds, without a server.
//!
//! Command hooks only: a prompt or agent hook needs the agent's model, and is reported as what the
//! server makes of one without a model.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use oh_protocol::hooks::{Hook, HookConfig, HookKind};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use crate::{HookInput, HookOutcome, Result, check, hooks_for};

/// Runs a configuration against events, in a directory.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use oh_hooks::{DryRun, Hook, HookConfig, HookEventType, HookInput};
///
/// let hooks = HookConfig::new().stop(Hook::command("echo 'tests fail' >&2; exit 2"));
/// let outcomes = DryRun::new("/tmp").run(&hooks, &HookInput::new(HookEventType::Stop)).await?;
/// assert_eq!(outcomes[0].feedback(), Some("tests fail"));
/// # Ok::<_, oh_hooks::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct DryRun {
    directory: PathBuf,
    variables: BTreeMap<String, String>,
    cap: usize,
}

impl DryRun {
    /// Hooks run in `directory`, with this process's environment and the server's variables.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            variables: BTreeMap::new(),
            cap: 1 << 20,
        }
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// How many bytes of stdout and of stderr are kept (1 MiB each). The rest is read and dropped,
    /// so that a hook never waits; JSON beyond the cap is not seen.
    pub fn output_cap(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// Runs the hooks that the event concerns, in order, until one denies what it can deny.
    ///
    /// Every command is a process group of its own, which is gone when this returns or is dropped.
    ///
    /// # Errors
    ///
    /// When the configuration is against the server's [rules](check), or has a pattern that only
    /// the server can read. What a hook does wrong is in its outcome.
    pub async fn run(&self, hooks: &HookConfig, input: &HookInput) -> Result<Vec<HookOutcome>> {
        check(hooks)?;
        let mut outcomes = Vec::new();
        for hook in hooks_for(hooks, input.event_type, input.tool_name.as_deref())? {
            let outcome = Box::pin(self.run_one(hook, input)).await;
            let denied = outcome.blocked && input.event_type.can_block();
            outcomes.push(outcome);
            if denied {
                break;
            }
        }
        Ok(outcomes)
    }

    async fn run_one(&self, hook: &Hook, input: &HookInput) -> HookOutcome {
        let started = Instant::now();
        let outcome = match hook.kind() {
            HookKind::Command => self.run_command(hook, input).await,
            kind => HookOutcome {
                exit_code: 0,
                ..HookOutcome::failed(format!("No LLM configured for {kind} hook"))
            },
        };
        HookOutcome {
            hook: hook.label(),
            took: started.elapsed(),
            ..outcome
        }
    }

    async fn run_command(&self, hook: &Hook, input: &HookInput) -> HookOutcome {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", hook.command_line()])
            .current_dir(&self.directory)
            .env("OPENHANDS_PROJECT_DIR", &self.directory)
            .env(
                "OPENHANDS_SESSION_ID",
                input.session_id.as_deref().unwrap_or(""),
            )
            .env("OPENHANDS_EVENT_TYPE", input.event_type.as_str())
            .envs(&self.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(tool) = &input.tool_name {
            command.env("OPENHANDS_TOOL_NAME", tool);
        }
        let event = serde_json::to_vec(&self.placed(input)).unwrap_or_default();
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return HookOutcome::failed(format!("Hook command not found: {error}")),
        };
        let _group = Group(child.id());
        let limit = Duration::from_secs(hook.timeout_seconds());
        let ended = tokio::time::timeout(limit, talk(&mut child, &event, self.cap)).await;
        if hook.is_detached() {
            // The server does not wait for it, so nothing it does counts.
            return HookOutcome {
                success: true,
                ..HookOutcome::default()
            };
        }
        match ended {
            Err(_) => {
                let seconds = hook.timeout_seconds();
                HookOutcome::failed(format!("Hook timed out after {seconds} seconds"))
            }
            Ok(Err(error)) => HookOutcome::failed(format!("Hook execution failed: {error}")),
            Ok(Ok((code, stdout, stderr))) => HookOutcome::judge(code, stdout, stderr),
        }
    }

    fn placed(&self, input: &HookInput) -> HookInput {
        let mut input = input.clone();
        let here = || self.directory.display().to_string();
        input.working_dir.get_or_insert_with(here);
        input
    }
}

/// Ends a process group when it goes out of scope, however that comes about.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(rustix::process::Pid::from_raw) {
            // Nothing to end when the hook left nobody behind.
            _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

async fn talk(
    child: &mut Child,
    event: &[u8],
    cap: usize,
) -> std::io::Result<(i32, String, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A hook need not read its event.
            _ = stdin.write_all(event).await;
        }
    };
    let ((), stdout, stderr) = tokio::join!(write, kept(stdout, cap), kept(stderr, cap));
    let (stdout, stderr) = (stdout?, stderr?);
    let status = child.wait().await?;
    let code = status
        .code()
        .unwrap_or_else(|| status.signal().map_or(-1, |signal| -signal));
    Ok((code, stdout, stderr))
}

async fn kept(pipe: Option<impl AsyncRead + Unpin>, cap: usize) -> std::io::Result<String> {
    let Some(mut pipe) = pipe else {
        return Ok(String::new());
    };
    let (mut all, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let mut dropped = false;
    loop {
        let read = pipe.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        let take = read.min(cap - all.len());
        all.extend_from_slice(&buffer[..take]);
        dropped |= take < read;
    }
    if dropped {
        // The cap may have cut a character in two.
        return Ok(String::from_utf8_lossy(&all).into_owned());
    }
    // The server reads UTF-8 strictly, and a hook that writes anything else has failed.
    String::from_utf8(all)
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}
