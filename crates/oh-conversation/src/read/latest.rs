//! Streams of the latest value: state, link status, usage.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::{StreamExt, stream};
use oh_protocol::state::ConversationState;

use crate::{LinkStatus, mirror::view::View};

/// A stream of the latest value. Yields the current value at once, then after each change;
/// intermediate values may be skipped. Ends when the link has ended or the handle was closed.
///
/// ```no_run
/// # async fn show(conversation: &oh_conversation::Conversation) {
/// let mut states = conversation.states();
/// while let Some(state) = states.next().await {
///     println!("{}", state.execution_status());
/// }
/// # }
/// ```
pub struct Watch<T>(Pin<Box<dyn Stream<Item = T> + Send>>);

impl<T: Send + 'static> Watch<T> {
    /// Creates a stream of what `look` returns, without values that are the `same` as the one
    /// before.
    pub(crate) fn new(
        view: Arc<View>,
        look: impl Fn(&View) -> T + Send + 'static,
        same: impl Fn(&T, &T) -> bool + Send + 'static,
    ) -> Self
    where
        T: Clone,
    {
        let changes = view.changes();
        let watching = (view, changes, None::<T>, look, same);
        Self(Box::pin(stream::unfold(
            watching,
            |(view, mut changes, last, look, same)| async move {
                loop {
                    changes.borrow_and_update();
                    let now = look(&view);
                    if last.as_ref().is_none_or(|last| !same(last, &now)) {
                        let last = Some(now.clone());
                        return Some((now, (view, changes, last, look, same)));
                    }
                    if view.ended().is_some() {
                        return None;
                    }
                    changes.changed().await.ok()?;
                }
            },
        )))
    }

    pub(crate) fn map<U>(self, convert: impl FnMut(T) -> U + Send + 'static) -> Watch<U> {
        Watch(Box::pin(self.0.map(convert)))
    }
}

impl Watch<Arc<ConversationState>> {
    pub(crate) fn states(view: Arc<View>) -> Self {
        let look = |view: &View| view.read().state.clone();
        Self::new(view, look, Arc::ptr_eq)
    }
}

impl Watch<LinkStatus> {
    pub(crate) fn links(view: Arc<View>) -> Self {
        Self::new(view, |view| view.link(), LinkStatus::eq)
    }
}

impl<T> Watch<T> {
    /// Waits for the next value. Returns `None` once the stream has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<T> {
        self.0.next().await
    }
}

impl<T> Stream for Watch<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
