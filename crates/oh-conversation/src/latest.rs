//! What there is one of at a time, the state and the link, as streams of the latest. Knows no
//! events.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::stream;
use oh_protocol::state::ConversationState;

use crate::{Link, mirror::Mirror};

/// Something of a conversation each time it has changed, as it is by then: what was passed
/// meanwhile is left out. Gives at once what is so now. Ends when the link has ended for good.
pub struct Latest<T>(Pin<Box<dyn Stream<Item = T> + Send>>);

impl<T: Send + 'static> Latest<T> {
    fn new(
        mirror: Arc<Mirror>,
        look: impl Fn(&Mirror) -> T + Send + 'static,
        same: impl Fn(&T, &T) -> bool + Send + 'static,
    ) -> Self
    where
        T: Clone,
    {
        let changes = mirror.changes();
        let watching = (mirror, changes, None::<T>, look, same);
        Self(Box::pin(stream::unfold(
            watching,
            |(mirror, mut changes, last, look, same)| async move {
                loop {
                    changes.borrow_and_update();
                    let now = look(&mirror);
                    if last.as_ref().is_none_or(|last| !same(last, &now)) {
                        let last = Some(now.clone());
                        return Some((now, (mirror, changes, last, look, same)));
                    }
                    if mirror.read().ended.is_some() {
                        return None;
                    }
                    changes.changed().await.ok()?;
                }
            },
        )))
    }
}

impl Latest<Arc<ConversationState>> {
    pub(crate) fn states(mirror: Arc<Mirror>) -> Self {
        let look = |mirror: &Mirror| mirror.read().state.clone();
        Self::new(mirror, look, Arc::ptr_eq)
    }
}

impl Latest<Link> {
    pub(crate) fn links(mirror: Arc<Mirror>) -> Self {
        Self::new(mirror, |mirror| mirror.read().link, Link::eq)
    }
}

impl<T> Stream for Latest<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Latest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Latest")
    }
}
