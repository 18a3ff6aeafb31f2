//! The contents of a mirror: the log, the state, and how they follow the server. Contains no I/O.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use oh_protocol::{
    Event, ExecutionStatus, Json, Payload, event::ConversationStateUpdateEvent, event::StateChange,
    state::ConversationState,
};
use tokio::time::Instant;

use super::{
    answered::Answered,
    changes::{Changes, Part},
    head::STATE_UPDATE,
    log::{Appender, Log},
};
use crate::Error;

/// Connection state of the local mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkStatus {
    /// Connecting, or waiting before the next attempt.
    Connecting,
    /// Connected; the history is still arriving.
    Replaying,
    /// Connected, and the mirror has all events of the server.
    Live,
    /// Sockets are refused, for example by a proxy, or a handshake has got no response for 3
    /// seconds. Events are fetched with REST instead, each once and in order. They arrive later
    /// than over a socket, and streamed tokens do not arrive at all. REST does not report an
    /// event's `seq`: see [`Cursor::After`](crate::Cursor::After).
    Polling,
    /// The link was closed, or ended for a reason that a reconnect cannot fix.
    Ended,
}

impl LinkStatus {
    /// Returns whether the mirror follows the server: by socket or, where sockets are refused, by
    /// REST.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Live | Self::Polling)
    }
}

/// A full-state snapshot from the server.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The number of this snapshot among all received.
    pub(crate) number: u64,
    pub(crate) status: ExecutionStatus,
    /// The connection that delivered the snapshot, when the connection was made, and whether this
    /// was its first snapshot, which every new subscriber receives.
    pub(crate) connection: u64,
    pub(crate) connected: Instant,
    /// When the snapshot arrived.
    pub(crate) at: Instant,
    pub(crate) first: bool,
    /// How many events were held when the snapshot arrived.
    pub(crate) events: usize,
}

/// Events whose `seq` was counted, and that nothing has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The `seq` before the first of them, or a lower one.
    pub(crate) after: i64,
    /// The index of the first of them.
    pub(crate) from: usize,
    /// Whether the server may number one of them differently, so that a socket has to deliver them
    /// again.
    pub(crate) differs: bool,
    /// For a window, the length of the log when it was fetched: events below that are not held are
    /// older than the window.
    pub(crate) length: i64,
}

pub(crate) struct Held {
    pub(crate) log: Log,
    pub(crate) appender: Appender,
    /// The `seq` up to which the log is complete; −1 before the first event.
    pub(crate) cursor: i64,
    /// Whether the `seq` of the last event was assigned by the server.
    pub(crate) exact: bool,
    /// Events whose `seq`s were counted.
    pub(crate) counted: Option<Counted>,
    /// Whether no socket reports `seq`s: sockets are refused, or the server has none that does.
    pub(crate) unnumbered: bool,
    /// Whether the server has sockets that report `seq`s, but they are refused.
    pub(crate) refused: bool,
    /// Events that arrived before their predecessors, by `seq`.
    pub(crate) early: BTreeMap<i64, Event>,
    /// The newest status in the log, and the index after its event.
    pub(crate) logged: Option<(ExecutionStatus, usize)>,
    /// The index after the newest event that reports the start of a run.
    pub(crate) ran: usize,
    /// How many events were held when a snapshot last showed that no run was in progress.
    freed: usize,
    /// Counts since the newest run started: snapshots with another status, and earlier pauses.
    snapshots: u32,
    paused: u32,
    answered: Arc<Answered>,
    /// The index of the newest event that reports that actions wait for approval.
    pub(crate) asked: Option<usize>,
    pub(crate) changes: Changes,
    pub(crate) state: Arc<ConversationState>,
    pub(crate) link: LinkStatus,
    /// Why there is no connection.
    pub(crate) last_error: Option<Error>,
    pub(crate) connection: u64,
    /// When the connection was made.
    pub(crate) connected: Instant,
    /// Since when the mirror has not followed the server.
    pub(crate) down_since: Option<Instant>,
    /// Whether the server responds and reports that it does not have the conversation. The watcher
    /// decides how long to wait.
    pub(crate) disowned: bool,
    pub(crate) snapshot: Option<Snapshot>,
    /// The last snapshot with a status other than `running`, kept when a later run starts.
    pub(crate) end: Option<Snapshot>,
    pub(crate) ended: Option<Error>,
}

impl Held {
    pub(super) fn new(
        state: ConversationState,
        keep: Option<usize>,
        base: usize,
        answered: Arc<Answered>,
    ) -> Self {
        Self {
            log: Log::starting_at(base),
            appender: Appender::keeping(keep),
            cursor: i64::try_from(base).unwrap_or(i64::MAX) - 1,
            exact: false,
            counted: None,
            unnumbered: false,
            refused: false,
            early: BTreeMap::new(),
            logged: None,
            ran: 0,
            freed: 0,
            snapshots: 0,
            paused: 0,
            answered,
            asked: None,
            changes: Changes::default(),
            state: Arc::new(state),
            link: LinkStatus::Connecting,
            last_error: None,
            connection: 0,
            connected: Instant::now(),
            down_since: Some(Instant::now()),
            disowned: false,
            snapshot: None,
            end: None,
            ended: None,
        }
    }

    /// Reports that all events that existed when the connection was made have arrived.
    pub(crate) fn live(&mut self) {
        self.link = LinkStatus::Live;
        self.last_error = None;
        self.disowned = false;
    }

    /// Reports that another connection replaces the last one.
    pub(crate) fn reconnected(&mut self) {
        self.connection += 1;
        self.connected = Instant::now();
        // The server sends these events again, in order.
        self.early.clear();
    }

    /// Reports that the server has sent something. A proxy can accept a socket without a server.
    pub(crate) fn heard(&mut self) {
        self.down_since = None;
    }

    /// Advances to `seq` without an event: either a held event arrived again under another `seq`,
    /// or no event can be read there.
    pub(crate) fn skip(&mut self, seq: i64) {
        self.cursor = self.cursor.max(seq);
        self.exact = false;
        self.take_early(false);
    }

    /// Advances to `seq` because no event can be read there. The events counted before it may be in
    /// any of these places.
    pub(crate) fn skip_hole(&mut self, seq: i64) {
        self.has_hole(seq);
        self.skip(seq);
    }

    fn has_hole(&mut self, seq: i64) {
        if seq > self.cursor
            && let Some(counted) = &mut self.counted
        {
            counted.differs = true;
        }
    }

    /// Adds a persisted event once; an event whose `seq` is held already is ignored. An event that
    /// arrives before its predecessors waits for them. The state in a replayed event is outdated;
    /// the snapshot after the replay has the current one.
    pub(crate) fn durable(&mut self, seq: i64, event: Event, replayed: bool) {
        if seq <= self.cursor {
            return;
        }
        if seq > self.cursor.saturating_add(1) && !replayed {
            self.early.entry(seq).or_insert(event);
            return;
        }
        // A replay comes from the server's disk in order: an omitted event cannot be read.
        self.append(seq, event, replayed);
        self.take_early(replayed);
    }

    fn take_early(&mut self, replayed: bool) {
        while let Some(entry) = self.early.first_entry() {
            let seq = *entry.key();
            if seq > self.cursor.saturating_add(1) {
                return;
            }
            let event = entry.remove();
            if seq > self.cursor {
                self.append(seq, event, replayed);
            }
        }
    }

    fn append(&mut self, seq: i64, event: Event, replayed: bool) {
        if event.kind() == STATE_UPDATE
            && let Payload::ConversationStateUpdate(update) = event.decode()
        {
            if !replayed {
                self.apply(&update);
            }
            self.changes.add(self.log.end(), &update);
            if let StateChange::ExecutionStatus(status) = &update.change {
                if status.is_running() {
                    self.ran = self.log.end() + 1;
                    (self.snapshots, self.paused) = (0, self.answered.paused());
                }
                if *status == ExecutionStatus::WaitingForConfirmation {
                    self.asked = Some(self.log.end());
                }
                self.logged = Some((status.clone(), self.log.end() + 1));
            }
        }
        self.cursor = seq;
        self.exact = true;
        self.appender.append(&mut self.log, seq, event);
    }

    /// Adds events that REST has returned in log order, starting after index `from`. Events that
    /// have arrived by socket in the meantime are skipped. Returns the events added.
    pub(crate) fn read(&mut self, from: usize, events: Vec<Event>, replayed: bool) -> Vec<Event> {
        let (mut known, mut looked) = (HashSet::<String>::new(), from);
        let mut taken = Vec::new();
        for event in events {
            // Early events join the log as the gaps before them are filled.
            let new = self.log.range(looked..self.log.end());
            known.extend(new.map(|event| event.id().to_owned()));
            looked = self.log.end();
            // An event that cannot be decoded may have no id: only its position identifies it.
            let named = !event.id().is_empty();
            if named && known.contains(event.id()) {
                continue;
            }
            let early = self.early.iter();
            let early = early
                .filter(|_| named)
                .find(|(_, it)| it.id() == event.id());
            if let Some(seq) = early.map(|(seq, _)| *seq) {
                // The server has numbered this event: events missing before it cannot be read.
                self.has_hole(seq - 1);
                self.cursor = self.cursor.max(seq - 1);
                self.durable(seq, event, replayed);
                continue;
            }
            taken.push(event.clone());
            self.counts();
            self.durable(self.cursor + 1, event, replayed);
            self.exact = false;
        }
        taken
    }

    /// Returns whether a run may still be finishing, regardless of its status: the snapshot that
    /// the server sends when the run's slot is free has not arrived.
    pub(crate) fn wraps_up(&self) -> bool {
        self.ran > self.freed
    }

    /// Returns how many snapshots since the newest run started may be due to pauses: the server
    /// sends one at once, while the paused step continues, and another one when the slot is free.
    fn snapshots_of_pauses(&self, status: &ExecutionStatus) -> u32 {
        let own = self.answered.pauses().saturating_sub(self.paused);
        own.max(u32::from(*status == ExecutionStatus::Paused))
    }

    /// Returns the current status from the log or the last snapshot, whichever is newer.
    pub(crate) fn status(&self) -> ExecutionStatus {
        let reported = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.events);
        match &self.logged {
            Some((status, after)) if *after > reported => status.clone(),
            _ => self.state.execution_status(),
        }
    }

    /// Returns the confirmation policy in the log, if it is newer than the last snapshot.
    pub(crate) fn newer_policy(&self) -> Option<&Json> {
        let reported = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.events);
        let change = self.changes.since(Part::Policy, reported);
        change.map(|change| &change.value)
    }

    /// Returns whether an event with this id is among the newest `LOOK_BACK` events.
    pub(crate) fn holds(&self, id: &str) -> bool {
        let newest = self.log.range(0..usize::MAX).rev();
        newest.take(LOOK_BACK).any(|event| event.id() == id)
    }

    /// Applies an event that is not in the log: a snapshot changes the state, and nothing is
    /// stored. Returns whether the event was a snapshot.
    pub(crate) fn transient(&mut self, event: &Event) -> bool {
        let Payload::ConversationStateUpdate(update) = event.decode() else {
            return false;
        };
        let applied = self.apply(&update);
        if !update.is_full_state() {
            return false;
        }
        if !applied {
            // This snapshot gives no information about a run, but all earlier events have been
            // sent.
            self.live();
            return true;
        }
        let before = self.snapshot.as_ref();
        let first = before.is_none_or(|last| last.connection != self.connection);
        let snapshot = Snapshot {
            number: before.map_or(0, |last| last.number) + 1,
            status: self.state.execution_status(),
            connection: self.connection,
            connected: self.connected,
            at: Instant::now(),
            first,
            events: self.log.end(),
        };
        if !snapshot.status.is_running() {
            self.end = Some(snapshot.clone());
        }
        if !snapshot.status.is_running() {
            self.snapshots += 1;
            if snapshot.first || self.snapshots > self.snapshots_of_pauses(&snapshot.status) {
                self.freed = snapshot.events;
            }
        }
        self.snapshot = Some(snapshot);
        self.live();
        true
    }

    /// Applies a state change. Returns whether it could be decoded. The decoded bodies of such
    /// events are not cached, because they are rarely used again.
    fn apply(&mut self, update: &ConversationStateUpdateEvent) -> bool {
        let applied = Arc::make_mut(&mut self.state).apply(update);
        if let Err(error) = &applied {
            tracing::warn!(%error, "could not decode a state snapshot");
        }
        applied.is_ok()
    }

    /// Adds fields that are only in the server's REST description, such as the title.
    pub(crate) fn described(&mut self, description: &ConversationState) {
        Arc::make_mut(&mut self.state).complete(description);
    }
}

/// How far from the end to look for an event that was the newest a moment ago.
const LOOK_BACK: usize = 5_000;

#[cfg(test)]
mod tests {
    use oh_protocol::ConversationId;

    use super::*;
    use crate::{
        ErrorKind,
        mirror::{Mirror, Writer},
    };

    fn mirror() -> (Writer, Arc<Mirror>) {
        Mirror::new(
            ConversationId::random(),
            ConversationState::default(),
            None,
            0,
            Arc::default(),
            Arc::default(),
        )
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

    fn ids(mirror: &Mirror) -> Vec<String> {
        let held = mirror.read();
        let all = held.log.range(0..usize::MAX);
        all.map(|event| event.id().to_owned()).collect()
    }

    #[test]
    fn events_out_of_order_are_sorted_and_repeated_events_are_kept_once() {
        let (writer, mirror) = mirror();
        for seq in [0, 2, 1, 1, 0, 3, 6, 5, 6, 4, 3] {
            writer.change(|held| held.durable(seq, event(seq), false));
        }
        assert_eq!(ids(&mirror), ["0", "1", "2", "3", "4", "5", "6"]);
        assert_eq!(mirror.read().cursor, 6);
        assert!(mirror.read().early.is_empty());
    }

    #[test]
    fn an_event_after_a_gap_waits_until_the_gap_is_filled_or_known_to_be_empty() {
        let (writer, mirror) = mirror();
        for seq in [0, 4, 5] {
            writer.change(|held| held.durable(seq, event(seq), false));
        }
        assert_eq!((ids(&mirror), mirror.read().cursor), (vec!["0".into()], 0));
        writer.change(|held| held.durable(1, event(1), false));
        writer.change(|held| held.skip(3));
        assert_eq!(ids(&mirror), ["0", "1", "4", "5"]);
        assert_eq!(mirror.read().cursor, 5);
    }

    #[test]
    fn the_newer_of_log_and_snapshot_decides_the_status() {
        let (writer, mirror) = mirror();
        let status = |seq: i64, status: &str| {
            let event = Event::from_json(format!(
                r#"{{"kind":"ConversationStateUpdateEvent","id":"{seq}","key":"execution_status","value":"{status}"}}"#
            ));
            writer.change(|held| held.durable(seq, event.unwrap(), true));
        };
        writer.connected();
        writer.change(|held| held.transient(&full_state("idle")));
        status(0, "running");
        // A replay does not change the state, but the log is newer than the snapshot.
        assert_eq!(
            mirror.read().state.execution_status(),
            ExecutionStatus::Idle
        );
        assert_eq!(mirror.read().status(), ExecutionStatus::Running);
        status(1, "waiting_for_confirmation");
        assert_eq!(
            mirror.read().status(),
            ExecutionStatus::WaitingForConfirmation
        );
        // A killed server restarts with a status that it has not logged.
        writer.change(|held| held.transient(&full_state("error")));
        assert_eq!(mirror.read().status(), ExecutionStatus::Error);
    }

    #[test]
    fn an_invalid_snapshot_counts_as_live_and_ends_no_run() {
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
        assert_eq!(held.link, LinkStatus::Live);
        assert_eq!(held.snapshot.as_ref().map(|last| last.number), Some(1));
        assert!(held.end.is_none() && held.state.execution_status().is_running());
    }

    #[test]
    fn the_first_snapshot_of_each_connection_is_marked() {
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
