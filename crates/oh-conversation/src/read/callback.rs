//! Callbacks: event streams that are drained on separate tasks or blocking threads.

mod values;

use std::{
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use oh_protocol::{ConversationId, Event};
use tokio::{runtime::Handle, sync::Notify, task, time::timeout};

use crate::{EventStream, lock::lock, mirror::Mirror};

/// A callback on a task yields to other tasks after this many events in a row.
const BATCH: usize = 32;

/// Where a callback is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a task: the callback must not block.
    Task,
    /// On a thread of the runtime's blocking pool.
    Thread,
}

/// A running callback. Dropping this value stops the callback, as [`stop`](Self::stop) does.
///
/// A callback that owns a clone of its conversation keeps that conversation and its connection open
/// for as long as the callback runs. Dropping the subscription ends both.
#[must_use = "dropping a subscription stops its callback: keep it, or call `detach`"]
pub struct Subscription {
    mirror: Arc<Mirror>,
    shared: Arc<Shared>,
    detached: bool,
}

/// The callbacks of one conversation that have not ended, including detached ones.
#[derive(Default)]
pub(crate) struct Callbacks(Mutex<Vec<Weak<Shared>>>);

/// State shared between a callback and its handles.
struct Shared {
    /// Index after the last event to pass to the callback. For values that are not in the log, 0
    /// ends the callback at once, and any other index after the values that have arrived.
    until: AtomicUsize,
    indexed: bool,
    wake: Notify,
    ended: AtomicBool,
    end: Notify,
}

impl Subscription {
    /// Ends the callback after the events that have arrived by now. Completes when the callback has
    /// ended and has been dropped.
    ///
    /// Called from inside the same callback, this does not wait. It also does not wait when called
    /// from inside any callback of [`on_event`](crate::Conversation::on_event), which must not
    /// block.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the callback still ends after those events.
    pub async fn cancel(mut self) {
        self.detached = true;
        let arrived = self.mirror.read().log.end();
        self.shared.end_after(arrived);
        let waits = Inside::get().is_none_or(|inside| {
            inside.place == Place::Thread && inside.callback != self.shared.address()
        });
        if waits {
            self.shared.ended().await;
        }
    }

    /// Ends the callback without waiting; can be used inside the callback. A call in progress
    /// completes; no further call starts.
    pub fn stop(self) {}

    /// Leaves the callback running until the conversation is [closed](crate::Conversation::close)
    /// or its link ends.
    ///
    /// A detached callback that owns a clone of its conversation keeps the link open until `close`
    /// is called, even after all other handles are dropped. Capture
    /// [`Conversation::downgrade`](crate::Conversation::downgrade) instead:
    ///
    /// ```no_run
    /// # fn watch(conversation: &oh_conversation::Conversation) {
    /// let weak = conversation.downgrade();
    /// let subscription = conversation.on_event(move |event| {
    ///     if let Some(conversation) = weak.upgrade() {
    ///         println!("{}: {event}", conversation.id());
    ///     }
    /// });
    /// subscription.detach();
    /// # }
    /// ```
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.detached {
            self.shared.end_at(0);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("ended", &self.shared.has_ended())
            .finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Starts a callback that receives the events of a stream.
    pub(crate) fn start(
        &self,
        runtime: &Handle,
        mirror: Arc<Mirror>,
        events: EventStream,
        place: Place,
        callback: impl FnMut(&Event) + Send + 'static,
    ) -> Subscription {
        let shared = Arc::new(Shared::new(true));
        self.add(&shared);
        let drain = Drain {
            conversation: mirror.id,
            events,
            exhausted: false,
            callback,
            running: Running(shared.clone()),
        };
        match place {
            Place::Task => drop(runtime.spawn(drain.on_task())),
            Place::Thread => drop(runtime.spawn(drain.on_threads())),
        }
        Subscription {
            mirror,
            shared,
            detached: false,
        }
    }

    fn add(&self, callback: &Arc<Shared>) {
        let mut all = lock(&self.0);
        if all.len() == all.capacity() {
            all.retain(|callback| callback.strong_count() > 0);
        }
        all.push(Arc::downgrade(callback));
    }

    /// Ends all callbacks after the events before the index `arrived`. Callbacks that have not
    /// ended within the limit stop after the call in progress.
    ///
    /// Waits until all have ended or the limit has passed, except when called from inside a
    /// callback: the limit is then enforced in the background.
    pub(crate) async fn drain(&self, runtime: &Handle, arrived: usize, limit: Duration) {
        let all = std::mem::take(&mut *lock(&self.0));
        let all: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|callback| callback.end_after(arrived));
        let draining = async move {
            let ended = join_all(all.iter().map(|callback| callback.ended()));
            if timeout(limit, ended).await.is_err() {
                all.iter().for_each(|callback| callback.end_at(0));
            }
        };
        // On a task, so that the limit is enforced even if the caller stops waiting.
        let drained = runtime.spawn(draining);
        if !is_inside() {
            _ = drained.await;
        }
    }
}

/// Returns whether the current thread is inside a call of a callback. Waiting there may deadlock:
/// the wait may be for this callback to return, or for the runtime whose only thread this is.
pub(crate) fn is_inside() -> bool {
    Inside::get().is_some()
}

/// Returns whether the current thread is inside a call of a callback on a task, so that waiting
/// here blocks a thread of the runtime.
pub(crate) fn is_inside_task() -> bool {
    Inside::get().is_some_and(|inside| inside.place == Place::Task)
}

impl Shared {
    /// `indexed`: whether the callback receives events of the log.
    fn new(indexed: bool) -> Self {
        Self {
            indexed,
            until: AtomicUsize::new(usize::MAX),
            wake: Notify::new(),
            ended: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    /// Ends the callback before the event with this index, or earlier if that was requested before.
    fn end_at(&self, index: usize) {
        self.until.fetch_min(index, Ordering::Release);
        self.wake.notify_one();
    }

    /// Ends the callback after everything that has arrived: `arrived` events.
    fn end_after(&self, arrived: usize) {
        let lowest = usize::from(!self.indexed);
        self.end_at(arrived.max(lowest));
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    async fn ended(&self) {
        // Created before the check, so that an end in between is not missed.
        let end = self.end.notified();
        if !self.has_ended() {
            end.await;
        }
    }

    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

/// Marks the callback as ended when dropped.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.end.notify_waiters();
    }
}

/// A callback and its remaining events. The fields are dropped in this order.
struct Drain<F> {
    conversation: ConversationId,
    events: EventStream,
    /// Whether the stream has ended.
    exhausted: bool,
    callback: F,
    running: Running,
}

impl<F: FnMut(&Event) + Send + 'static> Drain<F> {
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` keeps its arguments twice, and this is in memory for every callback"
    )]
    fn on_task(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let mut called = 0;
            while let Some(event) = self.next().await {
                self.call(Place::Task, &event);
                called += 1;
                if called == BATCH {
                    called = 0;
                    task::yield_now().await;
                }
            }
        }
    }

    /// Uses a thread only while there are events: a waiting callback occupies none.
    async fn on_threads(mut self) {
        while let Some(event) = self.next().await {
            let batch = task::spawn_blocking(move || {
                self.call(Place::Thread, &event);
                while let Some(event) = self.ready() {
                    self.call(Place::Thread, &event);
                }
                self
            });
            match batch.await {
                Ok(drain) => self = drain,
                // The runtime is shutting down.
                Err(_) => return,
            }
        }
    }

    /// Waits for the next event.
    async fn next(&mut self) -> Option<Event> {
        while !self.is_over() {
            tokio::select! {
                biased;
                event = self.events.next() => return self.given(event),
                () = self.running.0.wake.notified() => {}
            }
        }
        None
    }

    /// Returns the next event, if it has arrived.
    fn ready(&mut self) -> Option<Event> {
        if self.is_over() {
            return None;
        }
        let event = self.events.next().now_or_never()?;
        self.given(event)
    }

    fn given(&mut self, event: Option<crate::Result<Event>>) -> Option<Event> {
        let event = event.and_then(Result::ok);
        self.exhausted = event.is_none();
        event
    }

    fn is_over(&self) -> bool {
        self.exhausted || self.events.position() >= self.running.0.until.load(Ordering::Acquire)
    }

    fn call(&mut self, place: Place, event: &Event) {
        let inside = Inside::enter(place, self.running.0.address());
        let called = catch_unwind(AssertUnwindSafe(|| (self.callback)(event)));
        drop(inside);
        if called.is_err() {
            tracing::error!(
                conversation = %self.conversation,
                kind = event.kind(),
                "an event callback panicked"
            );
        }
    }
}

/// The callback that the current thread is calling.
#[derive(Debug, Clone, Copy)]
struct Inside {
    place: Place,
    callback: usize,
}

/// Restores the previous value when dropped.
struct Entered(Option<Inside>);

thread_local! {
    static INSIDE: Cell<Option<Inside>> = const { Cell::new(None) };
}

impl Inside {
    fn get() -> Option<Self> {
        INSIDE.try_with(Cell::get).ok().flatten()
    }

    fn enter(place: Place, callback: usize) -> Entered {
        Entered(INSIDE.replace(Some(Self { place, callback })))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use oh_protocol::state::ConversationState;
    use oh_transport::Client;
    use tokio::task::yield_now;

    use super::*;
    use crate::{Cursor, mirror::view::View, read::pager::Pager};

    #[tokio::test]
    async fn a_busy_callback_yields_to_other_tasks() {
        const EVENTS: i64 = 2_000;
        let id = ConversationId::random();
        let state = ConversationState::default();
        let (writer, mirror) = Mirror::new(id, state, None, 0, Arc::default(), Arc::default());
        writer.change(|held| {
            for n in 0..EVENTS {
                let event = format!(r#"{{"kind":"PauseEvent","id":"{n}"}}"#);
                held.durable(n, Event::from_json(event).unwrap(), false);
            }
        });
        let client = Client::builder("http://127.0.0.1:1").build().unwrap();
        let view = Arc::new(View::new(mirror.clone()));
        let events = EventStream::new(
            view,
            Pager::new(client, id),
            Cursor::Start,
            &Handle::current(),
        );
        let called = Arc::new(AtomicUsize::new(0));
        let count = called.clone();
        let _subscription = Callbacks::default().start(
            &Handle::current(),
            mirror,
            events,
            Place::Task,
            move |_| _ = count.fetch_add(1, Ordering::Relaxed),
        );
        // On one thread, yielding tasks take turns, in any order within each round.
        let turns = tokio::spawn(async move {
            let mut turns = vec![0];
            while turns.last().is_none_or(|last| *last < 2_000) {
                yield_now().await;
                turns.push(called.load(Ordering::Relaxed));
            }
            turns
        });
        let turns = turns.await.unwrap();
        let most = turns.windows(2).map(|turn| turn[1] - turn[0]).max();
        assert!(most <= Some(2 * BATCH), "{most:?}");
    }
}
