//! The log as a stream, with its own position in the events that are held and still to come. Events
//! no longer held are fetched by a pager.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_util::stream;
use oh_protocol::Event;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinSet,
    time::{Duration, Instant, sleep_until},
};

use crate::{
    Cursor, ErrorKind, Result,
    mirror::{log::Log, view::View},
    read::pager::Pager,
};

/// The delay before the server is asked again how many events it cannot read.
const RETRY: Duration = Duration::from_secs(1);

/// Every persisted event from a cursor on, once and in log order, across reconnects.
///
/// An event is yielded once its `seq` is known. If the server cannot read all events of its log,
/// only a socket shows the `seq`s, so that a reader may wait for the end of a running tool.
///
/// The stream has its own position: however slow its reader is, no other reader waits and no event
/// is lost. The stream does not keep the link open: keep a [`Conversation`](crate::Conversation)
/// for as long as it is read. A stream of a [`Cursor::After`] that is beyond the log waits until
/// the log is longer. The stream ends after it has yielded the error that ended the conversation's
/// link; after a close it ends without an error. It also ends after an error while fetching older
/// events that are not held: a page of the log that cannot be read in three attempts, or a rejected
/// key. To continue, subscribe again with [`cursor`](Self::cursor).
///
/// ```no_run
/// # async fn follow(conversation: &oh_conversation::Conversation, stored: u64)
/// # -> oh_conversation::Result<()> {
/// use oh_conversation::Cursor;
///
/// let mut events = conversation.subscribe(Cursor::After(stored));
/// while let Some(event) = events.next().await {
///     println!("{}", event?);
///     if let Some(seq) = events.seq() {
///         // Store `seq`, to continue here after a restart of the program.
///     }
/// }
/// # Ok(()) }
/// ```
pub struct EventStream {
    batch: Batch,
    /// Index after the last event yielded.
    position: usize,
    /// The `seq` of the last event yielded, or the one after which the stream started.
    seq: i64,
    batches: Pin<Box<dyn Stream<Item = Result<Batch>> + Send>>,
}

/// Events that can be yielded without waiting.
enum Batch {
    /// No events.
    Empty,
    Held {
        log: Log,
        next: usize,
        end: usize,
    },
    /// Fetched from the server: index and event.
    Read {
        log: Log,
        events: VecDeque<(usize, Event)>,
    },
    /// No events, but a new place: the index of the next event, and the `seq` before it.
    Moved {
        position: usize,
        seq: i64,
    },
}

impl Batch {
    fn next(&mut self) -> Option<(usize, i64, Event)> {
        match self {
            Self::Empty | Self::Moved { .. } => None,
            Self::Held { log, next, end } => {
                if next >= end {
                    return None;
                }
                let event = log.get(*next)?.clone();
                *next += 1;
                Some((*next - 1, log.seq(*next - 1), event))
            }
            Self::Read { log, events } => {
                let (index, event) = events.pop_front()?;
                Some((index, log.seq(index), event))
            }
        }
    }
}

impl EventStream {
    pub(crate) fn new(view: Arc<View>, pager: Pager, cursor: Cursor, runtime: &Handle) -> Self {
        let (log, up) = {
            let held = view.read();
            (held.log.clone(), held.link.is_up())
        };
        let seq = match cursor {
            Cursor::Start => -1,
            Cursor::Now => log.end().checked_sub(1).map_or(-1, |last| log.seq(last)),
            Cursor::After(seq) => i64::try_from(seq).unwrap_or(i64::MAX),
        };
        let position = match cursor {
            Cursor::Start => 0,
            Cursor::Now => log.end(),
            // Found when the reader starts: the `seq`s may still change.
            Cursor::After(_) => 0,
        };
        let mut now = None;
        if cursor == Cursor::Now && !up {
            // Requested here and not on the first poll: events logged in between are later than
            // now.
            let (view, pager) = (view.clone(), pager.clone());
            let asking = async move { pager.newest(&view).await };
            now.insert(JoinSet::new()).spawn_on(asking, runtime);
        }
        // `Now` is an index, so it does not depend on the numbers.
        let placed = seq < 0 || cursor == Cursor::Now;
        Self::starting(view, pager, now, position, seq, placed)
    }

    /// Creates a stream that starts at an index, also if the `seq`s still change.
    pub(crate) fn at(view: Arc<View>, pager: Pager, index: usize) -> Self {
        Self::starting(view, pager, None, index, -1, true)
    }

    fn starting(
        view: Arc<View>,
        pager: Pager,
        now: Option<JoinSet<Result<Option<String>>>>,
        position: usize,
        seq: i64,
        placed: bool,
    ) -> Self {
        let changes = view.changes();
        let reading = Reading {
            failed: false,
            now,
            view,
            pager,
            changes,
            damaged: None,
            position,
            reported: position,
            after: seq,
            placed,
            known: None,
        };
        Self {
            batch: Batch::Empty,
            position,
            seq,
            batches: Box::pin(stream::unfold(reading, Reading::step)),
        }
    }

    /// Waits for the next event. Returns `None` once the stream has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        futures_util::StreamExt::next(self).await
    }

    /// Returns the cursor from which another stream continues, also in another process.
    ///
    /// A stream from [`Cursor::Now`] that was made while the link was down finds its start while it
    /// is read. Until then this cursor may be before some events of the history.
    pub fn cursor(&self) -> Cursor {
        Cursor::after(self.seq)
    }

    /// Returns the `seq` of the last event yielded, or the one after which the stream started;
    /// `None` before the first.
    pub fn seq(&self) -> Option<u64> {
        u64::try_from(self.seq).ok()
    }

    /// Converts the stream to one that also yields each event's `seq`.
    pub fn numbered(self) -> NumberedEvents {
        NumberedEvents(self)
    }

    /// Waits for the next event before an index. Returns `None` once the stream has passed the
    /// index, or has ended. An event at or after the index is returned if it is already there.
    pub(crate) async fn next_before(&mut self, index: usize) -> Option<Result<Event>> {
        std::future::poll_fn(|cx| {
            if self.position >= index {
                return Poll::Ready(None);
            }
            match Pin::new(&mut *self).poll_next(cx) {
                // The events before the index that are left cannot be read.
                Poll::Pending if self.position >= index => Poll::Ready(None),
                polled => polled,
            }
        })
        .await
    }

    /// Returns the index of the next event, as far as it is known.
    pub(crate) fn position(&self) -> usize {
        self.position
    }
}

impl Stream for EventStream {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some((index, seq, event)) = self.batch.next() {
                self.position = index + 1;
                self.seq = seq;
                return Poll::Ready(Some(Ok(event)));
            }
            match self.batches.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(Batch::Moved { position, seq }))) => {
                    self.position = position;
                    self.seq = self.seq.max(seq);
                }
                Poll::Ready(Some(Ok(batch))) => self.batch = batch,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    // Keeping the log here would make the next append copy it.
                    self.batch = Batch::Empty;
                    return Poll::Pending;
                }
            }
        }
    }
}

/// An [`EventStream`] that also yields each event's `seq`: see [`EventStream::numbered`].
#[derive(Debug)]
pub struct NumberedEvents(EventStream);

impl NumberedEvents {
    /// Waits for the next event and its `seq`. Returns `None` when the stream has ended.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<(u64, Event)>> {
        futures_util::StreamExt::next(self).await
    }
}

impl Stream for NumberedEvents {
    type Item = Result<(u64, Event)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = ready!(Pin::new(&mut self.0).poll_next(cx));
        let seq = self.0.seq().unwrap_or_default();
        Poll::Ready(event.map(|event| event.map(|event| (seq, event))))
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

struct Reading {
    /// Whether an error was yielded, after which the stream ends.
    failed: bool,
    view: Arc<View>,
    /// The id of the newest event when the reader started, if the mirror did not have it.
    now: Option<JoinSet<Result<Option<String>>>>,
    pager: Pager,
    changes: watch::Receiver<u64>,
    /// Whether the server's log has events that it cannot read, once this matters.
    damaged: Option<bool>,
    /// Index of the next event.
    position: usize,
    /// The stream's position after the batches returned.
    reported: usize,
    /// Events up to this `seq` are skipped.
    after: i64,
    /// Whether the first event of the reader is certain, or has been yielded.
    placed: bool,
    /// Index and id of the event at the position, or of the one before it.
    known: Option<(usize, Box<str>)>,
}

impl Reading {
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` keeps its arguments twice, and this is in memory for every reader"
    )]
    fn step(mut self) -> impl Future<Output = Option<(Result<Batch>, Self)>> + Send {
        async move {
            if self.failed {
                return None;
            }
            let batch = self.batch().await?;
            self.failed = batch.is_err();
            self.reported = self.position;
            Some((batch, self))
        }
    }

    /// Moves the position after the server's newest event.
    async fn resolve(&mut self, mut now: JoinSet<Result<Option<String>>>) -> Result<()> {
        let Some(Ok(newest)) = now.join_next().await else {
            return Ok(());
        };
        let Some(newest) = newest? else {
            return Ok(());
        };
        loop {
            self.changes.borrow_and_update();
            let (log, link) = {
                let held = self.view.read();
                (held.log.clone(), held.link)
            };
            let place = (log.start()..log.end()).rev();
            let mut places =
                place.filter(|index| log.get(*index).is_some_and(|event| event.id() == newest));
            if let Some(index) = places.next() {
                self.position = self.position.max(index + 1);
                self.after = self.after.max(log.seq(index));
                return Ok(());
            }
            if link.is_up() {
                // The event cannot be decoded; all events until then are in the mirror.
                self.position = self.position.max(log.end());
                return Ok(());
            }
            if let Some(error) = self.view.ended() {
                return Err(error);
            }
            if self.changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Waits for numbers from the server, or for the deadline: then the reader starts early enough
    /// to skip nothing.
    ///
    /// While sockets are refused, events are numbered by counting. If the server cannot read some
    /// events, the numbers are too low, and events after the `seq` would be skipped. A socket
    /// corrects the numbers.
    async fn wait_for_numbers(&mut self, deadline: &mut Instant) {
        tokio::select! {
            _ = self.changes.changed() => {}
            () = sleep_until(*deadline) => match self.pager.unreadable().await {
                Ok(unreadable) => {
                    let unreadable = i64::try_from(unreadable).unwrap_or(i64::MAX);
                    self.after = self.after.saturating_sub(unreadable).max(-1);
                    self.placed = true;
                }
                Err(_) => *deadline = Instant::now() + RETRY,
            },
        }
    }

    /// Returns whether older events have to be read with their numbers, because the server cannot
    /// read all events, so that counting gives other numbers.
    async fn reads_numbers(&mut self, log: &Log) -> bool {
        if log.begin() == 0 {
            // The mirror knows all gaps.
            return log.has_gaps();
        }
        if let Some(damaged) = self.damaged {
            return damaged;
        }
        let damaged = log.has_gaps() || !Box::pin(self.pager.is_undamaged()).await;
        *self.damaged.insert(damaged)
    }

    /// Reads older events with their numbers. Returns `None` if there are none before those held.
    async fn replay(&mut self, log: &Log) -> Result<Option<Batch>> {
        let (begin, start) = (log.begin(), log.start());
        let first = log.seq(start);
        let after = match self.position < begin {
            true => i64::try_from(self.position).unwrap_or(i64::MAX) - 1,
            // The event at the position may be preceded by some that cannot be read.
            false => log.seq(self.position) - 1,
        };
        let events = self.pager.replay(&self.view, after, first).await?;
        let mut read = VecDeque::new();
        for (seq, event) in events {
            // Before a window, the index is the `seq`.
            let index = log.after(seq - 1);
            if index >= self.position && index < start {
                self.position = index + 1;
                read.push_back((index, event));
            }
        }
        self.known = None;
        if read.is_empty() {
            self.position = start;
            return Ok(None);
        }
        let log = log.clone();
        Ok(Some(Batch::Read { log, events: read }))
    }

    async fn batch(&mut self) -> Option<Result<Batch>> {
        if let Some(now) = self.now.take()
            // Boxed, like paging below.
            && let Err(error) = Box::pin(self.resolve(now)).await
            && !self.pager.skips(&self.view, &error)
        {
            return (error.kind() != ErrorKind::Closed).then_some(Err(error));
        }
        let mut deadline = Instant::now() + self.view.mirror.limits.unreachable;
        loop {
            // Marked as seen before the check, so that a change in between causes another
            // iteration.
            self.changes.borrow_and_update();
            let ended = self.view.ended();
            let (log, confirmed, numbered, counted) = {
                let held = self.view.read();
                // Once the link has ended, nothing confirms the numbers any more.
                let confirmed = match ended {
                    Some(_) => held.log.end(),
                    None => held.confirmed(),
                };
                let counted = held.counted.filter(|_| held.refused && ended.is_none());
                (held.log.clone(), confirmed, !held.unnumbered, counted)
            };
            let unsure = counted.is_some_and(|counted| self.after > counted.after);
            if !self.placed && unsure && !Box::pin(self.pager.is_undamaged()).await {
                Box::pin(self.wait_for_numbers(&mut deadline)).await;
                continue;
            }
            if confirmed > 0 && confirmed == log.begin() && ended.is_none() {
                // Where a window begins is known once its first event has its number.
                self.changes.changed().await.ok()?;
                continue;
            }
            let after = log.after(self.after).min(confirmed);
            self.position = self.position.max(after);
            let mark = match self.position < log.start() {
                true => {
                    let held = self.view.read();
                    let mark = held.appender.mark(self.position);
                    mark.map(|(index, id)| (index, Box::from(id)))
                }
                false => None,
            };
            let first = log.seq(log.begin());
            if self.position < log.begin()
                && i64::try_from(self.position).is_ok_and(|seq| seq >= first)
            {
                self.position = log.begin();
            }
            if self.position < log.start() {
                let known = self.known.take().or(mark);
                if numbered && self.reads_numbers(&log).await {
                    match Box::pin(self.replay(&log)).await {
                        Err(error) if error.kind() == ErrorKind::Closed => return None,
                        Err(error) if self.pager.skips(&self.view, &error) => {
                            self.position = log.start();
                            continue;
                        }
                        Err(error) => return Some(Err(error)),
                        Ok(None) => continue,
                        Ok(Some(batch)) => {
                            self.placed = true;
                            return Some(Ok(batch));
                        }
                    }
                }
                let found = self.pager.read(&self.view, &log, self.position, known);
                // Boxed, because most streams never page, and each is as large as its largest step.
                match Box::pin(found).await {
                    Err(error) if error.kind() == ErrorKind::Closed => return None,
                    Err(error) if self.pager.skips(&self.view, &error) => {
                        self.position = log.start();
                        continue;
                    }
                    Err(error) => return Some(Err(error)),
                    Ok((events, next)) => {
                        if events.is_empty() {
                            // The server no longer returns these events: continue with those held.
                            self.position = log.start();
                            continue;
                        }
                        let start = self.position;
                        self.position += events.len();
                        self.known = match next {
                            Some(id) => Some((self.position, id)),
                            None => before(self.position, events.last()),
                        };
                        let events = (start..).zip(events).collect();
                        self.placed = true;
                        return Some(Ok(Batch::Read { log, events }));
                    }
                }
            }
            if self.position < confirmed {
                let next = self.position;
                self.position = confirmed;
                self.known = before(confirmed, log.get(confirmed - 1));
                let end = confirmed;
                self.placed = true;
                return Some(Ok(Batch::Held { log, next, end }));
            }
            if self.reported < self.position && self.position == confirmed {
                let (position, seq) = (confirmed, log.seq(confirmed - 1));
                return Some(Ok(Batch::Moved { position, seq }));
            }
            if let Some(error) = ended {
                return (error.kind() != ErrorKind::Closed).then_some(Err(error));
            }
            drop(log);
            self.changes.changed().await.ok()?;
        }
    }
}

/// Returns the index before this one, with the id of the event.
fn before(index: usize, event: Option<&Event>) -> Option<(usize, Box<str>)> {
    Some((index.checked_sub(1)?, event?.id().into()))
}
