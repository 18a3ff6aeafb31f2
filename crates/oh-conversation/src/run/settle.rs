//! Waiting for a run whose agent calls client tools: the run is over when the agent has received every
//! result.

use tokio::time::{Instant, timeout};

use super::{Run, RunOutcome, RunStatus};
use crate::{
    Conversation, Result,
    client_tools::{Dispatch, answers},
    request::operation,
};

operation!(Run, RunOutcome, |run: &mut Run| run.clone(), until_settled);

/// Runs until the agent has received the results of all its client tool calls.
async fn until_settled(run: Run) -> Result<RunOutcome> {
    let conversation = &run.conversation().clone();
    let Some(mut progress) = conversation.client_tools().map(Dispatch::progress) else {
        return run.clone().once().await;
    };
    let begun = Instant::now();
    let mut outcome = run.clone().once().await?;
    loop {
        match outcome.status() {
            RunStatus::Finished => {}
            // A result arrived too late for the run, and no other run was started for it.
            RunStatus::Idle if unread(conversation) => {}
            _ => return Ok(outcome),
        }
        let last = conversation
            .events()
            .iter()
            .next_back()
            .map(|event| event.id().to_owned());
        let before = progress.borrow().delivered;
        let settled = async {
            let settled = progress.wait_for(|now| {
                now.at_work == 0 && has_seen(conversation, now.seen.as_deref(), last.as_deref())
            });
            settled.await.map(|now| now.delivered)
        };
        let settled = match run.time_left(begun) {
            Some(left) => timeout(left, settled).await,
            None => Ok(settled.await),
        };
        let delivered = match settled {
            Err(_) => return Ok(outcome.still_running()),
            // The dispatcher has ended, together with the link.
            Ok(Err(_)) => return Ok(outcome),
            Ok(Ok(delivered)) => delivered,
        };
        if delivered == before && !unread(conversation) {
            return Ok(outcome);
        }
        // The server may have a run in progress or finished; this run joins it or finds nothing to
        // do.
        let left = run.time_left(begun);
        let next = run.clone().within(left).once().await?;
        outcome = next.after(&outcome);
    }
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
