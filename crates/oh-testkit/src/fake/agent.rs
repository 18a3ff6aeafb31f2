//! The fake agent: plays a script through a run, as the agent server's loop would. It calls
//! tools and hooks that a test wrote, and touches no shell and no file.

use std::sync::{Arc, atomic::Ordering};

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{
    builtin,
    conversation::Conversation,
    entries::{
        self, About, content, fail, hooks, interrupted, message_fields, reject, remember, text_of,
    },
    executed::Permission,
    pending::{self, Pending},
    slots::Slot,
    step::step,
    tools::Verdict,
    world::World,
};
use crate::model::{ModelRequest, SESSION};

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
    let update = |id: &str| conversation.set("last_user_message_id", json!(id));
    if world.updates_first {
        conversation.append_then("user", "MessageEvent", fields, update);
    } else {
        conversation.append("user", "MessageEvent", fields);
        update(&id);
    }
    let words: Vec<_> = std::iter::once(words).chain(more).collect();
    remember(
        conversation,
        json!({"role": "user", "content": words.join("\n")}),
    );
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

/// Starts a run, where the server has a place for it. `cause` is what asks for it.
pub(super) fn start(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    cause: Permission,
) -> Result<(), Refused> {
    start_in(world, conversation, cause, || world.slots.take())
}

/// Starts a run for a message that was just logged. Where a run is under way that takes no more
/// messages in, another follows it.
pub(super) fn start_for_message(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    cause: Permission,
) -> Result<(), Refused> {
    let started = start(world, conversation, cause);
    if started == Err(Refused::Running) {
        conversation.lock().again = Some(cause);
    }
    started
}

/// Starts a run in a place that is given, unless one is under way.
pub(super) fn start_in(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    cause: Permission,
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
    world.spawn(run(
        Arc::clone(world),
        Arc::clone(conversation),
        cause,
        slot,
    ));
    Ok(())
}

/// Runs in a place that is given, and waits until no run is under way. Whoever stops waiting
/// leaves the run alone.
pub(super) async fn work(world: &Arc<World>, conversation: &Arc<Conversation>, slot: &Slot) {
    // One that is under way already does as well.
    let _ = start_in(world, conversation, Permission::Goal, || Some(slot.clone()));
    conversation.until(|inner| !inner.running).await;
}

async fn run(
    world: Arc<World>,
    conversation: Arc<Conversation>,
    mut cause: Permission,
    slot: Slot,
) {
    let mut slot = Some(slot);
    loop {
        prepare(&world, &conversation);
        steps(&world, &conversation, cause).await;
        let inner = conversation.lock();
        let interrupted = inner.interrupted && !inner.deleted;
        drop(inner);
        // A server that goes away writes down what it can, or nothing.
        if interrupted && !world.down.load(Ordering::SeqCst) {
            conversation.set_status("paused");
            conversation.append("user", "InterruptEvent", json!({}));
        }
        // A message that came too late for this run has one of its own.
        let late = conversation.lock().again.take();
        let late = late.filter(|_| !interrupted && conversation.status() == "idle");
        if late.is_none() {
            // Before the last word about it: who has heard that finds the place free.
            slot = None;
        }
        let mut inner = conversation.lock();
        inner.running = late.is_some();
        let now = conversation.clock.utc();
        inner.info.insert("updated_at".to_owned(), json!(now));
        drop(inner);
        conversation.publish_state();
        conversation.stir.notify_waiters();
        match late {
            Some(late) => cause = late,
            None => break,
        }
    }
    drop(slot);
}

/// Step after step, until one is the last.
async fn steps(world: &World, conversation: &Conversation, cause: Permission) {
    let most = conversation.lock().info["max_iterations"].as_u64();
    let most = most.unwrap_or(500);
    let mut turn = conversation.turn().await;
    if matches!(
        conversation.status().as_str(),
        "idle" | "paused" | "error" | "stuck"
    ) {
        conversation.set_status("running");
    }
    let mut done = 0;
    loop {
        let over = {
            let inner = conversation.lock();
            inner.interrupted || inner.deleted
        };
        match conversation.status().as_str() {
            _ if over => return,
            "paused" | "stuck" => return,
            "finished" => {
                // Nothing new to do, but the hooks are asked.
                if !denied_to_stop(world, conversation) {
                    return;
                }
                conversation.set_status("running");
            }
            "waiting_for_confirmation" => conversation.set_status("running"),
            _ => {}
        }
        let heard = newest_message(conversation);
        let Some(mine) = step(world, conversation, turn, cause).await else {
            return;
        };
        done += 1;
        let status = conversation.status();
        let (finished, waits) = (status == "finished", status == "waiting_for_confirmation");
        // A message that came during the step is news: it goes before what the step led to.
        if (finished || waits) && newest_message(conversation) != heard {
            if waits {
                let pending = conversation.pending();
                reject_all(conversation, &pending, "Superseded by a new user message");
            }
            if done >= most {
                conversation.set_status("idle");
                return;
            }
            conversation.set_status("running");
        } else if waits {
            return;
        }
        if done >= most {
            if conversation.status() != "finished" {
                fail(
                    conversation,
                    "MaxIterationsReached",
                    "the conversation reached its maximum of iterations",
                );
            }
            return;
        }
        drop(mine);
        // Others who wait for the state have it first.
        turn = conversation.turn().await;
    }
}

fn newest_message(conversation: &Conversation) -> Value {
    conversation.lock().info["last_user_message_id"].clone()
}

/// Says of the first action without an observation that a restart came in between.
pub(super) fn restarted(conversation: &Conversation) {
    let log = conversation.lock().page(0, usize::MAX);
    let log: Vec<_> = log.into_iter().map(|(_, raw)| raw).collect();
    if let Some(call) = pending::of(&log).first() {
        let why = "A restart occurred while this tool was in progress.";
        interrupted(conversation, &call.tool, &call.call_id, why);
    }
}

/// Answers actions that await approval with a no. They are not run.
pub(super) fn reject_all(conversation: &Conversation, actions: &[Pending], reason: &str) {
    if conversation.status() == "waiting_for_confirmation" {
        conversation.set_status("idle");
    }
    for call in actions {
        let (action, tool) = (&call.action_id, &call.tool);
        reject(conversation, action, tool, &call.call_id, reason, "user");
    }
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
            let class = builtin::camel(&name);
            json!({
                "title": name,
                "description": format!("The tool {name}, played by a test."),
                "action_type": format!("{class}Action"),
                "observation_type": builtin::observation_kind(&name),
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

/// What the model is asked for the next step.
pub(super) fn request(world: &World, conversation: &Conversation) -> ModelRequest {
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
