//! Changes of a conversation's state.

use oh_protocol::{
    ExecutionStatus,
    event::{ConversationStateUpdateEvent, StateChange},
};

use crate::{Block, Part, Tone};

/// The keys whose values are shown. Other values may be secret or long.
const SHOWN: &[&str] = &["max_iterations", "stuck_detection", "title"];

/// Returns the block of a change. Writers show the totals of a change of the stats themselves.
pub(super) fn block(body: &ConversationStateUpdateEvent) -> Option<Block> {
    Some(match &body.change {
        StateChange::FullState(state) => {
            let status = state.execution_status();
            Block::new(Tone::Quiet, "state")
                .note(status.as_str())
                .only_full(true)
        }
        StateChange::ExecutionStatus(status) => {
            let bad = matches!(status, ExecutionStatus::Error | ExecutionStatus::Stuck);
            let tone = if bad { Tone::Error } else { Tone::Quiet };
            Block::new(tone, "status")
                .note(status.as_str())
                .only_full(!bad)
        }
        StateChange::Stats(_) => return None,
        StateChange::Goal(goal) => {
            let note = format!(
                "{}, round {}/{}",
                goal.status, goal.iteration, goal.max_iterations
            );
            let verdict = goal.verdict.as_ref();
            let missing = verdict.map_or("", |verdict| &verdict.missing);
            Block::new(
                if goal.is_complete() {
                    Tone::Success
                } else {
                    Tone::Quiet
                },
                "goal",
            )
            .note(note)
            .part(Part::text(&*goal.objective))
            .part(Part::Fields(match missing.is_empty() {
                true => Vec::new(),
                false => vec![("missing".to_owned(), missing.to_owned())],
            }))
        }
        StateChange::Malformed(malformed) => Block::new(Tone::Quiet, format!("state {}", body.key))
            .part(Part::Error(malformed.to_string()))
            .only_full(true),
        _ => {
            let value = match SHOWN.contains(&&*body.key) {
                true => body.value.to_string(),
                false => format!("{} bytes", body.value.as_str().len()),
            };
            Block::new(Tone::Quiet, format!("state {}", body.key))
                .note(value)
                .only_full(true)
        }
    })
}
