//! Hook executions of a conversation, out of its events and its state. Asks nobody.

use std::{
    collections::BTreeMap,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use oh_protocol::{
    Event, Payload, event::HookExecutionEvent, hooks::HookEventType, state::ConversationState,
};
use tokio::sync::mpsc;

/// The hook that an event reports, if it reports one.
pub fn execution(event: &Event) -> Option<&HookExecutionEvent> {
    match event.payload() {
        Payload::HookExecution(hook) => Some(hook),
        _ => None,
    }
}

/// A hook that was run, on the server or here. Reads like the [`HookExecutionEvent`] in it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HookExecution {
    /// What it was and what came of it.
    pub event: HookExecutionEvent,
    /// Whether it ran here, as a hook of the session, and not on the server.
    pub local: bool,
    /// How long it took. The server does not say, so only local ones have it.
    pub took: Option<Duration>,
}

impl HookExecution {
    pub(crate) fn on_server(event: HookExecutionEvent) -> Self {
        Self {
            event,
            local: false,
            took: None,
        }
    }

    /// What the agent is told when it denied: its reason, else its stderr; of a Stop the context
    /// that it gave, if it gave any.
    pub fn feedback(&self) -> Option<&str> {
        let stop = *self.event.hook_event_type == *HookEventType::Stop.as_str();
        let context = self.event.additional_context.as_deref();
        let reason = context
            .filter(|text| stop && !text.is_empty())
            .or(self.event.reason.as_deref());
        crate::verdict::feedback(self.event.blocked, reason, &self.event.stderr)
    }
}

impl Deref for HookExecution {
    type Target = HookExecutionEvent;

    fn deref(&self) -> &HookExecutionEvent {
        &self.event
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for oh_protocol::Event {}
    impl<E> Sealed for Result<oh_protocol::Event, E> {}
}

/// What a stream of events yields: an [`Event`], or a result of one. Not for implementing.
pub trait EventItem: sealed::Sealed {
    /// What [`Executions`] yields for it: a [`HookExecution`], or a result of one.
    type Execution;

    /// The hook it reports; a failure passes.
    #[doc(hidden)]
    fn into_execution(self) -> Option<Self::Execution>;

    /// A local hook, as an item of the same stream.
    #[doc(hidden)]
    fn from_local(execution: HookExecution) -> Self::Execution;
}

impl EventItem for Event {
    type Execution = HookExecution;

    fn into_execution(self) -> Option<HookExecution> {
        execution(&self).cloned().map(HookExecution::on_server)
    }

    fn from_local(execution: HookExecution) -> HookExecution {
        execution
    }
}

impl<E> EventItem for Result<Event, E> {
    type Execution = Result<HookExecution, E>;

    fn into_execution(self) -> Option<Self::Execution> {
        match self {
            Ok(event) => event.into_execution().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }

    fn from_local(execution: HookExecution) -> Self::Execution {
        Ok(execution)
    }
}

/// Keeps the events of a stream that report a hook, in their order.
///
/// Takes a stream of events or of results, such as `Conversation::subscribe` gives; failures of
/// that stream pass. Cancel safe as far as the inner stream is.
pub fn executions<S>(events: S) -> Executions<S>
where
    S: Stream + Unpin,
    S::Item: EventItem,
{
    Executions {
        events: Some(events),
        local: None,
    }
}

/// The hooks that a stream of events reports; see [`executions`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Executions<S> {
    events: Option<S>,
    local: Option<LocalExecutions>,
}

impl<S> Executions<S> {
    /// Mixes in the hooks that run here, marked as [`local`](HookExecution::local). The stream
    /// then ends when the session and the events have.
    pub fn with_local(mut self, local: LocalExecutions) -> Self {
        self.local = Some(local);
        self
    }
}

impl<S> Executions<S>
where
    S: Stream + Unpin,
    S::Item: EventItem,
{
    /// The next hook, without an extension trait for streams. Cancel safe as far as the inner
    /// stream is.
    pub async fn next(&mut self) -> Option<<S::Item as EventItem>::Execution> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<S> Stream for Executions<S>
where
    S: Stream + Unpin,
    S::Item: EventItem,
{
    type Item = <S::Item as EventItem>::Execution;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(local) = &mut self.local {
            match local.0.poll_recv(cx) {
                Poll::Ready(Some(hook)) => return Poll::Ready(Some(S::Item::from_local(hook))),
                Poll::Ready(None) => self.local = None,
                Poll::Pending => {}
            }
        }
        while let Some(events) = &mut self.events {
            match Pin::new(events).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => self.events = None,
                Poll::Ready(Some(item)) => {
                    if let Some(hook) = item.into_execution() {
                        return Poll::Ready(Some(hook));
                    }
                }
            }
        }
        if self.local.is_some() {
            Poll::Pending
        } else {
            Poll::Ready(None)
        }
    }
}

/// The hooks that a session runs here; ends with the session.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct LocalExecutions(mpsc::UnboundedReceiver<HookExecution>);

impl LocalExecutions {
    #[cfg(unix)]
    pub(crate) fn channel() -> (mpsc::UnboundedSender<HookExecution>, Self) {
        // As many as a session has hooks: no bound is needed.
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }
}

impl Stream for LocalExecutions {
    type Item = HookExecution;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<HookExecution>> {
        self.0.poll_recv(cx)
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
