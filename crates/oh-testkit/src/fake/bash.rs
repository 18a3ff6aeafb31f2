//! Shell commands over REST and their socket, answered by a test instead of a shell.

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
    conversation::{Item, Subscriber},
    routes::{Answered, Call, detail, invalid, not_found, ok, page_limit, undone},
    world::{World, lock},
};
use crate::http::Response;

/// How a command ends.
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
    /// Exit code 0, with this on stdout.
    pub fn ok(stdout: impl Into<String>) -> Self {
        Self {
            stdout: stdout.into(),
            ..Self::default()
        }
    }

    /// This exit code; −1 stands for a timeout, −N for signal N.
    pub fn exit(code: i32) -> Self {
        Self {
            exit_code: code,
            ..Self::default()
        }
    }

    /// What it wrote to stdout.
    pub fn stdout(mut self, text: impl Into<String>) -> Self {
        self.stdout = text.into();
        self
    }

    /// What it wrote to stderr.
    pub fn stderr(mut self, text: impl Into<String>) -> Self {
        self.stderr = text.into();
        self
    }

    /// How long it runs.
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }
}

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
    /// All events so far, and a place among those who are told of more.
    pub(super) fn subscribe(&self) -> (Vec<Bytes>, Arc<Subscriber>, mpsc::UnboundedReceiver<Item>) {
        let (subscriber, items) = Subscriber::new();
        let mut inner = lock(&self.inner);
        inner.subscribers.push(Arc::clone(&subscriber));
        let before = inner.events.iter().map(|event| event.to_string().into());
        (before.collect(), subscriber, items)
    }

    fn push(&self, event: Value) {
        let mut inner = lock(&self.inner);
        let raw = Bytes::from(event.to_string());
        let seq = inner.events.len();
        inner.events.push(event);
        inner.subscribers.retain(|subscriber| !subscriber.is_gone());
        for subscriber in &inner.subscribers {
            subscriber.tell(Item::Durable {
                seq,
                raw: raw.clone(),
            });
        }
    }
}

pub(super) async fn route(
    world: &Arc<World>,
    call: &Call,
    method: &str,
    rest: &[&str],
) -> Response {
    let answer = match (method, rest) {
        ("POST", ["start_bash_command"]) => begin(world, call).map(|(command, output)| {
            let running = Arc::clone(world);
            let id = text(&command["id"]);
            world.spawn(async move {
                run(&running, &id, output).await;
            });
            ok(&command)
        }),
        ("POST", ["execute_bash_command"]) => match begin(world, call) {
            Ok((command, output)) => Ok(ok(&run(world, &text(&command["id"]), output).await)),
            Err(refusal) => Err(refusal),
        },
        ("POST", ["bash_commands", id, "stop"]) => stop(world, id),
        ("GET", ["bash_events", "search"]) => search(world, call),
        ("GET", ["bash_events", id]) => {
            let inner = lock(&world.bash.inner);
            let found = inner.events.iter().find(|event| event["id"] == *id);
            found.map(ok).ok_or_else(|| not_found().into())
        }
        ("DELETE", ["bash_events"]) => {
            lock(&world.bash.inner).events.clear();
            Ok(ok(&json!({"cleared_count": 0})))
        }
        _ => Err(undone(call).into()),
    };
    answer.unwrap_or_else(|refusal| *refusal)
}

fn begin(world: &World, call: &Call) -> Answered<(Value, CommandOutput)> {
    let request = call.json()?;
    let Some(line) = request["command"].as_str() else {
        return Err(invalid("missing", json!(["body", "command"]), "Field required").into());
    };
    let Some(shell) = &world.shell else {
        let message = "the fake server runs no commands: say what they answer with \
                       `FakeServer::builder().commands(…)`";
        return Err(detail(StatusCode::NOT_IMPLEMENTED, message).into());
    };
    let command = json!({
        "id": world.clock.uuid().simple().to_string(),
        "timestamp": world.clock.utc(),
        "command": line,
        "cwd": request["cwd"],
        "timeout": request["timeout"].as_u64().unwrap_or(300),
        "kind": "BashCommand",
    });
    world.bash.push(command.clone());
    Ok((command, shell(line)))
}

async fn run(world: &World, id: &str, mut output: CommandOutput) -> Value {
    let stopped = async {
        loop {
            let stopped = world.bash.stopped.notified();
            if lock(&world.bash.inner).stop.contains(id) {
                return;
            }
            stopped.await;
        }
    };
    tokio::select! {
        () = tokio::time::sleep(output.after) => {}
        () = stopped => output = CommandOutput::exit(-15),
    }
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let event = json!({
        "id": world.clock.uuid().simple().to_string(),
        "timestamp": world.clock.utc(),
        "command_id": id,
        "order": 0,
        "exit_code": output.exit_code,
        "stdout": some(&output.stdout),
        "stderr": some(&output.stderr),
        "kind": "BashOutput",
    });
    world.bash.push(event.clone());
    event
}

fn stop(world: &World, id: &str) -> Answered {
    let mut inner = lock(&world.bash.inner);
    let is_command = |event: &Value| event["id"] == id && event["kind"] == "BashCommand";
    let command = inner.events.iter().find(|event| is_command(event)).cloned();
    let command = command.ok_or_else(not_found)?;
    inner.stop.insert(id.to_owned());
    drop(inner);
    world.bash.stopped.notify_waiters();
    Ok(ok(&command))
}

fn search(world: &World, call: &Call) -> Answered {
    let limit = page_limit(call)?;
    let kind = call.query("kind__eq");
    let command = call.query("command_id__eq");
    let after = call
        .query("order__gt")
        .and_then(|order| order.parse::<i64>().ok());
    let page_id = call.query("page_id");
    let inner = lock(&world.bash.inner);
    let found: Vec<_> = inner
        .events
        .iter()
        .filter(|event| kind.as_ref().is_none_or(|kind| event["kind"] == **kind))
        .filter(|event| {
            command
                .as_ref()
                .is_none_or(|id| event["command_id"] == **id)
        })
        .filter(|event| after.is_none_or(|after| event["order"].as_i64() > Some(after)))
        .collect();
    let start = page_id
        .and_then(|id| found.iter().position(|event| event["id"] == *id))
        .unwrap_or_default();
    let next = found.get(start + limit).map(|event| event["id"].clone());
    let items: Vec<_> = found.into_iter().skip(start).take(limit).collect();
    Ok(ok(&json!({"items": items, "next_page_id": next})))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
