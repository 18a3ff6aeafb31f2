//! Shell commands over REST and their socket. A closure of the test returns the results.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::fake::{
    agent,
    state::{
        commands::{Bash, CommandOutput},
        conversation::Conversation,
        lock::lock,
        world::World,
    },
    wire::{
        known::undone,
        reply::{Answered, Call, invalid, not_found, ok, page_limit},
    },
};
use crate::http::Response;

/// Handles the commands of the server, or those of a conversation's workspace.
pub(crate) async fn route(
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
            agent::go_command(world, bash, command, output);
            answer
        }),
        ("POST", ["execute_bash_command"]) => match begin(world, within, call) {
            Ok((command, output)) => {
                Ok(ok(&agent::run_command(world, bash, &command, output).await))
            }
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
    agent::start_command(world, within, &call.json()?)
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
