//! Signs of a run's start and end in the log and in snapshots. Contains no I/O.

use oh_protocol::{
    Event, ExecutionStatus, Json, Payload, Source, event::StateChange, state::ConversationState,
};

use super::before::Before;
use crate::{
    Conversation,
    mirror::{head::STATE_UPDATE, held::Held, log::Log},
};

/// Returns the status in an event, if it has one.
pub(super) fn status_in(event: &Event) -> Option<ExecutionStatus> {
    if event.kind() != STATE_UPDATE {
        return None;
    }
    match event.decode() {
        Payload::ConversationStateUpdate(update) => match update.change {
            StateChange::ExecutionStatus(status) => Some(status),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the last status in the log after the first `from` events, if there is one.
pub(crate) fn status_since(log: &Log, from: usize) -> Option<ExecutionStatus> {
    log.range(from..log.end()).rev().find_map(status_in)
}

/// Returns whether the log shows a run after the first `from` events.
pub(crate) fn ran_since(log: &Log, from: usize) -> bool {
    let mut new = log.range(from..log.end());
    new.any(|event| status_in(event).is_some_and(|status| status.is_running()))
}

/// The progress of a run according to the log.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The number of events in the log when the run had started, if its start was seen.
    pub(super) begun: Option<usize>,
    /// The last status in the log. A Stop hook may still revert `finished`.
    pub(super) hint: Option<ExecutionStatus>,
}

impl Progress {
    pub(super) fn add(&mut self, log: &Log, from: usize) {
        let from = from.max(log.start());
        for (index, event) in (from..).zip(log.range(from..log.end())) {
            if let Some(status) = status_in(event) {
                if status.is_running() {
                    self.begun.get_or_insert(index + 1);
                }
                self.hint = Some(status);
            }
        }
    }
}

impl Conversation {
    /// Returns whether the last message is a user's, without an answer.
    pub(super) fn is_unanswered(&self) -> bool {
        let log = self.mirror().read().log.clone();
        let said = |event: &Event| match (event.kind(), event.source()) {
            ("MessageEvent", Source::User) => Some(true),
            (_, Source::Agent) => Some(false),
            _ => None,
        };
        let last = log.range(0..log.end()).rev().find_map(said);
        last.unwrap_or_default()
    }
}

pub(super) fn has_stop_hooks(state: &ConversationState) -> bool {
    let hooks = state.get("hook_config");
    let lists = ["stop", "Stop"].map(|name| hooks.and_then(|hooks| hooks.get(name)));
    let holds = |list: &Json| list.decode().is_ok_and(|list: Vec<Json>| !list.is_empty());
    lists.iter().flatten().any(holds)
}

/// Returns the status of a snapshot since the run was requested, if the snapshot ends the run, and
/// whether that status is certain.
pub(super) fn snapshot_end(
    held: &Held,
    before: &Before,
    progress: &Progress,
) -> Option<(ExecutionStatus, bool)> {
    let end = held.end.as_ref()?;
    // The snapshot that every new subscriber receives may be older than the run, unless the
    // subscription itself is newer. Even then the snapshot may have been taken before an earlier
    // run.
    let fresh = !end.first || end.connection > before.connection;
    let older = progress.begun.is_some_and(|begun| end.events < begun);
    let running = progress
        .hint
        .as_ref()
        .is_some_and(ExecutionStatus::is_running);
    let certain = !(end.first && running);
    (end.number > before.snapshots && fresh && !older).then(|| (end.status.clone(), certain))
}

/// Recognizes the server's own reply to an image that the model cannot see. No model produced it.
pub(super) fn says_blind(event: &Event) -> bool {
    if event.kind() != "MessageEvent" || event.source().as_str() != "agent" {
        return false;
    }
    match event.payload() {
        Payload::Message(message) => {
            let text = message.llm_message.text();
            message.llm_response_id.is_none() && text.starts_with("I received your image, but")
        }
        _ => false,
    }
}
