//! Reading the log as a stream: a position of its own in what is held and what is yet to come.
//! Knows no socket; what is not held any more it asks a pager for.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::stream;
use oh_protocol::Event;
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use crate::{ErrorKind, Result, log::Log, pager::Pager, view::View};

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cursor {
    /// At the first event of the conversation.
    #[default]
    Start,
    /// After the newest event that the server has when the reader begins. Where the mirror does
    /// not follow the server at that moment, the server is asked for it.
    Now,
    /// After the event with this `seq`: its place in the server's log, counted from 0. One that is
    /// yet to come is waited for. Events that the server cannot read have a place, too, but on
    /// servers before 1.47, which tell no `seq`: there only what can be read is counted.
    After(u64),
}

/// Every persisted event from a cursor on, once and in log order, across reconnects.
///
/// Its position is its own: however slow its reader is, nobody else waits and nothing is lost.
/// It ends after giving the error that ended the conversation's link, and after a close without
/// one. It also ends after an error over older events that are not held: a page of the log that
/// does not read in three tries, or a refused key. To go on, subscribe again with
/// [`cursor`](Self::cursor).
pub struct EventStream {
    batch: Batch,
    /// Index after the event given last.
    position: usize,
    /// The `seq` of the event given last, or after which it began.
    seq: i64,
    batches: Pin<Box<dyn Stream<Item = Result<Batch>> + Send>>,
}

/// Events that can be given without waiting.
enum Batch {
    /// None.
    Empty,
    Held {
        log: Log,
        next: usize,
    },
    /// Read from the server: index and event.
    Read {
        log: Log,
        events: VecDeque<(usize, Event)>,
    },
}

impl Batch {
    fn next(&mut self) -> Option<(usize, i64, Event)> {
        match self {
            Self::Empty => None,
            Self::Held { log, next } => {
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
        let changes = view.changes();
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
            Cursor::After(_) => log.after(seq),
        };
        let mut now = None;
        if cursor == Cursor::Now && !up {
            // Asked for here and not when the stream is read first: events that are logged until
            // then are later than now.
            let (view, pager) = (view.clone(), pager.clone());
            let asking = async move { pager.newest(&view).await };
            now.insert(JoinSet::new()).spawn_on(asking, runtime);
        }
        let reading = Reading {
            now,
            view,
            pager,
            changes,
            position,
            after: seq,
            last: None,
        };
        Self {
            batch: Batch::Empty,
            position,
            seq,
            batches: Box::pin(stream::unfold(Some(reading), Reading::step)),
        }
    }

    /// Waits for the next event; `None` once the stream has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        futures_util::StreamExt::next(self).await
    }

    /// Where to begin to get what this one has not given yet, in another process, too.
    pub fn cursor(&self) -> Cursor {
        u64::try_from(self.seq).map_or(Cursor::Start, Cursor::After)
    }

    /// The `seq` of the event given last, or after which it began; none before the first.
    pub fn seq(&self) -> Option<u64> {
        u64::try_from(self.seq).ok()
    }

    /// The same with each event's `seq`.
    pub fn numbered(self) -> impl Stream<Item = Result<(u64, Event)>> + Send {
        stream::unfold(self, |mut events| async move {
            let event = futures_util::StreamExt::next(&mut events).await?;
            let seq = u64::try_from(events.seq).unwrap_or_default();
            Some((event.map(|event| (seq, event)), events))
        })
    }

    /// Index after the event given last.
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
                Poll::Ready(Some(Ok(batch))) => self.batch = batch,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    // Held on to, it would make the next append copy.
                    self.batch = Batch::Empty;
                    return Poll::Pending;
                }
            }
        }
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
    view: Arc<View>,
    /// The id of the newest event when the reader began, where the mirror did not know it.
    now: Option<JoinSet<Result<Option<String>>>>,
    pager: Pager,
    changes: watch::Receiver<u64>,
    /// Index of the next event.
    position: usize,
    /// No event up to this `seq` is wanted.
    after: i64,
    /// Id of the event before the position.
    last: Option<Box<str>>,
}

impl Reading {
    async fn step(reading: Option<Self>) -> Option<(Result<Batch>, Option<Self>)> {
        let mut reading = reading?;
        match reading.batch().await? {
            Ok(batch) => Some((Ok(batch), Some(reading))),
            Err(error) => Some((Err(error), None)),
        }
    }

    /// Goes behind the newest event that the server has.
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
                // It cannot be read; all that was there by then is here.
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

    async fn batch(&mut self) -> Option<Result<Batch>> {
        if let Some(now) = self.now.take()
            && let Err(error) = self.resolve(now).await
        {
            return (error.kind() != ErrorKind::Closed).then_some(Err(error));
        }
        loop {
            // Marked as seen before looking: a change in between wakes us again.
            self.changes.borrow_and_update();
            let ended = self.view.ended();
            let (log, mark) = {
                let held = self.view.read();
                let log = held.log.clone();
                self.position = self.position.max(log.after(self.after));
                let mark = (self.position < log.start())
                    .then(|| held.appender.mark(self.position))
                    .flatten()
                    .map(|(index, id)| (index, Box::from(id)));
                (log, mark)
            };
            if self.position < log.start() {
                let known = self.last.take().map(|id| (self.position - 1, id));
                let known = known.or(mark);
                let found = self.pager.read(&self.view, &log, self.position, known);
                // In a box: most streams never page, and each is as large as its largest step.
                match Box::pin(found).await {
                    Err(error) if error.kind() == ErrorKind::Closed => return None,
                    Err(error) => return Some(Err(error)),
                    Ok(events) => {
                        self.last = events.last().map(|event| event.id().into());
                        let start = self.position;
                        self.position += events.len();
                        if events.is_empty() {
                            // The server reads them no more: go on with what is held.
                            self.position = log.start();
                            continue;
                        }
                        let events = (start..).zip(events).collect();
                        return Some(Ok(Batch::Read { log, events }));
                    }
                }
            }
            if self.position < log.end() {
                let next = self.position;
                self.position = log.end();
                self.last = log.last().map(|event| event.id().into());
                return Some(Ok(Batch::Held { log, next }));
            }
            if let Some(error) = ended {
                return (error.kind() != ErrorKind::Closed).then_some(Err(error));
            }
            drop(log);
            self.changes.changed().await.ok()?;
        }
    }
}
