//! The routes that create, find, list, rename and delete conversations. `operations` contains their
//! operations and `events` their logs.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    agent,
    routes::{
        agents, bash,
        described::{info, runtime},
        events, files, git,
        names::check_names,
        operations, vscode,
    },
    state::{
        conversation::Conversation,
        disk::{is_within, normal},
        executed::Permission,
        lock::lock,
        policy,
        world::World,
    },
    wire::{
        known::undone,
        reply::{
            self, Answered, Call, crash, detail, invalid, no_content, not_found, ok, page_limit,
            pairs,
        },
    },
};
use crate::http::{self as server};

pub(crate) async fn route(
    world: &Arc<World>,
    call: &Call,
    method: &str,
    rest: &[&str],
) -> Answered {
    match (method, rest) {
        ("POST", []) => return create(world, call),
        ("GET", []) => return batch(world, call),
        ("GET", ["search"]) => return search(world, call),
        ("GET", ["count"]) => {
            let wanted = status(call)?;
            let all = world.conversations();
            let count = all
                .iter()
                .filter(|conversation| wanted.as_ref().is_none_or(|s| *s == conversation.status()));
            return Ok(ok(&count.count()));
        }
        ("POST", ["prepare-for-sandbox-pause"]) => {
            for conversation in world.conversations() {
                if conversation.lock().running {
                    conversation.set_status("paused");
                    conversation.append("user", "PauseEvent", json!({}));
                }
                agent::stop(world, &conversation, true);
                conversation.forget_sockets();
                conversation.lock().unloaded = true;
            }
            return Ok(no_content());
        }
        ("PUT", [id, "credential-bindings", name]) => return bind(call, id, name),
        _ => {}
    }
    let [text, rest @ ..] = rest else {
        return Err(not_found().into());
    };
    let scoped = matches!(rest, ["bash" | "file" | "git" | "vscode", ..]);
    let served = matches!((method, rest), ("GET", ["workspace", ..]));
    let id = text.parse::<uuid::Uuid>().map_err(|_| {
        let name = match scoped {
            true => "runtime_conversation_id",
            false => "conversation_id",
        };
        invalid(
            "uuid_parsing",
            json!(["path", name]),
            "Input should be a valid UUID",
        )
    })?;
    let found = world.conversation(id);
    if scoped || served || matches!(rest, ["events", ..]) {
        let Some(conversation) = found.filter(|conversation| !conversation.lock().leased) else {
            let missing = format!("Conversation not found: {}", id.hyphenated());
            return Err(detail(StatusCode::NOT_FOUND, &missing).into());
        };
        conversation.load();
        return match rest {
            ["events", rest @ ..] => events::route(world, &conversation, call, method, rest).await,
            ["workspace", rest @ ..] => files::page(world, &conversation.working_dir(), call, rest),
            [area, rest @ ..] => within(world, &conversation, call, method, area, rest).await,
            [] => Err(not_found().into()),
        };
    }
    operations::check(call, method, rest)?;
    if method == "PATCH" && rest.is_empty() {
        check_names(&call.json()?)?;
    }
    let conversation = found.ok_or_else(|| operations::unknown(rest))?;
    match (method, rest) {
        ("GET", []) => Ok(ok(&info(&conversation))),
        ("GET", ["runtime"]) | ("POST", ["runtime", "reprovision"]) => Ok(ok(&runtime())),
        _ if conversation.lock().leased => Err(operations::unknown(rest).into()),
        _ => used(world, &conversation, call, method, rest).await,
    }
}

/// Handles the request to bind a credential, as far as it needs no URL.
fn bind(call: &Call, id: &str, name: &str) -> Answered {
    if id.parse::<uuid::Uuid>().is_err() {
        let at = json!(["path", "conversation_id"]);
        return Err(invalid("uuid_parsing", at, "Input should be a valid UUID").into());
    }
    reply::require(&call.json()?, &["url"])?;
    match name {
        "CODEX_AUTH_JSON" => Err(undone(call).into()),
        _ => Err(not_found().into()),
    }
}

/// Handles the requests that load the conversation.
async fn used(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    call: &Call,
    method: &str,
    rest: &[&str],
) -> Answered {
    conversation.load();
    match (method, rest) {
        ("DELETE", []) => {
            world.delete(conversation.id);
            agent::close(world, conversation);
            Ok(ok(&json!({"success": true})))
        }
        ("PATCH", []) => {
            update(conversation, &call.json()?);
            Ok(ok(&json!({"success": true})))
        }
        _ => operations::route(world, conversation, call, method, rest).await,
    }
}

/// Handles the requests for a conversation's workspace: commands, files and git.
async fn within(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    call: &Call,
    method: &str,
    area: &str,
    rest: &[&str],
) -> Answered {
    let workspace = conversation.working_dir();
    for name in ["path", "workspace_dir"] {
        if call
            .query(name)
            .is_some_and(|path| !is_within(&path, &workspace))
        {
            let text = format!("{name} must be inside the conversation workspace");
            return Err(detail(StatusCode::UNPROCESSABLE_ENTITY, &text).into());
        }
    }
    match area {
        "bash" => Ok(bash::route(world, Some(conversation), call, method, rest).await),
        "file" => match rest {
            // Browsing applies to the server, not to a workspace.
            ["home" | "search_subdirs"] => Err(undone(call).into()),
            ["download-trajectory", other] => match other.parse::<uuid::Uuid>() {
                Ok(id) if id == conversation.id => files::route(world, call, method, rest),
                _ => {
                    let text = "Trajectory must belong to the selected conversation";
                    Err(detail(StatusCode::UNPROCESSABLE_ENTITY, text).into())
                }
            },
            _ => files::route(world, call, method, rest),
        },
        "git" => git::route(world, call, method, rest),
        _ => vscode::vscode(call, method, rest),
    }
}

fn create(world: &Arc<World>, call: &Call) -> Answered {
    let mut request = call.json()?;
    if !request["workspace"].is_object() {
        return Err(invalid("missing", json!(["body", "workspace"]), "Field required").into());
    }
    let Some(directory) = request["workspace"]["working_dir"].as_str() else {
        return Err(crash("'working_dir'").into());
    };
    let directory = directory.to_owned();
    let id = match request["conversation_id"].as_str() {
        Some(id) => id.parse().map_err(|_| {
            let at = json!(["body", "conversation_id"]);
            invalid("uuid_parsing", at, "Input should be a valid UUID")
        })?,
        None => world.clock.uuid(),
    };
    check_names(&request)?;
    if !request["confirmation_policy"].is_null() {
        policy::normal(&request["confirmation_policy"], "confirmation_policy")?;
    }
    if !matches!(
        request["conversation_runtime"].as_str(),
        None | Some("local")
    ) {
        let text = "This server only runs local conversations";
        return Err(detail(StatusCode::UNPROCESSABLE_ENTITY, text).into());
    }
    if let Some(parent) = request["parent_conversation_id"].as_str()
        && parent
            .parse()
            .ok()
            .and_then(|id| world.conversation(id))
            .is_none()
    {
        let text = format!("Parent conversation not found: {parent}");
        return Err(detail(StatusCode::UNPROCESSABLE_ENTITY, &text).into());
    }
    if world.conversation(id).is_none() {
        agents::resolve(&lock(&world.stored), &mut request)?;
    }
    // An existing conversation needs no slot.
    let slot = match world.conversation(id) {
        Some(_) => None,
        None => Some(world.slots.take().ok_or_else(reply::full)?),
    };
    let (conversation, is_new) = world.create(id, &request);
    if is_new {
        // If the path is a file, the agent fails later.
        let _ = world.disk.make_directory(&directory);
        if let Some(root) = normal(&directory) {
            lock(&world.repositories).entry(root).or_default();
        }
    }
    if is_new && request["initial_message"].is_object() {
        agent::receive(world, &conversation, &request["initial_message"]);
        // A new conversation has no active run, so this cannot fail.
        let _ = agent::start_in(world, &conversation, Permission::Message, || slot);
    }
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut info = info(&conversation);
    info["runtime_info"] = Value::Null;
    Ok(server::json(status, &info))
}

fn update(conversation: &Conversation, request: &Value) {
    let now = conversation.clock.utc();
    {
        let mut inner = conversation.lock();
        inner.info.insert("updated_at".to_owned(), json!(now));
        if let Some(title) = request["title"].as_str() {
            inner.info.insert("title".to_owned(), json!(title.trim()));
        }
    }
    // A new title is not announced; tags are part of the state.
    if !request["tags"].is_null() {
        conversation.set("tags", request["tags"].clone());
    }
}

fn batch(world: &World, call: &Call) -> Answered {
    let ids: Vec<_> = pairs(call.head.uri.query().unwrap_or_default())
        .filter(|(name, _)| name == "ids")
        .map(|(_, id)| id)
        .collect();
    if ids.is_empty() {
        return Err(invalid("missing", json!(["query", "ids"]), "Field required").into());
    }
    let mut found = Vec::new();
    for (at, id) in ids.iter().enumerate() {
        let id = id.parse().map_err(|_| {
            let at = json!(["query", "ids", at]);
            invalid("uuid_parsing", at, "Input should be a valid UUID")
        })?;
        found.push(
            world
                .conversation(id)
                .map(|conversation| info(&conversation)),
        );
    }
    if ids.len() > 99 {
        let rule = "List should have at most 99 items after validation";
        return Err(invalid("too_long", json!(["query", "ids"]), rule).into());
    }
    Ok(ok(&found))
}

/// Parses the status filter of a list.
fn status(call: &Call) -> Answered<Option<String>> {
    const STATUSES: [&str; 8] = [
        "idle",
        "running",
        "paused",
        "waiting_for_confirmation",
        "finished",
        "error",
        "stuck",
        "deleting",
    ];
    match call.query("status") {
        Some(status) if !STATUSES.contains(&status.as_str()) => {
            let rule = "Input should be one of the execution statuses";
            Err(invalid("enum", json!(["query", "status"]), rule).into())
        }
        status => Ok(status),
    }
}

fn search(world: &World, call: &Call) -> Answered {
    let limit = page_limit(call)?;
    let wanted = status(call)?;
    let order = call.query("sort_order");
    let (field, descending) = match order.as_deref() {
        None | Some("CREATED_AT_DESC") => ("created_at", true),
        Some("CREATED_AT") => ("created_at", false),
        Some("UPDATED_AT") => ("updated_at", false),
        Some("UPDATED_AT_DESC") => ("updated_at", true),
        Some(_) => {
            let rule = "Input should be one of the sort orders";
            return Err(invalid("enum", json!(["query", "sort_order"]), rule).into());
        }
    };
    let mut found: Vec<_> = world
        .conversations()
        .into_iter()
        .filter(|conversation| wanted.as_ref().is_none_or(|s| *s == conversation.status()))
        .map(|conversation| {
            let at = conversation.lock().info[field].as_str().map(str::to_owned);
            ((at, conversation.number), conversation)
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| if descending { b.cmp(a) } else { a.cmp(b) });
    let from = call.query("page_id").and_then(|id| {
        found
            .iter()
            .position(|(_, c)| c.id.simple().to_string() == id)
    });
    let start = from.unwrap_or_default();
    let page = found.iter().skip(start).take(limit);
    let page: Vec<_> = page.map(|(_, conversation)| info(conversation)).collect();
    let next = found.get(start + limit);
    let next = next.map(|(_, conversation)| conversation.id.simple().to_string());
    Ok(ok(&json!({"items": page, "next_page_id": next})))
}
