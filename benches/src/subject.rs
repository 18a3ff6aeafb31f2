//! A process under measurement. It is controlled by lines of text and measured from outside, so
//! that every subject is measured in the same way.

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

/// Timeout of a subject, long enough for the slowest peer on the largest work.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running subject. Dropping this value kills the process.
#[derive(Debug)]
pub struct Subject {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pid: u32,
}

/// Returns a command that runs this program again in a role.
///
/// # Errors
///
/// Returns an error if the program cannot be found.
pub fn us(role: &str) -> Outcome<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--subject", role]);
    Ok(command)
}

/// Returns whether to measure a subject. All are measured unless `OPENHANDS_BENCH_ONLY` names some.
pub fn wanted(subject: &str) -> bool {
    env::var("OPENHANDS_BENCH_ONLY")
        .map_or(true, |only| only.split(',').any(|name| name == subject))
}

/// Returns a Python peer that runs with the interpreter in `OPENHANDS_PYTHON`, or `None` if it is
/// not set.
pub fn python(script: &str) -> Option<Command> {
    let mut command = Command::new(env::var_os("OPENHANDS_PYTHON")?);
    command
        .arg(format!("{PEERS}/{script}.py"))
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("OPENHANDS_SUPPRESS_BANNER", "1")
        .env("LOG_LEVEL", "ERROR");
    Some(command)
}

/// Returns a TypeScript peer that uses the client package in `OPENHANDS_TYPESCRIPT`, or `None` if
/// it is not set.
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
    /// Starts a subject with these arguments.
    ///
    /// # Errors
    ///
    /// Returns an error if the program cannot be run.
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

    /// Waits until the subject prints a line that begins with `word`. Returns the rest of the line.
    ///
    /// # Errors
    ///
    /// Returns an error if the subject ends first, or prints no such line for too long.
    pub async fn wait_for(&mut self, word: &str) -> Outcome<String> {
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

    /// Sends a line to the subject.
    ///
    /// # Errors
    ///
    /// Returns an error if the subject has ended.
    pub async fn send(&mut self, line: &str) -> Outcome {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(self.stdin.flush().await?)
    }

    /// Waits until the subject ends. Returns the last line that it printed in the meantime.
    ///
    /// # Errors
    ///
    /// Returns an error if the subject exits with a failure.
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

    /// Returns the CPU time of the subject's threads in seconds.
    ///
    /// # Errors
    ///
    /// Returns an error if the subject has ended.
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

    /// Returns the CPU time of the subject and of all processes that it has started, in seconds.
    /// Those that have ended count in steps of 10 ms.
    ///
    /// # Errors
    ///
    /// Returns an error if the subject has ended.
    pub fn cpu_with_children(&self) -> Outcome<f64> {
        let mut seconds = 0.0;
        let mut processes = vec![self.pid.to_string()];
        fs::metadata(format!("/proc/{}/task", self.pid))?;
        while let Some(process) = processes.pop() {
            // A child may end at any time. Its parent then has its time.
            let read = |path: String| fs::read_to_string(path).unwrap_or_default();
            let stat = read(format!("/proc/{process}/stat"));
            let fields: Vec<f64> = stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| {
                let fields = rest.split_whitespace().skip(11);
                fields.map_while(|field| field.parse().ok()).collect()
            });
            // User and system time, of the process and of its children that have ended.
            seconds += fields.iter().take(4).sum::<f64>() / 100.0;
            let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter();
            for task in tasks.flatten().flatten() {
                let children = read(format!("{}/children", task.path().display()));
                processes.extend(children.split_whitespace().map(str::to_owned));
            }
        }
        Ok(seconds)
    }

    /// Returns the subject's private memory in bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if the subject has ended.
    pub fn memory(&self) -> Outcome<f64> {
        Ok(self.status("RssAnon:")? * 1024.0)
    }

    /// Returns the number of the subject's threads.
    ///
    /// # Errors
    ///
    /// Returns an error if the subject has ended.
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

/// Prints a word and an answer; called in a subject.
pub fn say(word: &str, answer: &Value) {
    let mut out = std::io::stdout().lock();
    // A failure means that the driver is gone, which also kills its subjects.
    let _ = writeln!(out, "{word} {answer}");
    let _ = out.flush();
}

/// Waits for the driver's next line; called in a subject.
///
/// # Errors
///
/// Returns an error if the driver is gone.
pub fn wait_for(what: &str) -> Outcome<String> {
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(format!("nobody says `{what}` any more").into());
    }
    Ok(line.trim().to_owned())
}
