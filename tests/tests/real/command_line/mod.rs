//! The command `oh`, as a process, on a real server.

mod attach;
mod cluster;
mod copies;
mod doctor;
mod files;
mod login;
mod options;
mod picture;
mod runs;
mod serve;
mod stops;
mod stored;
mod terminal;
mod up;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use openhands::{LocalServer, secrecy::ExposeSecret as _, testkit::ScriptedModel};
use serde_json::Value;

/// A duration longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// Returns the program, which is built with the workspace.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("oh");
    assert!(
        program.exists(),
        "build it first: cargo build --package oh-cli"
    );
    program
}

/// Creates a command of `oh` with its own state, and this model.
fn oh(home: &Path, model: &ScriptedModel) -> Command {
    let mut command = Command::new(program());
    command
        .env("OH_STATE_DIR", home.join("state"))
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("LLM_MODEL", ScriptedModel::MODEL)
        .env("LLM_BASE_URL", model.base_url())
        .env("LLM_API_KEY", "canary-of-the-model")
        .env("LLM_NUM_RETRIES", "1")
        .stdin(Stdio::null());
    command
}

/// Lets the command use a server that runs.
fn on<'a>(command: &'a mut Command, server: &LocalServer, task: &str) -> &'a mut Command {
    command
        .env("SESSION_API_KEY", server.session_api_key().expose_secret())
        .args(["run", task, "--json", "--server", server.url().as_str()])
        .arg("--dir")
        .arg(server.workspace_dir())
}

/// Waits until the model was asked this often.
async fn asked(model: &ScriptedModel, times: usize) {
    let asked = async {
        while model.requests().len() < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, asked).await.unwrap();
}

/// A run whose lines are read as they come.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<Value>,
    notes: mpsc::Receiver<String>,
    errors: String,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.unwrap();
                assert!(!line.contains("canary"), "{line}");
                let _ = send.send(serde_json::from_str(&line).expect(&line));
            }
        });
        let (send, notes) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let _ = send.send(line.unwrap());
            }
        });
        let stdin = child.stdin.take();
        Self {
            child,
            stdin,
            lines,
            notes,
            errors: String::new(),
        }
    }

    /// Returns the next line of this type.
    fn line(&self, kind: &str) -> Value {
        let end = Instant::now() + LONG;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).expect(kind);
            if line["type"] == kind {
                return line;
            }
        }
    }

    /// Waits for a line of stderr with this text.
    fn note(&mut self, text: &str) {
        while !self.errors.contains(text) {
            self.errors += &self.notes.recv_timeout(LONG).expect(text);
        }
    }

    fn answer(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Closes stdin, so that nobody can answer.
    fn close_input(&mut self) {
        self.stdin = None;
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Returns the exit code, the last line and what was written to stderr.
    fn end(mut self) -> (i32, Value, String) {
        // Open until the end, because a closed input is an answer, too.
        let stdin = self.stdin.take();
        let status: ExitStatus = self.child.wait().unwrap();
        drop(stdin);
        let errors = self.errors + &self.notes.iter().collect::<Vec<_>>().join("\n");
        assert!(!errors.contains("canary"), "{errors}");
        let last = self.lines.iter().last().unwrap_or_default();
        (status.code().expect(&errors), last, errors)
    }
}
