//! Hook executions of a conversation, taken from its events and its state. Contains no I/O.

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

/// Returns the hook execution that an event reports, if any.
pub fn execution(event: &Event) -> Option<&HookExecutionEvent> {
    match event.payload() {
        Payload::HookExecution(hook) => Some(hook),
        _ => None,
    }
}

/// A hook that was run on the server or on the client. Dereferences to its [`HookExecutionEvent`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HookExecution {
    /// The hook and its result.
    pub event: HookExecutionEvent,
    /// Whether the hook ran on the client as a session hook, not on the server.
    pub local: bool,
    /// How long the hook ran. Present only for local hooks, because the server does not report it.
    pub duration: Option<Duration>,
}

impl HookExecution {
    pub(crate) fn on_server(event: HookExecutionEvent) -> Self {
        Self {
            event,
            local: false,
            duration: None,
        }
    }

    /// Returns the feedback that the agent gets for a denial: the hook's reason, or else its
    /// stderr. For a Stop, the hook's context is used instead if there is any.
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

/// An item of an event stream: an [`Event`] or a result of one. This trait is sealed.
pub trait EventItem: sealed::Sealed {
    /// The item type of [`Executions`]: a [`HookExecution`] or a result of one.
    type Execution;

    /// Returns the reported hook. An error is passed through.
    #[doc(hidden)]
    fn into_execution(self) -> Option<Self::Execution>;

    /// Converts a local hook to an item of the same stream.
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

/// Filters a stream of events down to hook executions, in order.
///
/// Accepts a stream of events or of results, such as the one returned by `Conversation::subscribe`.
/// Errors of that stream are passed through.
///
/// # Cancel safety
///
/// Cancel-safe if the inner stream is.
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

/// The hook executions in a stream of events. Returned by [`executions`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Executions<S> {
    events: Option<S>,
    local: Option<LocalExecutions>,
}

impl<S> Executions<S> {
    /// Merges in the hooks that run on the client, marked as [`local`](HookExecution::local). The
    /// stream then ends when both the session and the event stream have ended.
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
    /// Returns the next hook execution, without the need for a stream extension trait.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe if the inner stream is.
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

/// A stream of the hooks that a session runs on the client. Ends with the session.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct LocalExecutions(mpsc::UnboundedReceiver<HookExecution>);

impl LocalExecutions {
    #[cfg(unix)]
    pub(crate) fn channel() -> (mpsc::UnboundedSender<HookExecution>, Self) {
        // An unbounded channel is safe: it holds at most one item per hook of the session.
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }

    /// Waits for the next execution. Returns `None` after the session has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<HookExecution> {
        self.0.recv().await
    }
}

impl Stream for LocalExecutions {
    type Item = HookExecution;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<HookExecution>> {
        self.0.poll_recv(cx)
    }
}

/// Returns the id and reason of each action that a hook denied and that has not been answered yet.
pub fn blocked_actions(state: &ConversationState) -> Vec<(String, String)> {
    reasons(state, "blocked_actions")
}

/// Returns the id and reason of each message that a hook rejected and that has not been skipped
/// yet.
pub fn blocked_messages(state: &ConversationState) -> Vec<(String, String)> {
    reasons(state, "blocked_messages")
}

fn reasons(state: &ConversationState, field: &str) -> Vec<(String, String)> {
    let entries = state
        .get(field)
        .and_then(|value| value.decode::<BTreeMap<String, String>>().ok());
    entries.into_iter().flatten().collect()
}
