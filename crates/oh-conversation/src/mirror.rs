//! The local copy of a conversation: one writer, any number of readers. Knows no socket.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use oh_protocol::{
    ConversationId, Event, ExecutionStatus, Payload, event::ConversationStateUpdateEvent,
    state::ConversationState,
};
use tokio::sync::watch;

use oh_protocol::config::{ConfirmationPolicy, SecurityAnalyzer};

use crate::{
    Error, ErrorKind,
    log::{Appender, Log},
};

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
    pub(crate) log: Log,
    pub(crate) appender: Appender,
    /// The `seq` of the last event held; −1 before the first.
    pub(crate) cursor: i64,
    pub(crate) state: Arc<ConversationState>,
    pub(crate) link: Link,
    /// Why there is no connection.
    pub(crate) trouble: Option<Error>,
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
    analyzer: Mutex<Option<Option<SecurityAnalyzer>>>,
    changes: watch::Sender<u64>,
}

/// The exclusive right to write; given up, the mirror has ended.
pub(crate) struct Writer(Arc<Mirror>);

impl Mirror {
    /// `keep`: how many events to hold at least; none: all.
    pub(crate) fn new(
        id: ConversationId,
        state: ConversationState,
        keep: Option<usize>,
    ) -> (Writer, Arc<Self>) {
        let held = Held {
            log: Log::default(),
            appender: Appender::keeping(keep),
            cursor: -1,
            state: Arc::new(state),
            link: Link::Connecting,
            trouble: None,
            connection: 0,
            snapshot: None,
            end: None,
            ended: None,
        };
        let mirror = Arc::new(Self {
            id,
            held: RwLock::new(held),
            policy: Mutex::new(None),
            analyzer: Mutex::new(None),
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

    /// The analyzer this program set, or that there is to be none, if it did.
    pub(crate) fn analyzer(&self) -> Option<Option<SecurityAnalyzer>> {
        let analyzer = self.analyzer.lock();
        analyzer.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn remember_analyzer(&self, analyzer: Option<SecurityAnalyzer>) {
        let mut last = self.analyzer.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(analyzer);
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

    /// Changes it, and wakes readers once for all of it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        let changed = change(&mut self.0.write());
        self.0
            .changes
            .send_modify(|version| *version = version.wrapping_add(1));
        changed
    }

    /// No connection, and why not, if it was tried.
    pub(crate) fn connecting(&self, trouble: Option<Error>) {
        let known = {
            let held = self.0.read();
            held.link == Link::Connecting && trouble.is_none()
        };
        if !known {
            self.change(|held| {
                held.link = Link::Connecting;
                held.trouble = trouble.or(held.trouble.take());
            });
        }
    }

    pub(crate) fn connected(&self) {
        self.change(|held| {
            held.link = Link::Replaying;
            held.connection += 1;
        });
    }

    pub(crate) fn end(&self, error: Error) {
        self.change(|held| {
            held.link = Link::Ended;
            held.ended.get_or_insert(error);
        });
    }
}

impl Held {
    /// Everything the server had when the connection was made is here.
    pub(crate) fn live(&mut self) {
        self.link = Link::Live;
        self.trouble = None;
    }

    /// Goes on after `seq` without an event: one that is held came again under another `seq`, or
    /// there is none to be read.
    pub(crate) fn skip(&mut self, seq: i64) {
        self.cursor = self.cursor.max(seq);
    }

    /// Takes a persisted event, once: one whose `seq` is held already is a repetition. What a
    /// replayed one says of the state is past; the snapshot after the replay says what is now.
    pub(crate) fn durable(&mut self, seq: i64, event: Event, replayed: bool) {
        if seq <= self.cursor {
            return;
        }
        if !replayed
            && event.kind() == STATE_UPDATE
            && let Payload::ConversationStateUpdate(update) = event.decode()
        {
            self.apply(&update);
        }
        self.cursor = seq;
        self.appender.append(&mut self.log, seq, event);
    }

    /// Takes an event that is not in the log: a snapshot changes the state, nothing is kept.
    pub(crate) fn transient(&mut self, event: &Event) {
        let Payload::ConversationStateUpdate(update) = event.decode() else {
            return;
        };
        let applied = self.apply(&update);
        if !update.is_full_state() {
            return;
        }
        if !applied {
            // It says nothing of a run, but that everything before it has been sent.
            self.live();
            return;
        }
        let before = self.snapshot.as_ref();
        let first = before.is_none_or(|last| last.connection != self.connection);
        let snapshot = Snapshot {
            number: before.map_or(0, |last| last.number) + 1,
            status: self.state.execution_status(),
            connection: self.connection,
            first,
            events: self.log.end(),
        };
        if !snapshot.status.is_running() {
            self.end = Some(snapshot.clone());
        }
        self.snapshot = Some(snapshot);
        self.live();
    }

    /// Takes a change of the state; whether it reads. The bodies of such events are not kept
    /// beside their bytes: hardly anybody asks for them again.
    fn apply(&mut self, update: &ConversationStateUpdateEvent) -> bool {
        let applied = Arc::make_mut(&mut self.state).apply(update);
        if let Err(error) = &applied {
            let why = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, why, "a snapshot of the state does not read");
        }
        applied.is_ok()
    }

    /// Takes what only the server's description by REST has, such as the title.
    pub(crate) fn described(&mut self, description: &ConversationState) {
        Arc::make_mut(&mut self.state).complete(description);
    }
}

const STATE_UPDATE: &str = "ConversationStateUpdateEvent";

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
        Mirror::new(ConversationId::random(), ConversationState::default(), None)
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
            writer.change(|held| held.durable(seq, event(seq), false));
        }
        let held = mirror.read();
        let ids: Vec<_> = held.log.range(0..9).map(Event::id).collect();
        assert_eq!(ids, ["0", "1", "4"]);
        assert_eq!(held.cursor, 4);
    }

    #[test]
    fn a_snapshot_that_does_not_read_is_live_but_ends_no_run() {
        let (writer, mirror) = mirror();
        writer.connected();
        writer.change(|held| held.transient(&full_state("running")));
        let broken = r#"{"kind":"ConversationStateUpdateEvent","id":"s","key":"full_state",
            "value":"finished"}"#;
        let broken = Event::from_json(broken).unwrap();
        assert!(broken.malformed().is_some());
        writer.connected();
        writer.change(|held| held.transient(&broken));
        let held = mirror.read();
        assert_eq!(held.link, Link::Live);
        assert_eq!(held.snapshot.as_ref().map(|last| last.number), Some(1));
        assert!(held.end.is_none() && held.state.execution_status().is_running());
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
        writer.change(|held| held.transient(&full_state("idle")));
        assert_eq!(first(), Some(true));
        writer.change(|held| held.transient(&full_state("finished")));
        assert_eq!(first(), Some(false));
        writer.connected();
        writer.change(|held| held.transient(&full_state("finished")));
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
