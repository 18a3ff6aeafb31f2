//! The local copy of a conversation: one writer, any number of readers. Knows no socket.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use oh_protocol::{ConversationId, Event, ExecutionStatus, Payload, state::ConversationState};
use tokio::sync::watch;

use oh_protocol::config::ConfirmationPolicy;

use crate::{Error, ErrorKind};

/// How the mirror stands to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Link {
    /// Dialling, or waiting to dial again.
    Connecting,
    /// Connected; the history is still arriving.
    Replaying,
    /// Connected, and everything the server has is here.
    Live,
    /// Over: closed, or for a reason that no reconnect mends.
    Ended,
}

/// A full-state snapshot the server sent.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Counts all snapshots ever seen.
    pub(crate) number: u64,
    pub(crate) status: ExecutionStatus,
    /// Which connection it came over, and whether it was that connection's first: the one that
    /// every new subscriber gets.
    pub(crate) connection: u64,
    pub(crate) first: bool,
    /// How many events were held when it came.
    pub(crate) events: usize,
}

pub(crate) struct Held {
    pub(crate) events: Vec<Event>,
    /// The `seq` of the last event held; −1 before the first.
    pub(crate) cursor: i64,
    pub(crate) state: ConversationState,
    pub(crate) link: Link,
    pub(crate) connection: u64,
    pub(crate) snapshot: Option<Snapshot>,
    /// The last snapshot with a status other than `running`, kept when a later run begins.
    pub(crate) end: Option<Snapshot>,
    pub(crate) ended: Option<Error>,
}

/// What readers share.
pub(crate) struct Mirror {
    pub(crate) id: ConversationId,
    held: RwLock<Held>,
    /// What this program set and the server may forget.
    policy: Mutex<Option<ConfirmationPolicy>>,
    changes: watch::Sender<u64>,
}

/// The exclusive right to write; given up, the mirror has ended.
pub(crate) struct Writer(Arc<Mirror>);

impl Mirror {
    pub(crate) fn new(id: ConversationId, state: ConversationState) -> (Writer, Arc<Self>) {
        let held = Held {
            events: Vec::new(),
            cursor: -1,
            state,
            link: Link::Connecting,
            connection: 0,
            snapshot: None,
            end: None,
            ended: None,
        };
        let mirror = Arc::new(Self {
            id,
            held: RwLock::new(held),
            policy: Mutex::new(None),
            changes: watch::Sender::new(0),
        });
        (Writer(mirror.clone()), mirror)
    }

    /// Reads; never hold it across an await.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Held> {
        // A writer's panic cannot tear it: every change is complete before the next begins.
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy this program set, if it did.
    pub(crate) fn policy(&self) -> Option<ConfirmationPolicy> {
        let policy = self.policy.lock();
        policy.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn remember_policy(&self, policy: ConfirmationPolicy) {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = Some(policy);
    }

    /// Wakes on every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    pub(crate) fn mirror(&self) -> &Mirror {
        &self.0
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.0.write());
        self.0
            .changes
            .send_modify(|version| *version = version.wrapping_add(1));
    }

    pub(crate) fn connecting(&self) {
        self.change(|held| held.link = Link::Connecting);
    }

    pub(crate) fn connected(&self) {
        self.change(|held| {
            held.link = Link::Replaying;
            held.connection += 1;
        });
    }

    /// Everything the server had when the connection was made is here.
    pub(crate) fn live(&self) {
        if self.0.read().link != Link::Live {
            self.change(|held| held.link = Link::Live);
        }
    }

    /// Goes on after `seq` without an event: one that is held came again under another `seq`.
    pub(crate) fn skip(&self, seq: i64) {
        self.change(|held| held.cursor = held.cursor.max(seq));
    }

    /// Takes a persisted event, once: one whose `seq` is held already is a repetition. What a
    /// replayed one says of the state is past; the snapshot after the replay says what is now.
    pub(crate) fn durable(&self, seq: i64, event: Event, replayed: bool) {
        if seq <= self.0.read().cursor {
            return;
        }
        self.change(|held| {
            if let (false, Payload::ConversationStateUpdate(update)) = (replayed, event.payload()) {
                held.state.apply(update);
            }
            held.cursor = seq;
            held.events.push(event);
        });
    }

    /// Takes an event that is not in the log: a snapshot changes the state, nothing is kept.
    pub(crate) fn transient(&self, event: &Event) {
        let Payload::ConversationStateUpdate(update) = event.payload() else {
            return;
        };
        self.change(|held| {
            held.state.apply(update);
            if update.is_full_state() {
                let before = held.snapshot.as_ref();
                let first = before.is_none_or(|last| last.connection != held.connection);
                let snapshot = Snapshot {
                    number: before.map_or(0, |last| last.number) + 1,
                    status: held.state.execution_status(),
                    connection: held.connection,
                    first,
                    events: held.events.len(),
                };
                if !snapshot.status.is_running() {
                    held.end = Some(snapshot.clone());
                }
                held.snapshot = Some(snapshot);
                held.link = Link::Live;
            }
        });
    }

    pub(crate) fn end(&self, error: Error) {
        self.change(|held| {
            held.link = Link::Ended;
            held.ended.get_or_insert(error);
        });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.0.read().ended.is_none() {
            let message = "the conversation was closed";
            self.end(Error::new(ErrorKind::Closed, self.0.id, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror() -> (Writer, Arc<Mirror>) {
        Mirror::new(ConversationId::random(), ConversationState::default())
    }

    fn event(n: i64) -> Event {
        Event::from_json(format!(r#"{{"kind":"PauseEvent","id":"{n}"}}"#)).unwrap()
    }

    fn full_state(status: &str) -> Event {
        Event::from_json(format!(
            r#"{{"kind":"ConversationStateUpdateEvent","id":"s","key":"full_state",
               "value":{{"execution_status":"{status}"}}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn a_repeated_event_is_held_once_and_a_gap_is_tolerated() {
        let (writer, mirror) = mirror();
        for seq in [0, 1, 1, 0, 4, 4] {
            writer.durable(seq, event(seq), false);
        }
        let held = mirror.read();
        let ids: Vec<_> = held.events.iter().map(Event::id).collect();
        assert_eq!(ids, ["0", "1", "4"]);
        assert_eq!(held.cursor, 4);
    }

    #[test]
    fn the_first_snapshot_of_each_connection_is_told_apart() {
        let (writer, mirror) = mirror();
        let first = || {
            mirror
                .read()
                .snapshot
                .as_ref()
                .map(|snapshot| snapshot.first)
        };
        writer.connected();
        writer.transient(&full_state("idle"));
        assert_eq!(first(), Some(true));
        writer.transient(&full_state("finished"));
        assert_eq!(first(), Some(false));
        writer.connected();
        writer.transient(&full_state("finished"));
        assert_eq!(first(), Some(true));
    }

    #[test]
    fn a_dropped_writer_ends_the_mirror() {
        let (writer, mirror) = mirror();
        drop(writer);
        assert_eq!(
            mirror.read().ended.as_ref().map(Error::kind),
            Some(ErrorKind::Closed)
        );
    }
}
