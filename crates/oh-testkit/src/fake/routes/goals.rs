//! The routes of goals.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fake::{
    agent::goals,
    state::{conversation::Conversation, goal::Goal, world::World},
    wire::{
        known::undone,
        reply::{Answered, Call, detail, invalid, ok},
    },
};

pub(crate) fn route(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    call: &Call,
    rest: &[&str],
) -> Answered {
    match rest {
        [] => {
            let request = call.json()?;
            let Some(objective) = request["objective"].as_str() else {
                let at = json!(["body", "objective"]);
                return Err(invalid("missing", at, "Field required").into());
            };
            let most = request["max_iterations"].as_i64().unwrap_or(10);
            if most < 1 {
                let at = json!(["body", "max_iterations"]);
                let rule = "Input should be greater than or equal to 1";
                return Err(invalid("greater_than_equal", at, rule).into());
            }
            if objective.trim().is_empty() {
                let text = "Goal objective must not be empty.";
                return Err(detail(StatusCode::BAD_REQUEST, text).into());
            }
            let goal = Goal {
                objective: objective.to_owned(),
                most: most.unsigned_abs(),
                rounds: 0,
                status: "running",
                stop: CancellationToken::new(),
            };
            let nudge = goal.objective.clone();
            goals::begin(world, conversation, goal, nudge)?;
        }
        ["stop"] => goals::stop(conversation),
        ["resume"] => {
            let last = conversation.lock().goal.clone();
            let unfinished = last.filter(|goal| !matches!(goal.status, "complete" | "capped"));
            let Some(mut goal) = unfinished else {
                return Err(detail(StatusCode::BAD_REQUEST, "no_resumable_goal").into());
            };
            goals::busy(conversation)?;
            goal.status = "running";
            goal.stop = CancellationToken::new();
            // A resumed goal has at least one round left.
            goal.rounds = goal.rounds.min(goal.most - 1);
            let nudge = "Resuming a goal that was paused or interrupted.".to_owned();
            goals::begin(world, conversation, goal, nudge)?;
        }
        _ => return Err(undone(call).into()),
    }
    Ok(ok(&json!({"success": true})))
}
