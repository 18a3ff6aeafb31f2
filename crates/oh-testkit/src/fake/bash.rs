//! Shell commands over REST and their socket. A closure of the test returns the results.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::{
    conversation::{Conversation, Ending, Item, Subscriber},
    disk::is_within,
    known::undone,
    log::Frame,
    routes::{Answered, Call, detail, invalid, not_found, ok, page_limit},
    world::{World, lock},
};
use crate::{http::Response, model::player::attempt};

/// The maximum output of one event, in bytes. Longer output is split.
const CHUNK: usize = 1024 * 1024;

/// The result of a command.
///
/// ```
/// use oh_testkit::fake::CommandOutput;
///
/// let output = CommandOutput::ok("/work\n");
/// let failed = CommandOutput::exit(2).stderr("no such file");
/// # let _ = (output, failed);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct CommandOutput {
    exit_code: i32,
    stdout: String,
    stderr: String,
    after: Duration,
}

impl CommandOutput {
    /// Returns a result with exit code 0 and this text on stdout.
    pub fn ok(stdout: impl Into<String>) -> Self {
        Self {
            stdout: stdout.into(),
            ..Self::default()
        }
    }

    /// Returns a result with this exit code. −1 means a timeout, and −N means signal N.
    pub fn exit(code: i32) -> Self {
        Self {
            exit_code: code,
            ..Self::default()
        }
    }

    /// Sets the text on stdout.
    pub fn stdout(mut self, text: impl Into<String>) -> Self {
        self.stdout = text.into();
        self
    }

    /// Sets the text on stderr.
    pub fn stderr(mut self, text: impl Into<String>) -> Self {
        self.stderr = text.into();
        self
    }

    /// Sets how long the command runs. If its timeout (default 300 s) is shorter, the command is
    /// killed at the timeout: its exit code is −1, and its output is kept.
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }
}

/// The maximum number of listeners, as on the agent server.
const MAX_SUBSCRIBERS: usize = 50;

type Subscription = (Vec<Bytes>, Arc<Subscriber>, mpsc::UnboundedReceiver<Item>);

/// Commands and their output.
#[derive(Default)]
pub(super) struct Bash {
    inner: Mutex<Inner>,
    stopped: Notify,
}

#[derive(Default)]
struct Inner {
    events: Vec<Value>,
    subscribers: Vec<Arc<Subscriber>>,
    stop: HashSet<String>,
}

impl Bash {
    /// Returns all events so far and adds a listener. Returns `None` if there are too many
    /// listeners.
    pub(super) fn subscribe(&self) -> Option<Subscription> {
        let (subscriber, items) = Subscriber::new();
        let mut inner = lock(&self.inner);
        inner.subscribers.retain(|subscriber| !subscriber.is_gone());
        if inner.subscribers.len() >= MAX_SUBSCRIBERS {
            return None;
        }
        inner.subscribers.push(Arc::clone(&subscriber));
        let before = inner.events.iter().map(|event| event.to_string().into());
        Some((before.collect(), subscriber, items))
    }

    /// Ends all listening sockets.
    pub(super) fn end_sockets(&self, ending: &Ending) {
        for subscriber in &lock(&self.inner).subscribers {
            subscriber.end(ending.clone());
        }
    }

    /// Clears the history.
    pub(super) fn forget(&self) {
        lock(&self.inner).events.clear();
    }

    fn push(&self, event: Value) {
        let mut inner = lock(&self.inner);
        let seq = inner.events.len();
        let frame = Frame::new(seq, event.to_string().as_bytes());
        inner.events.push(event);
        inner.subscribers.retain(|subscriber| !subscriber.is_gone());
        for subscriber in &inner.subscribers {
            subscriber.tell(Item::Durable {
                seq,
                frame: frame.clone(),
            });
        }
    }
}

/// Handles the commands of the server, or those of a conversation's workspace.
pub(super) async fn route(
    world: &Arc<World>,
    within: Option<&Arc<Conversation>>,
    call: &Call,
    method: &str,
    rest: &[&str],
) -> Response {
    let bash = within.map_or(&world.bash, |conversation| &conversation.bash);
    let answer = match (method, rest) {
        ("POST", ["start_bash_command"]) => begin(world, within, call).map(|(command, output)| {
            let answer = ok(&command);
            go(world, bash, command, output);
            answer
        }),
        ("POST", ["execute_bash_command"]) => match begin(world, within, call) {
            Ok((command, output)) => Ok(ok(&run(world, bash, &command, output).await)),
            Err(refusal) => Err(refusal),
        },
        ("POST", ["bash_commands", id, "stop"]) => stop(bash, id),
        ("GET", ["bash_events", "search"]) => search(bash, call),
        ("GET", ["bash_events", ""]) => batch(bash, call),
        ("GET", ["bash_events", id]) => {
            let inner = lock(&bash.inner);
            let found = inner.events.iter().find(|event| event["id"] == *id);
            found.map(ok).ok_or_else(|| not_found().into())
        }
        ("DELETE", ["bash_events"]) => {
            let cleared = std::mem::take(&mut lock(&bash.inner).events);
            Ok(ok(&json!({"cleared_count": cleared.len()})))
        }
        _ => Err(undone(call).into()),
    };
    answer.unwrap_or_else(|refusal| *refusal)
}

fn begin(
    world: &World,
    within: Option<&Arc<Conversation>>,
    call: &Call,
) -> Answered<(Value, CommandOutput)> {
    start(world, within, &call.json()?)
}

fn start(
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
pub(super) fn receive(world: &Arc<World>, text: &[u8]) -> Result<(), (&'static str, String)> {
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

fn go(world: &Arc<World>, bash: &Arc<Bash>, command: Value, output: CommandOutput) {
    let (running, bash) = (Arc::clone(world), Arc::clone(bash));
    world.spawn(async move {
        run(&running, &bash, &command, output).await;
    });
}

/// Waits for a command to end and logs its output in pieces. Returns the whole output in one event.
async fn run(world: &World, bash: &Bash, command: &Value, mut output: CommandOutput) -> Value {
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
    let told = |order: usize, exit: Option<i32>, stdout: &str, stderr: &str| {
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
        bash.push(told(order, None, piece, ""));
        order += 1;
        rest = after;
    }
    let last = told(order, Some(output.exit_code), rest, &output.stderr);
    bash.push(last.clone());
    let mut whole = last;
    whole["stdout"] = json!(some(&output.stdout));
    whole
}

/// Parses a command id and returns it without dashes, as it is stored.
fn id(text: &str, at: &Value) -> Answered<String> {
    match text.parse::<uuid::Uuid>() {
        Ok(id) => Ok(id.simple().to_string()),
        Err(_) => Err(invalid("uuid_parsing", at.clone(), "Input should be a valid UUID").into()),
    }
}

/// Returns several events by id. The ids are in the body of a `GET`.
fn batch(bash: &Bash, call: &Call) -> Answered {
    let ids: Vec<String> = match call.body.is_empty() {
        true => return Err(invalid("missing", json!(["body"]), "Field required").into()),
        false => serde_json::from_slice(&call.body).map_err(|_| {
            let rule = "Input should be a valid list";
            invalid("list_type", json!(["body"]), rule)
        })?,
    };
    let inner = lock(&bash.inner);
    let found = ids
        .iter()
        .map(|id| inner.events.iter().find(|event| event["id"] == **id));
    Ok(ok(&found.collect::<Vec<_>>()))
}

fn stop(bash: &Bash, command: &str) -> Answered {
    let id = id(command, &json!(["path", "command_id"]))?;
    let mut inner = lock(&bash.inner);
    if !inner.events.iter().any(|event| event["id"] == *id) {
        return Err(not_found().into());
    }
    inner.stop.insert(id);
    drop(inner);
    bash.stopped.notify_waiters();
    Ok(ok(&json!({"success": true})))
}

fn search(bash: &Bash, call: &Call) -> Answered {
    let kind = call.query("kind__eq");
    if kind
        .as_deref()
        .is_some_and(|kind| !matches!(kind, "BashCommand" | "BashOutput"))
    {
        let rule = "Input should be 'BashCommand' or 'BashOutput'";
        return Err(invalid("literal_error", json!(["query", "kind__eq"]), rule).into());
    }
    let command = match call.query("command_id__eq") {
        Some(command) => Some(id(&command, &json!(["query", "command_id__eq"]))?),
        None => None,
    };
    let after = match call.query("order__gt") {
        Some(order) => Some(order.parse::<i64>().map_err(|_| {
            let at = json!(["query", "order__gt"]);
            invalid("int_parsing", at, "Input should be a valid integer")
        })?),
        None => None,
    };
    let descending = match call.query("sort_order").as_deref() {
        None | Some("TIMESTAMP") => false,
        Some("TIMESTAMP_DESC") => true,
        Some(_) => {
            let rule = "Input should be 'TIMESTAMP' or 'TIMESTAMP_DESC'";
            return Err(invalid("enum", json!(["query", "sort_order"]), rule).into());
        }
    };
    let limit = page_limit(call)?;
    let since = call.query("timestamp__gte");
    let before = call.query("timestamp__lt");
    let at = |event: &Value| text(&event["timestamp"]);
    let inner = lock(&bash.inner);
    let mut found: Vec<_> = inner
        .events
        .iter()
        .filter(|event| kind.as_ref().is_none_or(|kind| event["kind"] == **kind))
        .filter(|event| {
            command
                .as_ref()
                .is_none_or(|id| event["command_id"] == **id)
        })
        .filter(|event| after.is_none_or(|after| event["order"].as_i64() > Some(after)))
        .filter(|event| since.as_ref().is_none_or(|since| at(event) >= *since))
        .filter(|event| before.as_ref().is_none_or(|before| at(event) < *before))
        .collect();
    if descending {
        found.reverse();
    }
    let start = call
        .query("page_id")
        .and_then(|id| found.iter().position(|event| event["id"] == *id))
        .unwrap_or_default();
    let next = found.get(start + limit).map(|event| event["id"].clone());
    let items: Vec<_> = found.into_iter().skip(start).take(limit).collect();
    Ok(ok(&json!({"items": items, "next_page_id": next})))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
