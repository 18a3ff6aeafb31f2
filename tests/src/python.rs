//! Runs programs in the server's Python. Importing its packages takes long, so all tests of a
//! process share one interpreter that has imported them.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use openhands::process::Provisioner;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::TIDY;

/// The interpreter. It ends with this process, when its stdin closes.
struct Python {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The last line that a program printed, or why it failed.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Line(String),
    Error(String),
}

/// Returns the last line that a program prints in the server's Python. Each program runs in a
/// separate fork of the interpreter, with `input` as its stdin.
///
/// # Panics
///
/// Panics if there is no environment, if the program fails, or if the line is not JSON.
#[allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
pub async fn python(program: &str, input: &Value) -> Value {
    static SHARED: Mutex<Option<Python>> = Mutex::const_new(None);
    let mut shared = SHARED.lock().await;
    // An interpreter whose answer was not read is not put back.
    let mut python = match shared.take() {
        Some(python) => python,
        None => start().await,
    };
    let answer = python.ask(program, input).expect("an answer of Python");
    *shared = Some(python);
    match answer {
        Answer::Line(line) => serde_json::from_str(&line).expect("JSON"),
        Answer::Error(error) => panic!("the program failed in Python: {error}"),
    }
}

#[allow(clippy::expect_used, reason = "a test fails by panicking")]
async fn start() -> Python {
    let environment = Provisioner::new().provision().await.expect("Python");
    let mut process = Command::new(environment.python())
        .args(["-c", &format!("{TIDY}\n{}", include_str!("python.py"))])
        .env("OPENHANDS_SUPPRESS_BANNER", "1")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Answers contain the errors, and an inherited stderr would outlive this process.
        .stderr(Stdio::null())
        .spawn()
        .expect("the server's Python");
    Python {
        requests: process.stdin.take().expect("a pipe"),
        answers: BufReader::new(process.stdout.take().expect("a pipe")),
        process,
    }
}

impl Python {
    fn ask(&mut self, program: &str, input: &Value) -> io::Result<Answer> {
        let request = json!({"program": program, "input": input.to_string()});
        writeln!(self.requests, "{request}")?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.process.wait()?;
            return Err(io::Error::other(format!("Python has ended: {status}")));
        }
        Ok(serde_json::from_str(&line)?)
    }
}
