//! Helpers for hook programs written in Rust: decode the event, decide, and respond with the right
//! exit code and JSON.
//!
//! All functions are synchronous and need no async runtime: a hook is a short program that the
//! server waits for.

use std::{
    env,
    fmt::Display,
    io::{Read, Write},
    panic::{self, AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
};

use serde_json::{Map, Value};

pub use crate::HookInput;

/// The environment variables that the server sets for a hook.
///
/// The event on stdin contains the same data and more. Use the variables in code that runs before
/// the event is decoded, or in programs that the hook starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Environment {
    /// The workspace directory (`OPENHANDS_PROJECT_DIR`), which is also the current directory.
    pub project_dir: Option<PathBuf>,
    /// The conversation id (`OPENHANDS_SESSION_ID`).
    pub session_id: Option<String>,
    /// The event type (`OPENHANDS_EVENT_TYPE`), for example `PreToolUse`.
    pub event_type: Option<String>,
    /// The name of the tool (`OPENHANDS_TOOL_NAME`). Set for the two tool events only.
    pub tool_name: Option<String>,
}

impl Environment {
    /// Reads the variables from the environment of this process.
    ///
    /// A variable that is unset or empty becomes `None`. If all fields are `None`, the program was
    /// not started as a hook.
    #[must_use]
    pub fn read() -> Self {
        Self::of(|name| env::var_os(name))
    }

    fn of(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            project_dir: set("OPENHANDS_PROJECT_DIR").map(PathBuf::from),
            session_id: text("OPENHANDS_SESSION_ID"),
            event_type: text("OPENHANDS_EVENT_TYPE"),
            tool_name: text("OPENHANDS_TOOL_NAME"),
        }
    }
}

/// The decision of a hook. The default allows the event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    denied: Option<String>,
    context: Option<String>,
}

impl Verdict {
    /// Allows the event.
    pub fn allow() -> Self {
        Self::default()
    }

    /// Denies the event and sends `feedback` to the agent.
    ///
    /// The server skips a denied tool call, does not answer a denied message, and lets the agent
    /// continue after a denied Stop. All other events cannot be denied and happen anyway.
    pub fn deny(feedback: impl Into<String>) -> Self {
        Self {
            denied: Some(feedback.into()),
            context: None,
        }
    }

    /// Allows the event and sends additional context to the agent. The server uses the context for
    /// user messages and at the start of a session.
    ///
    /// A verdict cannot deny and add context at the same time: the server lets a message through if
    /// a hook does both.
    pub fn context(text: impl Into<String>) -> Self {
        Self {
            denied: None,
            context: Some(text.into()),
        }
    }

    fn stdout(&self) -> String {
        let mut json = Map::new();
        let decision = if self.denied.is_some() {
            "deny"
        } else {
            "allow"
        };
        json.insert("decision".into(), decision.into());
        if let Some(reason) = &self.denied {
            json.insert("reason".into(), reason.as_str().into());
        }
        if let Some(context) = &self.context {
            json.insert("additionalContext".into(), context.as_str().into());
        }
        Value::Object(json).to_string()
    }
}

/// Runs a hook that allows the event if the hook itself fails.
///
/// An error or an event that cannot be decoded is reported on stderr with exit code 1. The server
/// records the failure and allows the event.
///
/// ```no_run
/// use std::process::ExitCode;
/// use oh_hooks::author::{Verdict, run};
///
/// fn main() -> ExitCode {
///     run(|event| {
///         Ok::<_, String>(match event.command() {
///             Some(line) if line.contains("rm -rf") => Verdict::deny("not with rm -rf"),
///             _ => Verdict::allow(),
///         })
///     })
/// }
/// ```
pub fn run<E: Display>(decide: impl FnOnce(&HookInput) -> Result<Verdict, E>) -> ExitCode {
    answer(decide, 1)
}

/// Runs a hook that denies the event if the hook itself fails. Use this function for policies that
/// must hold: by default the server allows an event whose hook fails.
///
/// A panic also denies, on any thread and in programs built with `panic = "abort"`. The process
/// exits with code 2 at the point of the panic, even if the panic would have been caught. A process
/// that ends without a panic cannot deny: after a timeout, a stack overflow, a signal or an
/// out-of-memory kill, the server allows the event.
pub fn guard<E: Display>(decide: impl FnOnce(&HookInput) -> Result<Verdict, E>) -> ExitCode {
    deny_on_panic();
    answer(decide, DENY)
}

/// The exit code that denies an event.
const DENY: u8 = 2;

/// Installs a panic hook that exits with the denying exit code before the panic unwinds or aborts.
fn deny_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        before(panic);
        _ = writeln!(std::io::stderr().lock(), "the hook panicked");
        std::process::exit(DENY.into());
    }));
}

fn answer<E: Display>(
    decide: impl FnOnce(&HookInput) -> Result<Verdict, E>,
    broken: u8,
) -> ExitCode {
    let mut text = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut text);
    let verdict = match read {
        Err(error) => Err(format!("the hook cannot decode its event: {error}")),
        Ok(_) => decided(&text, decide),
    };
    let (out, err, code) = outcome(verdict, broken);
    // Write errors are ignored: there is nowhere to report them, and the exit code still decides.
    _ = writeln!(std::io::stdout().lock(), "{out}");
    if !err.is_empty() {
        _ = writeln!(std::io::stderr().lock(), "{err}");
    }
    ExitCode::from(code)
}

fn decided<E: Display>(
    text: &[u8],
    decide: impl FnOnce(&HookInput) -> Result<Verdict, E>,
) -> Result<Verdict, String> {
    let input = serde_json::from_slice(text)
        .map_err(|error| format!("the hook cannot decode its event: {error}"))?;
    match catch_unwind(AssertUnwindSafe(|| decide(&input))) {
        Ok(verdict) => verdict.map_err(|error| format!("the hook failed: {error}")),
        Err(_) => Err("the hook panicked".to_owned()),
    }
}

fn outcome(verdict: Result<Verdict, String>, broken: u8) -> (String, String, u8) {
    match verdict {
        Ok(verdict) => {
            let code = if verdict.denied.is_some() { DENY } else { 0 };
            (verdict.stdout(), verdict.denied.unwrap_or_default(), code)
        }
        Err(error) => (String::new(), error, broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &[u8] = br#"{"event_type": "PreToolUse", "tool_name": "terminal",
        "tool_input": {"kind": "TerminalAction", "command": "ls"}, "new": 1}"#;

    #[test]
    fn a_verdict_has_its_exit_code_and_json() {
        for (verdict, out, err, code) in [
            (Verdict::allow(), r#"{"decision":"allow"}"#, "", 0),
            (
                Verdict::deny("no"),
                r#"{"decision":"deny","reason":"no"}"#,
                "no",
                2,
            ),
            (
                Verdict::context("c"),
                r#"{"additionalContext":"c","decision":"allow"}"#,
                "",
                0,
            ),
        ] {
            let got = decided(EVENT, |event| {
                assert_eq!(event.command(), Some("ls"));
                Ok::<_, String>(verdict.clone())
            });
            assert_eq!(outcome(got, 1), (out.to_owned(), err.to_owned(), code));
        }
    }

    /// Runs itself as a child process to check a guard in a program that cannot unwind.
    #[test]
    fn a_panic_of_a_guard_ends_the_process_with_a_denial() {
        const INSIDE: &str = "OH_HOOKS_TEST_PANICS";
        if env::var_os(INSIDE).is_some() {
            deny_on_panic();
            // Exits before the thread can unwind, as with `panic = "abort"`.
            _ = std::thread::spawn(|| panic::panic_any("x")).join();
            return;
        }
        let name = "author::tests::a_panic_of_a_guard_ends_the_process_with_a_denial";
        let child = std::process::Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        assert_eq!(child.status.code(), Some(2), "{child:?}");
        assert!(String::from_utf8_lossy(&child.stderr).contains("the hook panicked"));
    }

    #[test]
    fn the_environment_is_read_and_may_be_missing() {
        let environment = Environment::of(|name| match name {
            "OPENHANDS_PROJECT_DIR" => Some("/w".into()),
            "OPENHANDS_EVENT_TYPE" => Some("Stop".into()),
            "OPENHANDS_SESSION_ID" => Some("".into()),
            _ => None,
        });
        assert_eq!(environment.project_dir, Some(PathBuf::from("/w")));
        assert_eq!(environment.event_type.as_deref(), Some("Stop"));
        assert_eq!(
            (environment.session_id, environment.tool_name),
            (None, None)
        );
        assert_eq!(Environment::of(|_| None), Environment::default());
    }

    #[test]
    fn a_broken_hook_allows_and_a_broken_guard_denies() {
        let nonsense = decided(b"[]", |_| Ok::<_, String>(Verdict::allow()));
        let failed = decided(EVENT, |_| Err("disk full"));
        let panicked = decided::<String>(EVENT, |_| panic::panic_any("x"));
        for (broken, word) in [
            (nonsense, "cannot decode its event"),
            (failed, "disk full"),
            (panicked, "panicked"),
        ] {
            for code in [1, 2] {
                let (out, err, exit) = outcome(broken.clone(), code);
                assert!(
                    out.is_empty() && err.contains(word) && exit == code,
                    "{err}"
                );
            }
        }
    }
}
