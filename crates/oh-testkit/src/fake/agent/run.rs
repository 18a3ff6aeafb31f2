//! The fake agent, which plays a script through a run like the agent server's loop. Tools and hooks
//! are closures of the test; no shell or file is used.

use std::sync::{Arc, atomic::Ordering};

use serde_json::{Value, json};

use crate::fake::{
    agent::{
        entries::{self, About, fail, hooks, interrupted, reject, remember},
        step::step,
    },
    state::{
        builtin, client_tools,
        conversation::Conversation,
        executed::Permission,
        message::{content, message_fields, text_of},
        pending::{self, Pending},
        slots::Slot,
        tools::Verdict,
        world::World,
    },
};

/// Adds a user message, together with the events before and after it.
pub(crate) fn receive(world: &World, conversation: &Conversation, message: &Value) {
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
        // Added context makes it a different message, so the block does not apply to it.
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

/// Joins the context that hooks add for the agent.
fn context(verdicts: &[Verdict]) -> Option<String> {
    let added = verdicts
        .iter()
        .filter_map(|verdict| verdict.context.clone());
    let added: Vec<_> = added.filter(|context| !context.is_empty()).collect();
    (!added.is_empty()).then(|| added.join("\n"))
}

/// Why a run does not start.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Refused {
    /// A run is already active.
    Running,
    /// The limit of concurrent runs is reached.
    Full,
}

/// Starts a run if the server has a free slot. `cause` is what started it.
pub(crate) fn start(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    cause: Permission,
) -> Result<(), Refused> {
    start_in(world, conversation, cause, || world.slots.take())
}

/// Starts a run for a message that was just logged. If a run is already active, another one follows
/// it unless the active one handles the message.
pub(crate) fn start_for_message(
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

/// Starts a run in a given slot, unless one is active.
pub(crate) fn start_in(
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

/// Runs in a given slot and waits until no run is active. Dropping the future does not stop the
/// run.
pub(crate) async fn work(world: &Arc<World>, conversation: &Arc<Conversation>, slot: &Slot) {
    // A run that is already active has the same effect.
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
        // A server that shuts down writes its own events, and a killed one writes none.
        if interrupted && !world.down.load(Ordering::SeqCst) {
            conversation.set_status("paused");
            conversation.append("user", "InterruptEvent", json!({}));
        }
        // A message that arrived too late for this run gets another one.
        let late = conversation.lock().again.take();
        let late = late.filter(|_| !interrupted && conversation.status() == "idle");
        if late.is_none() {
            // Frees the slot before the final state is sent, so that clients which receive it find
            // the slot free.
            slot = None;
        }
        let mut inner = conversation.lock();
        inner.running = late.is_some();
        let now = conversation.clock.utc();
        inner.info.insert("updated_at".to_owned(), json!(now));
        drop(inner);
        conversation.publish_state();
        conversation.changed.notify_waiters();
        match late {
            Some(late) => cause = late,
            None => break,
        }
    }
    drop(slot);
}

/// Executes steps until the run ends.
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
                // There is nothing to do, but Stop hooks still run.
                if !denied_to_stop(world, conversation) {
                    return;
                }
                conversation.set_status("running");
            }
            "waiting_for_confirmation" => conversation.set_status("running"),
            _ => {}
        }
        let newest = newest_message(conversation);
        let Some(mine) = step(world, conversation, turn, cause).await else {
            return;
        };
        done += 1;
        let status = conversation.status();
        let (finished, waits) = (status == "finished", status == "waiting_for_confirmation");
        // A message that arrived during the step takes precedence over the step's result.
        if (finished || waits) && newest_message(conversation) != newest {
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
        // Lets waiting tasks change the state first.
        turn = conversation.turn().await;
    }
}

fn newest_message(conversation: &Conversation) -> Value {
    conversation.lock().info["last_user_message_id"].clone()
}

/// Logs for the first action without an observation that a restart interrupted it.
pub(crate) fn restarted(conversation: &Conversation) {
    let log = conversation.lock().page(0, usize::MAX);
    let log: Vec<_> = log.into_iter().map(|(_, raw)| raw).collect();
    if let Some(call) = pending::of(&log).first() {
        let why = "A restart occurred while this tool was in progress.";
        interrupted(conversation, &call.tool, &call.call_id, why);
    }
}

/// Rejects actions that await approval without executing them.
pub(crate) fn reject_all(conversation: &Conversation, actions: &[Pending], reason: &str) {
    if conversation.status() == "waiting_for_confirmation" {
        conversation.set_status("idle");
    }
    for call in actions {
        let (action, tool) = (&call.action_id, &call.tool);
        reject(conversation, action, tool, &call.call_id, reason, "user");
    }
}

/// Returns `true` if a Stop hook denied and the agent has to continue.
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

/// Sets up the conversation before the first message or run. The hook configuration is set up once
/// after each server start, and the system prompt once per conversation.
pub(crate) fn prepare(world: &World, conversation: &Conversation) {
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

/// Runs the SessionEnd hooks if [`prepare`] was called.
pub(crate) fn close(world: &World, conversation: &Conversation) {
    if std::mem::take(&mut conversation.lock().ready) {
        hooks(world, conversation, "SessionEnd", About::Nothing);
    }
}

/// Stops a conversation's run. `saved`: pauses the run and closes the conversation.
pub(crate) fn stop(world: &World, conversation: &Conversation, saved: bool) {
    let mut inner = conversation.lock();
    let ran = inner.running;
    inner.interrupted |= ran;
    drop(inner);
    if ran && saved {
        conversation.set_status("paused");
        conversation.append("user", "InterruptEvent", json!({}));
    }
    if saved {
        close(world, conversation);
    }
    conversation.changed.notify_waiters();
}

fn prompt(world: &World, conversation: &Conversation) {
    let mut tools: Vec<_> = world
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
    tools.extend(client_tools::described(conversation));
    let mut fields = json!({
        "system_prompt": content("You are played by a test."),
        "tools": tools,
    });
    let secrets = conversation.lock().info["secret_registry"]["secret_sources"].clone();
    if secrets != json!({}) {
        fields["dynamic_context"] = content("Some secrets are available.");
    }
    conversation.append("agent", "SystemPromptEvent", fields);
}
