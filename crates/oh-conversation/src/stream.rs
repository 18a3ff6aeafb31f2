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
use tokio::sync::watch;

use crate::{ErrorKind, Result, log::Log, mirror::Mirror, pager::Pager};

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cursor {
    /// At the first event of the conversation.
    #[default]
    Start,
    /// After the last event held now.
    Now,
    /// After the event with this `seq`: its place in the server's log, counted from 0. One that is
    /// yet to come is waited for. Events that the server cannot read have a place, too, but on
    /// servers before 1.45, which tell no `seq`: there only what can be read is counted.
    After(u64),
}

/// Every persisted event from a cursor on, once and in log order, across reconnects.
///
/// Its position is its own: however slow its reader is, nobody else waits and nothing is lost.
/// It ends after giving the error that ended the conversation's link, and after a close without
/// one.
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
    pub(crate) fn new(mirror: Arc<Mirror>, pager: Pager, cursor: Cursor) -> Self {
        let changes = mirror.changes();
        let log = mirror.read().log.clone();
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
        let reading = Reading {
            mirror,
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
    mirror: Arc<Mirror>,
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

    async fn batch(&mut self) -> Option<Result<Batch>> {
        loop {
            // Marked as seen before looking: a change in between wakes us again.
            self.changes.borrow_and_update();
            let (log, mark, ended) = {
                let held = self.mirror.read();
                let log = held.log.clone();
                self.position = self.position.max(log.after(self.after));
                let mark = (self.position < log.start())
                    .then(|| held.appender.mark(self.position))
                    .flatten()
                    .map(|(index, id)| (index, Box::from(id)));
                (log, mark, held.ended.clone())
            };
            if self.position < log.start() {
                let known = self.last.take().map(|id| (self.position - 1, id));
                let known = known.or(mark);
                let found = self.pager.read(&self.mirror, &log, self.position, known);
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
