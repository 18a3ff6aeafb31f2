//! Runs commands: the closure of the test plays the shell.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    state::{
        commands::{Bash, CommandOutput},
        conversation::Conversation,
        disk::is_within,
        lock::lock,
        world::World,
    },
    wire::reply::{Answered, detail, invalid},
};
use crate::model::player::attempt;

/// The maximum output of one event, in bytes. Longer output is split.
const CHUNK: usize = 1024 * 1024;

pub(crate) fn start(
    world: &World,
    within: Option<&Arc<Conversation>>,
    request: &Value,
) -> Answered<(Value, CommandOutput)> {
    let Some(line) = request["command"].as_str() else {
        return Err(invalid("missing", json!(["body", "command"]), "Field required").into());
    };
    if !request["timeout"].is_null() && !request["timeout"].is_u64() {
        let at = json!(["body", "timeout"]);
        let kind = match request["timeout"].is_f64() {
            true => "int_from_float",
            false => "int_type",
        };
        return Err(invalid(kind, at, "Input should be a valid integer").into());
    }
    let workspace = within.map(|conversation| conversation.working_dir());
    let cwd = request["cwd"].as_str();
    if let (Some(workspace), Some(cwd)) = (&workspace, cwd)
        && !is_within(cwd, workspace)
    {
        let refusal = "cwd must be inside the conversation workspace";
        return Err(detail(StatusCode::UNPROCESSABLE_ENTITY, refusal).into());
    }
    let Some(shell) = &world.shell else {
        let message = "the fake server cannot run commands: set their results with \
                       `FakeServer::builder().commands(…)`";
        return Err(detail(StatusCode::NOT_IMPLEMENTED, message).into());
    };
    let command = json!({
        "id": world.clock.uuid().simple().to_string(),
        "timestamp": world.clock.utc(),
        "command": line,
        "cwd": cwd,
        "timeout": request["timeout"].as_u64().unwrap_or(300),
        "kind": "BashCommand",
    });
    let bash = within.map_or(&world.bash, |conversation| &conversation.bash);
    bash.push(command.clone());
    let output = attempt(|| shell(line)).unwrap_or_else(|panic| {
        let objection = format!("cannot run the fake command `{line}`: {panic}");
        world.object(objection.clone());
        CommandOutput::exit(-1).stderr(objection)
    });
    Ok((command, output))
}

/// Handles a command received by a socket. An error contains a code and an explanation for the
/// client.
pub(crate) fn receive(world: &Arc<World>, text: &[u8]) -> Result<(), (&'static str, String)> {
    let request: Value =
        serde_json::from_slice(text).map_err(|error| ("JSONDecodeError", error.to_string()))?;
    if request["type"] == "auth" {
        return Ok(());
    }
    let begun = start(world, None, &request);
    let (command, output) = begun.map_err(|_| {
        (
            "ValidationError",
            "not a command that can be run".to_owned(),
        )
    })?;
    go(world, &world.bash, command, output);
    Ok(())
}

pub(crate) fn go(world: &Arc<World>, bash: &Arc<Bash>, command: Value, output: CommandOutput) {
    let (running, bash) = (Arc::clone(world), Arc::clone(bash));
    world.spawn(async move {
        run(&running, &bash, &command, output).await;
    });
}

/// Waits for a command to end and logs its output in pieces. Returns the whole output in one event.
pub(crate) async fn run(
    world: &World,
    bash: &Bash,
    command: &Value,
    mut output: CommandOutput,
) -> Value {
    let most = Duration::from_secs(command["timeout"].as_u64().unwrap_or(u64::MAX));
    let stopped = async {
        let id = command["id"].as_str().unwrap_or_default();
        loop {
            let stopped = bash.stopped.notified();
            if lock(&bash.inner).stop.contains(id) {
                return;
            }
            stopped.await;
        }
    };
    tokio::select! {
        () = tokio::time::sleep(output.after.min(most)) => {
            if output.after > most {
                output.exit_code = -1;
            }
        }
        () = stopped => output = CommandOutput::exit(-15),
    }
    let id = command["id"].as_str().unwrap_or_default();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let event = |order: usize, exit: Option<i32>, stdout: &str, stderr: &str| {
        json!({
            "id": world.clock.uuid().simple().to_string(),
            "timestamp": world.clock.utc(),
            "command_id": id,
            "order": order,
            "exit_code": exit,
            "stdout": some(stdout),
            "stderr": some(stderr),
            "kind": "BashOutput",
        })
    };
    let mut rest = output.stdout.as_str();
    let mut order = 0;
    while let Some((at, _)) = rest.char_indices().nth(CHUNK) {
        let (piece, after) = rest.split_at(at);
        bash.push(event(order, None, piece, ""));
        order += 1;
        rest = after;
    }
    let last = event(order, Some(output.exit_code), rest, &output.stderr);
    bash.push(last.clone());
    let mut whole = last;
    whole["stdout"] = json!(some(&output.stdout));
    whole
}
