//! A process under measurement: told what to do by lines, looked at from outside, so that every
//! subject is measured in the same way. It knows nothing of the work.

use std::{
    env, fs,
    io::{BufRead, Write},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::Outcome;

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// The slowest peer is given so long for the largest work.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running subject. Dropping it kills it.
#[derive(Debug)]
pub struct Subject {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pid: u32,
}

/// This program again, in a role.
///
/// # Errors
///
/// When the program cannot be found.
pub fn us(role: &str) -> Outcome<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--subject", role]);
    Ok(command)
}

/// Whether a subject is to be measured: all are, unless `OPENHANDS_BENCH_ONLY` names some.
pub fn wanted(subject: &str) -> bool {
    env::var("OPENHANDS_BENCH_ONLY")
        .map_or(true, |only| only.split(',').any(|name| name == subject))
}

/// A Python peer, by the interpreter of `OPENHANDS_PYTHON`; none without it.
pub fn python(script: &str) -> Option<Command> {
    let mut command = Command::new(env::var_os("OPENHANDS_PYTHON")?);
    command
        .arg(format!("{PEERS}/{script}.py"))
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("OPENHANDS_SUPPRESS_BANNER", "1")
        .env("LOG_LEVEL", "ERROR");
    Some(command)
}

/// A TypeScript peer, with the client package of `OPENHANDS_TYPESCRIPT`; none without it.
pub fn typescript(script: &str) -> Option<Command> {
    let package = PathBuf::from(env::var_os("OPENHANDS_TYPESCRIPT")?);
    let mut command = Command::new("node");
    command
        .arg("--max-old-space-size=8192")
        .arg(format!("{PEERS}/{script}.mjs"))
        .env("OPENHANDS_TYPESCRIPT", package);
    Some(command)
}

impl Subject {
    /// Starts one with these arguments.
    ///
    /// # Errors
    ///
    /// When the program cannot be run.
    pub fn start(mut command: Command, arguments: &[&str]) -> Outcome<Self> {
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let pid = child.id().ok_or("it ended at once")?;
        Ok(Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
            pid,
        })
    }

    /// Waits until it says a word; what follows the word on the line is the answer.
    ///
    /// # Errors
    ///
    /// When it ends without saying it, or is silent for too long.
    pub async fn heard(&mut self, word: &str) -> Outcome<String> {
        let said = timeout(PATIENCE, self.listen(word)).await;
        said.map_err(|_| format!("a subject does not say `{word}`"))?
    }

    async fn listen(&mut self, word: &str) -> Outcome<String> {
        while let Some(line) = self.lines.next_line().await? {
            if let Some(rest) = line.strip_prefix(word) {
                return Ok(rest.trim().to_owned());
            }
        }
        let status = self.child.wait().await?;
        Err(format!("a subject ended without `{word}`: {status}").into())
    }

    /// Tells it a line.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub async fn tell(&mut self, line: &str) -> Outcome {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(self.stdin.flush().await?)
    }

    /// Waits for its end; gives the last line it said meanwhile.
    ///
    /// # Errors
    ///
    /// When it did not end well.
    pub async fn ended(mut self) -> Outcome<Option<String>> {
        let mut last = None;
        while let Some(line) = self.lines.next_line().await? {
            last = Some(line);
        }
        let status = self.child.wait().await?;
        if !status.success() {
            return Err(format!("a subject failed: {status}").into());
        }
        Ok(last)
    }

    /// Seconds of processor time its threads have used.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn cpu(&self) -> Outcome<f64> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let used = text.split(' ').next().unwrap_or_default();
            nanoseconds += used.parse::<f64>()?;
        }
        Ok(nanoseconds / 1e9)
    }

    /// Bytes of memory of its own that it holds.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn memory(&self) -> Outcome<f64> {
        Ok(self.status("RssAnon:")? * 1024.0)
    }

    /// How many threads it has.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn threads(&self) -> Outcome<f64> {
        self.status("Threads:")
    }

    fn status(&self, field: &str) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let value = line.ok_or("no such field")?.trim();
        Ok(value.trim_end_matches(" kB").parse()?)
    }
}

/// In a subject: says a word.
pub fn say(word: &str, answer: &Value) {
    let mut out = std::io::stdout().lock();
    // A driver that has gone kills what it has started.
    let _ = writeln!(out, "{word} {answer}");
    let _ = out.flush();
}

/// In a subject: waits for the driver's next line.
///
/// # Errors
///
/// When the driver has gone.
pub fn wait_for(what: &str) -> Outcome<String> {
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(format!("nobody says `{what}` any more").into());
    }
    Ok(line.trim().to_owned())
}
