//! The fake agent: plays a script through a run, as the agent server's loop would. It calls
//! tools and hooks that a test wrote, and touches no shell and no file.

use std::sync::{Arc, atomic::Ordering};

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{
    conversation::Conversation,
    entries::{
        self, About, content, count, fail, hooks, interrupted, invalid, message_fields, reject,
        remember, say, text_of,
    },
    slots::Slot,
    tools::{Observation, Verdict, camel},
    world::World,
};
use crate::model::{ModelRequest, SESSION, Step};

/// What a step leads to.
enum Next {
    GoOn,
    Finish,
    /// The run is over with the status as it stands.
    End,
}

/// Adds a user's message, with what precedes and follows it.
pub(super) fn receive(world: &World, conversation: &Conversation, message: &Value) {
    prepare(world, conversation);
    let status = conversation.status();
    if matches!(status.as_str(), "finished" | "stuck") {
        conversation.set_status("idle");
    }
    let words = text_of(message);
    let id = conversation.clock.id();
    let about = About::Message(&id, &words);
    let verdicts = hooks(world, conversation, "UserPromptSubmit", about);
    let more = context(&verdicts);
    if let Some(denial) = denial(verdicts) {
        let mut blocked = conversation.lock().info["blocked_messages"].clone();
        blocked[&id] = json!(denial.blocking_reason());
        conversation.set("blocked_messages", blocked);
    }
    let mut fields = message_fields(message);
    let id = match &more {
        None => id,
        // With more to read it is another message; what was blocked is not this one.
        Some(more) => {
            fields["extended_content"] = json!([content(more)]);
            conversation.clock.id()
        }
    };
    fields["id"] = json!(id);
    conversation.append("user", "MessageEvent", fields);
    let words: Vec<_> = std::iter::once(words).chain(more).collect();
    remember(
        conversation,
        json!({"role": "user", "content": words.join("\n")}),
    );
    conversation.set("last_user_message_id", json!(id));
}

fn denial(verdicts: Vec<Verdict>) -> Option<Verdict> {
    verdicts.into_iter().find(Verdict::is_denied)
}

/// What hooks add for the agent to read.
fn context(verdicts: &[Verdict]) -> Option<String> {
    let added = verdicts
        .iter()
        .filter_map(|verdict| verdict.context.clone());
    let added: Vec<_> = added.filter(|context| !context.is_empty()).collect();
    (!added.is_empty()).then(|| added.join("\n"))
}

/// Why no run begins.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Refused {
    /// One is under way.
    Running,
    /// As many run as may.
    Full,
}

/// Starts a run, where the server has a place for it.
pub(super) fn start(world: &Arc<World>, conversation: &Arc<Conversation>) -> Result<(), Refused> {
    start_in(world, conversation, || world.slots.take())
}

/// Starts a run in a place that is given, unless one is under way.
pub(super) fn start_in(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    slot: impl FnOnce() -> Option<Slot>,
) -> Result<(), Refused> {
    let slot = {
        let mut inner = conversation.lock();
        if inner.running {
            return Err(Refused::Running);
        }
        let slot = slot().ok_or(Refused::Full)?;
        inner.running = true;
        inner.interrupted = false;
        slot
    };
    world.spawn(run(Arc::clone(world), Arc::clone(conversation), slot));
    Ok(())
}

/// Runs in a place that is given, and waits until no run is under way. Whoever stops waiting
/// leaves the run alone.
pub(super) async fn work(world: &Arc<World>, conversation: &Arc<Conversation>, slot: &Slot) {
    // One that is under way already does as well.
    let _ = start_in(world, conversation, || Some(slot.clone()));
    conversation.until(|inner| !inner.running).await;
}

async fn run(world: Arc<World>, conversation: Arc<Conversation>, slot: Slot) {
    prepare(&world, &conversation);
    match conversation.status().as_str() {
        // Nothing new to do, but the hooks are asked once more.
        "finished" => {
            if denied_to_stop(&world, &conversation) {
                conversation.set_status("running");
                steps(&world, &conversation, Next::GoOn).await;
            }
        }
        "waiting_for_confirmation" => {
            conversation.set_status("running");
            let pending = pending_actions(&conversation);
            let next = observe(&world, &conversation, &pending).await;
            steps(&world, &conversation, next).await;
        }
        _ => {
            conversation.set_status("running");
            let next = match unblock(&conversation) {
                true => Next::Finish,
                false => Next::GoOn,
            };
            steps(&world, &conversation, next).await;
        }
    }
    let inner = conversation.lock();
    let interrupted = inner.interrupted && !inner.deleted;
    drop(inner);
    // A server that goes away writes down what it can, or nothing.
    if interrupted && !world.down.load(Ordering::SeqCst) {
        conversation.set_status("paused");
        conversation.append("user", "InterruptEvent", json!({}));
    }
    // Before the last word about it: who has heard that finds the place free.
    drop(slot);
    let mut inner = conversation.lock();
    inner.running = false;
    let now = conversation.clock.utc();
    inner.info.insert("updated_at".to_owned(), json!(now));
    drop(inner);
    conversation.publish_state();
    conversation.stir.notify_waiters();
}

/// Whether a hook blocked the newest message, which is forgotten with the answer.
fn unblock(conversation: &Conversation) -> bool {
    let (mut blocked, newest) = {
        let inner = conversation.lock();
        let newest = inner.info["last_user_message_id"].as_str();
        (
            inner.info["blocked_messages"].clone(),
            newest.map(str::to_owned),
        )
    };
    let (Value::Object(messages), Some(newest)) = (&mut blocked, newest) else {
        return false;
    };
    if messages.remove(&newest).is_none() {
        return false;
    }
    conversation.set("blocked_messages", blocked);
    true
}

async fn steps(world: &World, conversation: &Conversation, mut next: Next) {
    let most = conversation.lock().info["max_iterations"].as_u64();
    for _ in 0..most.unwrap_or(500) {
        match next {
            Next::GoOn => {}
            Next::End => return,
            Next::Finish => {
                conversation.set_status("finished");
                if !denied_to_stop(world, conversation) {
                    return;
                }
                conversation.set_status("running");
            }
        }
        if conversation.status() != "running" || conversation.lock().interrupted {
            return;
        }
        next = step(world, conversation).await;
    }
    if matches!(next, Next::Finish) {
        conversation.set_status("finished");
        return;
    }
    fail(
        conversation,
        "MaxIterationsReached",
        "the conversation reached its maximum of iterations",
    );
}

async fn step(world: &World, conversation: &Conversation) -> Next {
    let request = request(world, conversation);
    let step = world.play(&request);
    if !step.delay.is_zero() {
        let stirred = conversation.until(|inner| inner.interrupted || inner.deleted);
        tokio::select! {
            () = tokio::time::sleep(step.delay) => {}
            () = stirred => return Next::End,
        }
    } else {
        // Runs share two cores with whoever watches them.
        tokio::task::yield_now().await;
    }
    if conversation.lock().deleted {
        return Next::End;
    }
    if let Some(failure) = &step.fail {
        let code = match failure.status {
            401 | 403 => "LLMAuthenticationError",
            429 => "LLMRateLimitError",
            500.. => "LLMServiceUnavailableError",
            _ => "LLMBadRequestError",
        };
        fail(conversation, code, &failure.message);
        return Next::End;
    }
    count(conversation, &step);
    if step.calls.is_empty() {
        let item = stream(conversation, &step);
        say(conversation, &step, item);
        return Next::Finish;
    }
    let response_id = format!("chatcmpl-{}", conversation.clock.uuid().simple());
    let mut pending = Vec::new();
    for (index, call) in step.calls.iter().enumerate() {
        let call_id = format!("call_{}", conversation.clock.uuid().simple());
        let thought = step.text.as_ref().filter(|_| index == 0);
        let thought: Vec<_> = thought.map(|text| content(text)).into_iter().collect();
        let mut fields = json!({
            "thought": thought,
            "thinking_blocks": [],
            "tool_name": call.name,
            "tool_call_id": call_id,
            "tool_call": {
                "id": call_id,
                "name": call.name,
                "arguments": call.arguments,
                "origin": "completion",
            },
            "llm_response_id": response_id,
            "security_risk": "UNKNOWN",
        });
        if let Some(reasoning) = step.reasoning.as_ref().filter(|_| index == 0) {
            fields["reasoning_content"] = json!(reasoning);
        }
        let arguments = serde_json::from_str::<Value>(&call.arguments);
        let problem = match &arguments {
            Err(_) => Some("the arguments are not JSON"),
            Ok(_) if !world.has_tool(&call.name) => Some("there is no such tool"),
            Ok(_) => None,
        };
        let (None, Ok(arguments)) = (problem, arguments) else {
            conversation.append("agent", "ActionEvent", fields);
            invalid(
                conversation,
                &call.name,
                &call_id,
                problem.unwrap_or_default(),
            );
            continue;
        };
        let action_id = conversation.clock.id();
        let about = About::Tool(&action_id, &call.name);
        let denied = denial(hooks(world, conversation, "PreToolUse", about));
        if let Some(denial) = &denied {
            let blocked = json!({&action_id: denial.blocking_reason()});
            conversation.set("blocked_actions", blocked);
        }
        fields["id"] = json!(action_id);
        let mut action = arguments.clone();
        action["kind"] = json!(format!("{}Action", camel(&call.name)));
        if call.name == "terminal" {
            for (field, default) in [("is_input", false), ("reset", false)] {
                if action[field].is_null() {
                    action[field] = json!(default);
                }
            }
        }
        fields["action"] = action;
        fields["summary"] = json!(format!("{}: {}", call.name, call.arguments));
        conversation.append("agent", "ActionEvent", fields);
        remember(
            conversation,
            json!({"role": "assistant", "content": format!("{} {}", call.name, call.arguments)}),
        );
        match denied {
            Some(verdict) => {
                conversation.set("blocked_actions", json!({}));
                reject(
                    conversation,
                    &action_id,
                    &call.name,
                    &call_id,
                    &verdict.blocking_reason(),
                    "hook",
                );
            }
            None => pending.push(Pending {
                action_id,
                tool: call.name.clone(),
                call_id,
                arguments,
            }),
        }
    }
    let harmless = |pending: &Pending| matches!(pending.tool.as_str(), "finish" | "think");
    if confirms(conversation) && !pending.iter().all(harmless) {
        conversation.set_status("waiting_for_confirmation");
        return Next::End;
    }
    observe(world, conversation, &pending).await
}

struct Pending {
    action_id: String,
    tool: String,
    call_id: String,
    arguments: Value,
}

/// Runs the tools. After `finish` there is nothing more to do.
async fn observe(world: &World, conversation: &Conversation, pending: &[Pending]) -> Next {
    let mut finished = false;
    let _working = conversation.work();
    for (at, call) in pending.iter().enumerate() {
        let observation = world.observe(&call.tool, &call.arguments);
        hooks(
            world,
            conversation,
            "PostToolUse",
            About::Tool(&call.action_id, &call.tool),
        );
        let stopped = conversation.until(|inner| inner.interrupted || inner.deleted);
        tokio::select! {
            biased;
            () = stopped => {
                // A killed server writes nothing; it says so when it is back.
                if !world.down.load(Ordering::SeqCst) {
                    for call in &pending[at..] {
                        orphan(conversation, call);
                    }
                }
                return Next::End;
            }
            () = tokio::time::sleep(observation.after) => {}
        }
        let Observation {
            text,
            is_error,
            fields,
            ..
        } = observation;
        let mut body = json!({
            "content": [content(&text)],
            "is_error": is_error,
            "kind": format!("{}Observation", camel(&call.tool)),
        });
        if let Value::Object(body) = &mut body {
            body.extend(fields);
        }
        let fields = json!({
            "tool_name": call.tool,
            "tool_call_id": call.call_id,
            "observation": body,
            "action_id": call.action_id,
            "extended_content": [],
        });
        conversation.append("environment", "ObservationEvent", fields);
        remember(conversation, json!({"role": "tool", "content": text}));
        finished |= call.tool == "finish";
    }
    if finished { Next::Finish } else { Next::GoOn }
}

/// An action that no observation will follow.
fn orphan(conversation: &Conversation, call: &Pending) {
    if !conversation.lock().deleted {
        let why = "The tool was interrupted before it was done.";
        interrupted(conversation, &call.tool, &call.call_id, why);
    }
}

/// Says of the first action without an observation that a restart came in between.
pub(super) fn restarted(conversation: &Conversation) {
    if let Some(call) = pending_actions(conversation).first() {
        let why = "A restart occurred while this tool was in progress.";
        interrupted(conversation, &call.tool, &call.call_id, why);
    }
}

/// Answers the actions that await approval with a no. They are not run.
pub(super) fn reject_pending(conversation: &Conversation, reason: &str) {
    if conversation.status() == "waiting_for_confirmation" {
        conversation.set_status("idle");
    }
    for call in pending_actions(conversation) {
        let (action, tool) = (&call.action_id, &call.tool);
        reject(conversation, action, tool, &call.call_id, reason, "user");
    }
}

fn pending_actions(conversation: &Conversation) -> Vec<Pending> {
    let log = {
        let mut inner = conversation.lock();
        inner.page(0, usize::MAX)
    };
    let mut pending: Vec<Pending> = Vec::new();
    for (_, raw) in log {
        let Ok(event) = serde_json::from_slice::<Value>(&raw) else {
            continue;
        };
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        match event["kind"].as_str() {
            Some("ActionEvent") => pending.push(Pending {
                action_id: text("id"),
                tool: text("tool_name"),
                call_id: text("tool_call_id"),
                arguments: event["action"].clone(),
            }),
            Some("ObservationEvent" | "UserRejectObservation" | "AgentErrorEvent") => {
                let answered = text("tool_call_id");
                pending.retain(|call| call.call_id != answered);
            }
            _ => {}
        }
    }
    pending
}

fn confirms(conversation: &Conversation) -> bool {
    let inner = conversation.lock();
    inner.info["confirmation_policy"]["kind"] == "AlwaysConfirm"
}

/// `true` when a Stop hook sent the agent back to work.
fn denied_to_stop(world: &World, conversation: &Conversation) -> bool {
    let verdicts = hooks(world, conversation, "Stop", About::Nothing);
    let more = context(&verdicts);
    let Some(denial) = denial(verdicts) else {
        return false;
    };
    let feedback = more.unwrap_or_else(|| denial.blocking_reason().trim().to_owned());
    let words = format!("[Stop hook feedback] {feedback}");
    let message = json!({"role": "user", "content": [content(&words)]});
    conversation.append("environment", "MessageEvent", message_fields(&message));
    remember(conversation, json!({"role": "user", "content": words}));
    true
}

/// What comes before the first message or run of a server's life: hook configuration, and of the
/// conversation's life: the system prompt.
pub(super) fn prepare(world: &World, conversation: &Conversation) {
    let (hooks, prompted) = {
        let mut inner = conversation.lock();
        if std::mem::replace(&mut inner.ready, true) {
            return;
        }
        let prompted = std::mem::replace(&mut inner.prompted, true);
        (inner.hooks.clone(), prompted)
    };
    let mut more = None;
    if !hooks.is_null() {
        conversation.set_if_new("hook_config", hooks);
        let verdicts = entries::hooks(world, conversation, "SessionStart", About::Nothing);
        more = context(&verdicts);
    }
    if !prompted {
        prompt(world, conversation);
    }
    if let Some(more) = more {
        let message = json!({"role": "user", "content": [content(&more)]});
        conversation.append("environment", "MessageEvent", message_fields(&message));
        remember(conversation, json!({"role": "user", "content": more}));
    }
}

/// Ends what [`prepare`] began.
pub(super) fn close(world: &World, conversation: &Conversation) {
    if std::mem::take(&mut conversation.lock().ready) {
        hooks(world, conversation, "SessionEnd", About::Nothing);
    }
}

fn prompt(world: &World, conversation: &Conversation) {
    let tools: Vec<_> = world
        .tool_names(conversation)
        .into_iter()
        .map(|name| {
            let class = camel(&name);
            json!({
                "title": name,
                "description": format!("The tool {name}, played by a test."),
                "action_type": format!("{class}Action"),
                "observation_type": format!("{class}Observation"),
                "kind": format!("{class}Tool"),
            })
        })
        .collect();
    let mut fields = json!({
        "system_prompt": content("You are played by a test."),
        "tools": tools,
    });
    let secrets = conversation.lock().info["secret_registry"]["secret_sources"].clone();
    if secrets != json!({}) {
        fields["dynamic_context"] = content("Some secrets are at hand.");
    }
    conversation.append("agent", "SystemPromptEvent", fields);
}

/// What the model is asked when somebody asks the agent beside its work.
pub(super) fn question(world: &World, conversation: &Conversation, text: &str) -> ModelRequest {
    let mut request = request(world, conversation);
    if let Some(messages) = request.body["messages"].as_array_mut() {
        messages.push(json!({"role": "user", "content": text}));
    }
    request
}

fn request(world: &World, conversation: &Conversation) -> ModelRequest {
    let tools: Vec<_> = world
        .tool_names(conversation)
        .into_iter()
        .map(|name| json!({"type": "function", "function": {"name": name}}))
        .collect();
    let inner = conversation.lock();
    let model = inner.info["agent"]["llm"]["model"]
        .as_str()
        .unwrap_or_default();
    // As LiteLLM would: the provider is the address, the rest is the name.
    let model = model.split_once('/').map_or(model, |(_, name)| name);
    let body = json!({"model": model, "messages": inner.messages, "tools": tools});
    let mut headers = HeaderMap::new();
    if let Ok(id) = HeaderValue::from_str(&conversation.id.hyphenated().to_string()) {
        headers.insert(SESSION, id);
    }
    ModelRequest {
        path: "/v1/chat/completions".to_owned(),
        headers,
        body,
    }
}

/// Shows an answer while it is made, where the LLM is configured to stream. Returns the id
/// that its event will have.
fn stream(conversation: &Conversation, step: &Step) -> Option<String> {
    let streams = conversation.lock().info["agent"]["llm"]["stream"] == true;
    let text = step.text.as_deref().filter(|_| streams)?;
    let item = conversation.clock.id();
    let anchor = conversation.lock().len().checked_sub(1);
    conversation.progress(&json!({
        "type": "item_started", "item_id": item, "attempt": 0, "anchor_seq": anchor,
    }));
    for (order, piece) in crate::model::pieces(text).into_iter().enumerate() {
        conversation.progress(&json!({
            "type": "delta", "item_id": item, "attempt": 0, "order": order,
            "kind": "text", "content": piece,
        }));
    }
    Some(item)
}
