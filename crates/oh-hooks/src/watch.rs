//! Hook executions of a conversation, out of its events and its state. Asks nobody.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use oh_protocol::{Event, Payload, event::HookExecutionEvent, state::ConversationState};

/// The hook that an event reports, if it reports one.
pub fn execution(event: &Event) -> Option<&HookExecutionEvent> {
    match event.payload() {
        Payload::HookExecution(hook) => Some(hook),
        _ => None,
    }
}

/// Keeps the events of a stream that report a hook, as they came.
///
/// Cancel-safe as far as the inner stream is.
pub fn executions<S: Stream<Item = Event> + Unpin>(events: S) -> Executions<S> {
    Executions(events)
}

/// The events that report a hook; see [`executions`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Executions<S>(S);

impl<S: Stream<Item = Event> + Unpin> Stream for Executions<S> {
    type Item = HookExecutionEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(event) => {
                    if let Some(hook) = execution(&event) {
                        return Poll::Ready(Some(hook.clone()));
                    }
                }
            }
        }
    }
}

/// The actions that a hook denied and that have not been answered yet: id and reason.
pub fn blocked_actions(state: &ConversationState) -> Vec<(String, String)> {
    reasons(state, "blocked_actions")
}

/// The messages that a hook refused and that have not been passed over yet: id and reason.
pub fn blocked_messages(state: &ConversationState) -> Vec<(String, String)> {
    reasons(state, "blocked_messages")
}

fn reasons(state: &ConversationState, field: &str) -> Vec<(String, String)> {
    let entries = state
        .get(field)
        .and_then(|value| value.decode::<BTreeMap<String, String>>().ok());
    entries.into_iter().flatten().collect()
}
