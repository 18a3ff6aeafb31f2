//! Operations of a client on a conversation: messages, pause, interrupt, the final response.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::fake::{
    agent::{
        goals,
        run::{self, Refused},
    },
    state::{branches, conversation::Conversation, executed::Permission, world::World},
};

/// Adds a message and starts a run if requested. If there is no free slot, the message is kept and
/// the error contains the text for the client.
pub(crate) async fn take(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    message: &Value,
    run: Option<Permission>,
) -> Result<(), String> {
    goals::stop(conversation);
    let turn = conversation.turn().await;
    run::receive(world, conversation, message);
    drop(turn);
    let Some(cause) = run else {
        return Ok(());
    };
    look_first(world, conversation).await;
    match run::start_for_message(world, conversation, cause) {
        Err(Refused::Full) => Err(saved(conversation)),
        Ok(()) | Err(Refused::Running) => Ok(()),
    }
}

/// Waits for the running tool before a run starts, like servers that check the status while holding
/// the state lock.
pub(crate) async fn look_first(world: &World, conversation: &Conversation) {
    if world.runs_wait {
        drop(conversation.turn().await);
    }
}

/// Decodes a message received by a socket. Returns `None` for an authentication frame. An error
/// contains a code and an explanation for the client.
pub(crate) fn said(text: &[u8]) -> Result<Option<Value>, (&'static str, String)> {
    let mut message: Value =
        serde_json::from_slice(text).map_err(|error| ("JSONDecodeError", error.to_string()))?;
    if message["type"] == "auth" {
        return Ok(None);
    }
    if let Some(words) = message["content"].as_str() {
        message["content"] = json!([{"type": "text", "text": words}]);
    }
    if !message["role"].is_string() || !message["content"].is_array() {
        return Err(("ValidationError", "not a message".to_owned()));
    }
    Ok(Some(
        json!({"role": message["role"], "content": message["content"]}),
    ))
}

/// Returns the text for a message that was kept although its run exceeded the limit.
fn saved(conversation: &Conversation) -> String {
    format!(
        "Message saved, but the conversation run limit was reached. Retry POST \
         /api/conversations/{}/run without resending the message.",
        conversation.id.hyphenated()
    )
}

/// Pauses a run after its current step.
pub(crate) async fn pause(conversation: &Conversation) {
    conversation.lock().again = None;
    if conversation.status() != "paused" {
        let _turn = conversation.turn().await;
        if matches!(conversation.status().as_str(), "idle" | "running") {
            conversation.set_status("paused");
            conversation.append("user", "PauseEvent", json!({}));
        }
    }
    let _turn = conversation.turn().await;
    conversation.publish_state();
}

/// Interrupts a run and waits up to 5 seconds for its end.
pub(crate) async fn interrupt(conversation: &Conversation) {
    let running = {
        let mut inner = conversation.lock();
        inner.again = None;
        inner.interrupted = inner.running;
        inner.running
    };
    if !running {
        return pause(conversation).await;
    }
    conversation.changed.notify_waiters();
    let ended = conversation.until(|inner| !inner.running);
    let _ = tokio::time::timeout(Duration::from_secs(5), ended).await;
    conversation.publish_state();
}

/// Returns the agent's final response: the message of its newest `finish`, or its newest message.
pub(crate) fn final_response(conversation: &Conversation) -> String {
    for raw in branches::active(conversation).iter().rev() {
        let Ok(event) = serde_json::from_slice::<Value>(raw) else {
            continue;
        };
        if event["action"]["kind"] == "FinishAction" {
            let message = event["action"]["message"].as_str();
            return message.unwrap_or_default().to_owned();
        }
        if event["kind"] == "MessageEvent" && event["source"] == "agent" {
            let text = event["llm_message"]["content"][0]["text"].as_str();
            return text.unwrap_or_default().to_owned();
        }
    }
    String::new()
}
