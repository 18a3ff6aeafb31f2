//! Waiting for a run whose agent calls client tools: the run is over when the agent has received
//! every result.

use oh_protocol::{ExecutionStatus, Payload};

use super::{Before, End, Run, RunOutcome, end_of_link, signs::status_in};
use crate::{
    Conversation, Result,
    client_tools::{Dispatch, answers},
    request::operation,
};

/// The first version whose runs continue when a message has arrived during a step.
const RESCANS: (u32, u32, u32) = (1, 45, 0);
/// Lets the agent read a result that it may have missed.
const REMINDER: &str = "A result of a client tool arrived while you were answering. Read it now.";

operation!(
    Run,
    RunOutcome,
    |run: &mut Run| run.clone(),
    Run::until_over
);

impl Run {
    /// Waits until the agent has received the results of all its client tool calls. `before`: the
    /// state before the first of these runs.
    pub(super) async fn until_settled(&self, before: &mut Before) -> Result<End> {
        let conversation = &self.conversation;
        let mut end = self.work(before).await?;
        let Some(mut progress) = conversation.client_tools().map(Dispatch::progress) else {
            return Ok(end);
        };
        loop {
            match &end {
                End::Status(ExecutionStatus::Finished) => {}
                // A result arrived too late for the run, and no other run was started for it.
                End::Status(ExecutionStatus::Idle) if unread(conversation) => {}
                _ => return Ok(end),
            }
            let events = conversation.events();
            let last = events.iter().next_back().map(|event| event.id().to_owned());
            let before = progress.borrow().delivered;
            let settled = progress.wait_for(|now| {
                now.at_work == 0 && has_seen(conversation, now.seen.as_deref(), last.as_deref())
            });
            let settled = settled.await.map(|now| now.delivered);
            let Ok(delivered) = settled else {
                // The dispatcher ends together with the link, and its results are lost.
                return end_of_link(conversation.end().await);
            };
            let over = delivered == before && (self.join || !unread(conversation));
            if over && (self.join || !self.remind().await?) {
                return Ok(end);
            }
            // The server may have a run in progress or finished; this run joins it or finds nothing
            // to do.
            end = self.work(&mut Before::new(conversation)).await?;
        }
    }
}

impl Run {
    /// Sends a message if the agent may not have read the last result. Returns whether it did.
    ///
    /// Servers before 1.45 end a run although a message has arrived while the model was being
    /// asked, and start no other run for that message.
    async fn remind(&self) -> Result<bool> {
        let conversation = &self.conversation;
        let starts = conversation
            .client_tools()
            .is_some_and(Dispatch::starts_runs);
        let reminds =
            starts && may_be_missed(conversation) && conversation.is_before(RESCANS).await?;
        if reminds {
            conversation.send(REMINDER).await?;
        }
        Ok(reminds)
    }
}

/// Returns whether the last result may have arrived during the last request to the model: in the
/// same run, it is followed by at most one response of the model.
fn may_be_missed(conversation: &Conversation) -> bool {
    let mut last = None;
    for event in conversation.events().iter().rev() {
        if answers(event).is_some() {
            return true;
        }
        if status_in(event).is_some_and(|status| status.is_running()) {
            return false;
        }
        let response = match event.payload() {
            Payload::Action(action) => Some(action.llm_response_id.clone()),
            Payload::Message(message) if event.source().as_str() == "agent" => {
                Some(message.llm_response_id.clone())
            }
            _ => None,
        };
        if let Some(response) = response {
            if last.is_some_and(|last| last != response) {
                return false;
            }
            last = Some(response);
        }
    }
    false
}

/// Returns whether the last checked event is this event or a later one.
fn has_seen(conversation: &Conversation, seen: Option<&str>, event: Option<&str>) -> bool {
    for held in conversation.events().iter().rev() {
        if Some(held.id()) == seen {
            return true;
        }
        if Some(held.id()) == event {
            return false;
        }
    }
    true
}

/// Returns whether a result follows all of the agent's actions and messages.
fn unread(conversation: &Conversation) -> bool {
    for event in conversation.events().iter().rev() {
        let acts = matches!(event.kind(), "ActionEvent" | "MessageEvent");
        if acts && event.source().as_str() == "agent" {
            return false;
        }
        if answers(event).is_some() {
            return true;
        }
    }
    false
}
