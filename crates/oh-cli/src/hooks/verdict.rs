//! The verdict of `oh hooks dry-run`.

use std::io::{self, Write as _};

use openhands::hooks::{HookOutcome, Trial};
use serde::Serialize;

use crate::{
    exit::{Exit, Outcome},
    records::clean,
};

/// The line of `oh hooks dry-run --json`.
#[derive(Serialize)]
struct Verdict<'a> {
    event: &'a str,
    denied: bool,
    /// The agent's answer if the event is denied.
    feedback: Option<String>,
    /// The text that the hooks add to the conversation.
    context: Option<String>,
    /// The hooks that ran, in order.
    hooks: Vec<Hook<'a>>,
}

#[derive(Serialize)]
struct Hook<'a> {
    hook: &'a str,
    success: bool,
    denied: bool,
    exit_code: i32,
    stdout: &'a str,
    stderr: &'a str,
    /// Why the hook itself failed. The event is allowed then.
    error: Option<&'a str>,
    seconds: f64,
}

/// Prints the verdict.
pub(super) fn show(trial: &Trial, json: bool) -> Outcome {
    let mut out = io::stdout().lock();
    match json {
        true => {
            let line = serde_json::to_string(&verdict(trial))
                .map_err(|error| Exit::Internal.because(error.to_string()))?;
            writeln!(out, "{line}")?;
        }
        false => print(trial, &mut out)?,
    }
    Ok(match trial.denied() {
        true => Exit::Agent,
        false => Exit::Finished,
    })
}

fn verdict(trial: &Trial) -> Verdict<'_> {
    let hooks = trial.iter().map(|outcome| Hook {
        hook: &outcome.hook,
        success: outcome.success,
        denied: outcome.blocked,
        exit_code: outcome.exit_code,
        stdout: &outcome.stdout,
        stderr: &outcome.stderr,
        error: outcome.error.as_deref(),
        seconds: outcome.duration.as_secs_f64(),
    });
    Verdict {
        event: trial.event.as_str(),
        denied: trial.denied(),
        feedback: trial.feedback(),
        context: trial.context(),
        hooks: hooks.collect(),
    }
}

fn print(trial: &Trial, out: &mut impl io::Write) -> io::Result<()> {
    if trial.is_empty() {
        writeln!(out, "no hook matches")?;
    }
    for outcome in trial.iter() {
        let (hook, code) = (clean(&outcome.hook), outcome.exit_code);
        let time = outcome.duration.as_millis();
        writeln!(
            out,
            "{hook}: {}, exit code {code}, {time} ms",
            word(outcome)
        )?;
        for text in [&outcome.stdout, &outcome.stderr] {
            for line in text.lines() {
                writeln!(out, "    {}", clean(line))?;
            }
        }
        if let Some(error) = &outcome.error {
            writeln!(out, "    {}", clean(error))?;
        }
    }
    match trial.feedback() {
        Some(feedback) => writeln!(out, "{} is denied: {}", trial.event, clean(&feedback))?,
        None => writeln!(out, "{} is allowed", trial.event)?,
    }
    if let Some(context) = trial.context() {
        writeln!(out, "added to the conversation: {}", clean(&context))?;
    }
    Ok(())
}

fn word(outcome: &HookOutcome) -> &'static str {
    match (outcome.blocked, outcome.success) {
        (true, _) => "denies",
        (false, true) => "allows",
        (false, false) => "fails, which allows",
    }
}
