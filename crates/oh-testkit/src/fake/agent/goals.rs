//! Goals: repeated runs of one agent, with a judge between them that the script plays.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    agent::{request, run},
    state::{conversation::Conversation, goal::Goal, slots::Slot, world::World},
    wire::reply::{self, Answered, detail},
};

pub(crate) fn busy(conversation: &Conversation) -> Answered<()> {
    let inner = conversation.lock();
    if inner.running || inner.goal.as_ref().is_some_and(Goal::is_active) {
        let text = "Conversation run or goal loop already running.";
        return Err(detail(StatusCode::CONFLICT, text).into());
    }
    Ok(())
}

pub(crate) fn begin(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    goal: Goal,
    nudge: String,
) -> Answered<()> {
    busy(conversation)?;
    let slot = world.slots.take().ok_or_else(reply::full)?;
    conversation.lock().goal = Some(goal.clone());
    let (working, on) = (Arc::clone(world), Arc::clone(conversation));
    world.spawn(async move {
        let stop = goal.stop.clone();
        let stopped = stop
            .run_until_cancelled(pursue(&working, &on, goal, nudge, slot))
            .await;
        if stopped.is_none() {
            let goal = on.lock().goal.clone();
            record(&on, goal, "interrupted", Value::Null);
        }
    });
    Ok(())
}

/// Interrupts the active goal, which can be resumed later.
pub(crate) fn stop(conversation: &Conversation) {
    let inner = conversation.lock();
    if let Some(goal) = inner.goal.as_ref().filter(|goal| goal.is_active()) {
        goal.stop.cancel();
    }
}

async fn pursue(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    mut goal: Goal,
    mut nudge: String,
    slot: Slot,
) {
    record(conversation, Some(goal.clone()), "running", Value::Null);
    loop {
        let message = json!({"role": "user", "content": [{"type": "text", "text": nudge}]});
        let turn = conversation.turn().await;
        run::receive(world, conversation, &message);
        drop(turn);
        run::work(world, conversation, &slot).await;
        if matches!(conversation.status().as_str(), "paused" | "error") {
            record(conversation, Some(goal), "interrupted", Value::Null);
            return;
        }
        let step = world.play(&request::question(
            world,
            conversation,
            &judged(&goal.objective),
        ));
        step.wait().await;
        if step.fail.is_some() {
            record(conversation, Some(goal), "interrupted", Value::Null);
            return;
        }
        let verdict = verdict(&step.text.unwrap_or_default());
        goal.rounds += 1;
        let status = match verdict["complete"] == true {
            true => "complete",
            false if goal.rounds >= goal.most => "capped",
            false => "running",
        };
        record(conversation, Some(goal.clone()), status, verdict.clone());
        if status != "running" {
            return;
        }
        let missing = verdict["missing"].as_str().unwrap_or_default();
        nudge = format!(
            "The goal is NOT yet complete (audit iteration {}).\nOutstanding: {missing}",
            goal.rounds
        );
    }
}

fn judged(objective: &str) -> String {
    format!(
        "You are auditing whether a GOAL has been COMPLETED. <objective>\n{objective}\n</objective>"
    )
}

/// Decodes the judge's verdict from the text between braces. Invalid text becomes a verdict that
/// says so.
fn verdict(text: &str) -> Value {
    let braces = text.find('{').zip(text.rfind('}'));
    let said = braces.and_then(|(from, to)| text.get(from..=to));
    let Some(said) = said.and_then(|said| serde_json::from_str::<Value>(said).ok()) else {
        return json!({
            "score": 0.0,
            "complete": false,
            "missing": "Judge verdict could not be parsed.",
        });
    };
    let score = said["score"].as_f64().unwrap_or_default().clamp(0.0, 1.0);
    json!({
        "score": score,
        "complete": said["complete"].as_bool().unwrap_or(score >= 1.0),
        "missing": said["missing"].as_str().unwrap_or_default(),
    })
}

/// Logs the state of the goal.
fn record(conversation: &Conversation, goal: Option<Goal>, status: &'static str, verdict: Value) {
    let Some(mut goal) = goal else {
        return;
    };
    goal.status = status;
    let value = json!({
        "active": status == "running",
        "status": status,
        "iteration": goal.rounds,
        "max_iterations": goal.most,
        "objective": goal.objective,
        "verdict": verdict,
    });
    conversation.lock().goal = Some(goal);
    // Logged only: the goal is not a field of the state.
    let fields = json!({"key": "goal", "value": value});
    conversation.append("environment", "ConversationStateUpdateEvent", fields);
}
