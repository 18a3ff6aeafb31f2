//! `oh hooks dry-run`.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _},
};
use openhands::hooks::{HookEventType, HookInput};
use serde_json::Value;

use crate::exit::{Exit, Failure, Outcome};

#[derive(Args)]
pub(crate) struct DryRun {
    /// The file. Default: .openhands/hooks.json in the directory.
    pub(super) file: Option<PathBuf>,
    /// The event.
    #[arg(long, value_parser = event())]
    event: HookEventType,
    /// The name of the tool, for PreToolUse and PostToolUse.
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// The input of the tool, as a JSON object. `-` reads it from stdin.
    #[arg(long, value_name = "JSON", requires = "tool")]
    input: Option<String>,
    /// The response of the tool, as a JSON object, for PostToolUse. `-` reads it from stdin.
    #[arg(long, value_name = "JSON", requires = "tool")]
    response: Option<String>,
    /// The message of the user, for UserPromptSubmit.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// The answer of the model to prompt and agent hooks. No model is asked.
    #[arg(long, value_name = "TEXT")]
    reply: Option<String>,
    /// The directory in which the hooks run.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

static EVENTS: [HookEventType; 6] = HookEventType::ALL;

/// Parses the name of an event, also in the spelling of a key.
fn event() -> impl clap::builder::TypedValueParser<Value = HookEventType> {
    let names = EVENTS
        .iter()
        .map(|event| PossibleValue::new(event.as_str()).alias(event.field()));
    PossibleValuesParser::new(names)
        .map(|name| HookEventType::from_key(&name).unwrap_or_else(|| name.into()))
}

/// `oh hooks dry-run`.
#[cfg(unix)]
pub(super) async fn dry_run(path: &Path, options: DryRun) -> Outcome {
    use openhands::hooks::{DryRun, load};

    use crate::hooks::verdict;

    let wrong = |error: openhands::hooks::Error| Exit::Configuration.because(error.to_string());
    let input = input(&options)?;
    let hooks = load(path).map_err(wrong)?;
    if !options.dir.is_dir() {
        let message = format!("{} is not a directory", options.dir.display());
        return Err(Exit::Configuration.because(message));
    }
    let mut run = DryRun::new(&options.dir);
    if let Some(reply) = &options.reply {
        run = run.reply(reply);
    }
    // Each hook has a separate process group, so Ctrl-C does not reach it.
    let mut signals = crate::signals::Signals::new()?;
    tokio::select! {
        trial = run.run(&hooks, &input) => verdict::show(&trial.map_err(wrong)?, options.json),
        signal = signals.next() => Ok(crate::signals::stopped(signal)),
    }
}

#[cfg(not(unix))]
pub(super) async fn dry_run(_: &Path, options: DryRun) -> Outcome {
    input(&options)?;
    Err(Exit::Configuration.because("hooks can only be run on Unix"))
}

/// Returns the event that the hooks get.
fn input(options: &DryRun) -> Result<HookInput, Failure> {
    let stdin = |option: &Option<String>| option.as_deref() == Some("-");
    if stdin(&options.input) && stdin(&options.response) {
        return Err(Exit::Usage.because("only one of --input and --response can be stdin"));
    }
    let event = &options.event;
    let mut input = HookInput::new(event.clone());
    match (&options.tool, event.has_tool()) {
        (None, true) => return Err(Exit::Usage.because(format!("{event} needs --tool NAME"))),
        (Some(_), false) => {
            return Err(Exit::Usage.because(format!("{event} has no tool: omit --tool")));
        }
        (Some(tool), true) => {
            let given = options.input.as_deref().unwrap_or("{}");
            input = input.tool(tool, object("--input", given)?);
        }
        (None, false) => {}
    }
    if let Some(response) = &options.response {
        if *event != HookEventType::PostToolUse {
            return Err(Exit::Usage.because(format!("{event} has no response: omit --response")));
        }
        input = input.response(object("--response", response)?);
    }
    if let Some(message) = &options.message {
        if *event != HookEventType::UserPromptSubmit {
            return Err(Exit::Usage.because(format!("{event} has no message: omit --message")));
        }
        input = input.message(message);
    }
    Ok(input)
}

/// Parses a JSON object, which may be on stdin.
fn object(option: &str, text: &str) -> Result<Value, Failure> {
    let mut read = String::new();
    let text = match text {
        "-" => {
            io::stdin().read_to_string(&mut read).map_err(|error| {
                Exit::Usage.because(format!("cannot read {option} from stdin: {error}"))
            })?;
            &read
        }
        text => text,
    };
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Exit::Usage.because(format!("{option} must be a JSON object"))),
        Err(error) => Err(Exit::Usage.because(format!("{option} is not valid JSON: {error}"))),
    }
}
