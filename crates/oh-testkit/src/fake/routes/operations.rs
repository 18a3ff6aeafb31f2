//! The operations of a conversation other than messages: run, stop, change settings, branch.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    agent::{self, Refused},
    routes::{described, goals, names::check_names},
    state::{
        branches, conversation::Conversation, executed::Permission, lock::lock, policy,
        world::World,
    },
    wire::{
        known::undone,
        reply::{self, Answered, Call, crash, detail, invalid, not_found, ok},
    },
};
use crate::http::{self as server, Response};

pub(crate) async fn route(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    call: &Call,
    method: &str,
    rest: &[&str],
) -> Answered {
    match (method, rest) {
        ("POST", ["run"]) => {
            agent::look_first(world, conversation).await;
            let started = agent::start(world, conversation, Permission::Run);
            started.map_err(|refused| match refused {
                Refused::Running => {
                    let busy = "Conversation already running. Wait for completion or pause first.";
                    detail(StatusCode::CONFLICT, busy)
                }
                Refused::Full => reply::full(),
            })?;
        }
        ("POST", ["pause"]) => agent::pause(conversation).await,
        ("POST", ["interrupt"]) => agent::interrupt(conversation).await,
        ("POST", ["confirmation_policy"]) => {
            let request = call.json()?;
            let policy = field(&request, "policy")?;
            let policy = policy::normal(policy, "policy")?;
            let _turn = conversation.turn().await;
            conversation.set_if_new("confirmation_policy", policy);
        }
        ("POST", ["security_analyzer"]) => {
            let analyzer = call.json()?["security_analyzer"].clone();
            let _turn = conversation.turn().await;
            conversation.set_if_new("security_analyzer", analyzer);
        }
        ("POST", ["secrets"]) => {
            let request = call.json()?;
            let Value::Object(secrets) = field(&request, "secrets")?.clone() else {
                let at = json!(["body", "secrets"]);
                return Err(invalid("dict_type", at, "Input should be a valid dictionary").into());
            };
            let _turn = conversation.turn().await;
            secrets_of(conversation, secrets);
        }
        ("POST", ["switch_llm"]) => {
            let request = call.json()?;
            switch(conversation, field(&request, "llm")?.clone());
        }
        ("POST", ["switch_profile"]) => {
            let request = call.json()?;
            let name = text(&request, "profile_name")?;
            let profile = lock(&world.stored).profile(name).cloned();
            let Some(mut profile) = profile else {
                let missing = format!("Profile '{name}' not found");
                return Err(detail(StatusCode::NOT_FOUND, &missing).into());
            };
            profile["usage_id"] = json!(format!("profile:{name}"));
            switch(conversation, profile);
        }
        ("POST", ["switch_acp_model"]) => {
            text(&call.json()?, "model")?;
            let refusal = "The conversation's agent is not an ACP agent";
            return Err(detail(StatusCode::BAD_REQUEST, refusal).into());
        }
        ("POST", ["load_plugin"]) => {
            let request = call.json()?;
            let plugin = text(&request, "plugin_ref")?;
            let refusal = format!("cannot resolve '{plugin}': no marketplace is registered");
            return Err(detail(StatusCode::BAD_REQUEST, &refusal).into());
        }
        ("GET", ["agent_final_response"]) => {
            let response = agent::final_response(conversation);
            return Ok(ok(&json!({"response": response})));
        }
        ("POST", ["goal", rest @ ..]) => return goals::route(world, conversation, call, rest),
        ("POST", ["ask_agent"]) => return ask(world, conversation, call).await,
        ("POST", ["fork"]) => return fork(world, conversation, call),
        ("POST", ["navigate"]) => return navigate(conversation, call),
        ("POST", ["children"]) => return child(world, conversation, call),
        ("POST", ["condense"]) if conversation.lock().info["agent"]["condenser"].is_null() => {
            let refusal = "Cannot condense conversation: No condenser configured";
            return Err(detail(StatusCode::CONFLICT, refusal).into());
        }
        ("POST", ["condense"]) => condense(world, conversation).await?,
        _ => return Err(undone(call).into()),
    }
    Ok(ok(&json!({"success": true})))
}

/// Rejects a request without the field that its operation needs. The agent server checks this
/// before it looks up the conversation.
pub(crate) fn check(call: &Call, method: &str, rest: &[&str]) -> Answered<()> {
    let needed = match (method, rest) {
        ("POST", ["confirmation_policy"]) => "policy",
        ("POST", ["security_analyzer"]) => "security_analyzer",
        ("POST", ["secrets"]) => "secrets",
        ("POST", ["switch_llm"]) => "llm",
        ("POST", ["switch_profile"]) => "profile_name",
        ("POST", ["switch_acp_model"]) => "model",
        ("POST", ["load_plugin"]) => "plugin_ref",
        ("POST", ["ask_agent"]) => "question",
        ("POST", ["children"]) => "task",
        ("POST", ["goal"]) => "objective",
        _ => return Ok(()),
    };
    match call.json()?.get(needed) {
        Some(_) => Ok(()),
        None => Err(invalid("missing", json!(["body", needed]), "Field required").into()),
    }
}

/// Returns the agent server's response for an unknown conversation, which depends on the operation.
pub(crate) fn unknown(rest: &[&str]) -> Response {
    match rest {
        ["ask_agent" | "condense" | "navigate"] => {
            detail(StatusCode::NOT_FOUND, "Conversation not found")
        }
        ["fork"] => detail(StatusCode::NOT_FOUND, "Source conversation not found"),
        ["children"] => detail(StatusCode::NOT_FOUND, "Parent conversation not found"),
        _ => not_found(),
    }
}

fn field<'a>(request: &'a Value, name: &str) -> Answered<&'a Value> {
    match &request[name] {
        Value::Null => Err(invalid("missing", json!(["body", name]), "Field required").into()),
        value => Ok(value),
    }
}

fn text<'a>(request: &'a Value, name: &str) -> Answered<&'a str> {
    let value = field(request, name)?;
    value.as_str().ok_or_else(|| {
        let at = json!(["body", name]);
        invalid("string_type", at, "Input should be a valid string").into()
    })
}

/// Stores secrets as shown in the state: names and kinds, but no values.
fn secrets_of(conversation: &Conversation, secrets: serde_json::Map<String, Value>) {
    let mut registry = conversation.lock().info["secret_registry"].clone();
    for (name, source) in secrets {
        let described = source["description"].clone();
        registry["secret_sources"][name] = match source["kind"].as_str() {
            Some("LookupSecret") => json!({
                "kind": "LookupSecret",
                "description": described,
                "url": source["url"],
                "headers": {},
            }),
            _ => json!({"kind": "StaticSecret", "description": described, "value": null}),
        };
    }
    conversation
        .lock()
        .info
        .insert("secret_registry".to_owned(), registry);
}

fn switch(conversation: &Conversation, mut llm: Value) {
    llm["api_key"] = Value::Null;
    let mut agent = conversation.lock().info["agent"].clone();
    agent["llm"] = llm;
    conversation.set("agent", agent);
}

/// Answers a question outside of the agent's work. The script answers, and nothing is logged.
async fn ask(world: &Arc<World>, conversation: &Arc<Conversation>, call: &Call) -> Answered {
    let request = call.json()?;
    let question = text(&request, "question")?;
    agent::prepare(world, conversation);
    let step = world.play(&agent::question(world, conversation, question));
    step.wait().await;
    if let Some(failure) = &step.fail {
        return Err(crash(&failure.message).into());
    }
    match step.text.filter(|text| !text.is_empty()) {
        Some(response) => Ok(ok(&json!({"response": response}))),
        None => Err(crash("Failed to generate summary").into()),
    }
}

/// Executes a step of the agent: all actions without an answer or, if there are none, the request
/// to replace the events between the first ones and the newer half by a summary from the script.
async fn condense(world: &Arc<World>, conversation: &Arc<Conversation>) -> Answered<()> {
    conversation.append("environment", "CondensationRequest", json!({}));
    if agent::execute_waiting(world, conversation, Permission::Condense).await {
        return Ok(());
    }
    let keep = conversation.lock().info["agent"]["condenser"]["keep_first"].as_u64();
    let keep = usize::try_from(keep.unwrap_or(2)).unwrap_or(usize::MAX);
    let shown: Vec<String> = branches::active(conversation)
        .iter()
        .filter_map(|raw| serde_json::from_slice::<Value>(raw).ok())
        .filter(branches::is_shown)
        .filter_map(|event| event["id"].as_str().map(str::to_owned))
        .collect();
    let forgotten: Vec<_> = shown.iter().take(shown.len() / 2).skip(keep).collect();
    let request = agent::question(world, conversation, "Summarize what was said so far.");
    let step = world.play(&request);
    step.wait().await;
    if let Some(failure) = &step.fail {
        return Err(crash(&failure.message).into());
    }
    let response = conversation.clock.uuid().simple();
    let fields = json!({
        "forgotten_event_ids": forgotten,
        "summary": step.text,
        "summary_offset": keep,
        "llm_response_id": format!("chatcmpl-{response}"),
    });
    conversation.append("environment", "Condensation", fields);
    Ok(())
}

fn fork(world: &Arc<World>, source: &Arc<Conversation>, call: &Call) -> Answered {
    let request = if call.body.is_empty() {
        json!({})
    } else {
        call.json()?
    };
    check_names(&request)?;
    let id = match request["id"].as_str() {
        Some(id) => id.parse().map_err(|_| {
            let at = json!(["body", "id"]);
            invalid("uuid_parsing", at, "Input should be a valid UUID")
        })?,
        None => world.clock.uuid(),
    };
    if world.conversation(id).is_some() {
        let taken = format!("Conversation with id {id} already exists");
        return Err(detail(StatusCode::CONFLICT, &taken).into());
    }
    let from = request["from_event_id"].as_str();
    if let Some(event) = from
        && source.lock().log.find(event).is_none()
    {
        let missing = format!("Unknown from_event_id: {event}");
        return Err(detail(StatusCode::NOT_FOUND, &missing).into());
    }
    let now = world.clock.utc();
    let (mut info, policy, analyzer) = {
        let source = source.lock();
        let (policy, analyzer) = (source.policy.clone(), source.analyzer.clone());
        (source.info.clone(), policy, analyzer)
    };
    let directory = format!("/fake/conversations/{}", id.simple());
    for (name, value) in [
        ("id", json!(id.hyphenated().to_string())),
        ("persistence_dir", json!(directory)),
        ("title", request["title"].clone()),
        (
            "tags",
            if request["tags"].is_null() {
                json!({})
            } else {
                request["tags"].clone()
            },
        ),
        ("execution_status", json!("idle")),
        // A policy that was changed at run time is not copied.
        ("confirmation_policy", policy),
        ("security_analyzer", analyzer),
        ("secret_registry", json!({"secret_sources": {}})),
        ("created_at", json!(now)),
        ("updated_at", json!(now)),
        (
            "forked_from_conversation_id",
            json!(source.id.hyphenated().to_string()),
        ),
        ("forked_from_event_id", request["from_event_id"].clone()),
        ("sub_conversation_ids", json!([])),
        ("hook_config", Value::Null),
        ("last_user_message_id", Value::Null),
    ] {
        info.insert(name.to_owned(), value);
    }
    if request["reset_metrics"] != false {
        info.insert("stats".to_owned(), json!({"usage_to_metrics": {}}));
    }
    let fork = world.adopt(id, info, source);
    branches::copy(source, &fork, from);
    Ok(described::made(&fork))
}

fn navigate(conversation: &Arc<Conversation>, call: &Call) -> Answered {
    let request = call.json()?;
    let to = request["event_id"].as_str();
    if let Some(event) = to
        && conversation.lock().log.find(event).is_none()
    {
        let missing = format!("Unknown event_id: {event}");
        return Err(detail(StatusCode::NOT_FOUND, &missing).into());
    }
    branches::go(conversation, to);
    let mut info = described::info(conversation);
    info["runtime_info"] = Value::Null;
    Ok(ok(&info))
}

fn child(world: &Arc<World>, parent: &Arc<Conversation>, call: &Call) -> Answered {
    let request = call.json()?;
    let task = text(&request, "task")?;
    let slot = world.slots.take().ok_or_else(reply::full)?;
    let id = world.clock.uuid();
    let (own, shown) = (
        id.hyphenated().to_string(),
        parent.id.hyphenated().to_string(),
    );
    let now = world.clock.utc();
    let (mut info, policy, analyzer) = {
        let parent = parent.lock();
        let (policy, analyzer) = (parent.policy.clone(), parent.analyzer.clone());
        (parent.info.clone(), policy, analyzer)
    };
    for (name, value) in [
        ("id", json!(own)),
        (
            "persistence_dir",
            json!(format!("/fake/conversations/{}", id.simple())),
        ),
        ("title", request["title"].clone()),
        ("execution_status", json!("idle")),
        ("created_at", json!(now)),
        ("updated_at", json!(now)),
        ("parent_conversation_id", json!(shown)),
        ("sub_conversation_ids", json!([])),
        ("stats", json!({"usage_to_metrics": {}})),
        // As for a fork, settings that were changed at run time are not copied.
        ("confirmation_policy", policy),
        ("security_analyzer", analyzer),
        ("leaf_event_id", Value::Null),
        ("last_user_message_id", Value::Null),
        ("hook_config", Value::Null),
    ] {
        info.insert(name.to_owned(), value);
    }
    let child = world.adopt(id, info, parent);
    {
        let mut inner = parent.lock();
        let children = inner
            .info
            .entry("sub_conversation_ids")
            .or_insert_with(|| json!([]));
        if let Value::Array(children) = children {
            children.push(json!(own));
        }
    }
    let message = json!({"role": "user", "content": [{"type": "text", "text": task}]});
    agent::receive(world, &child, &message);
    // A new conversation has no active run, so this cannot fail.
    let _ = agent::start_in(world, &child, Permission::Message, || Some(slot));
    let body = json!({
        "conversation_id": own,
        "parent_conversation_id": shown,
        "status": child.status(),
        "title": request["title"],
        "url": null,
        "workspace": child.working_dir(),
        // The fake server has no separate branches for children.
        "isolation": "shared",
    });
    Ok(server::json(StatusCode::CREATED, &body))
}
