//! Storage of events: append-only pieces that snapshots share. Contains no I/O and no locks.
//!
//! An event's *index* counts the events that the server can decode; its `seq` is its position in
//! the server's log. The two differ only after a gap. In a window on the newest events, the first
//! index is about the `seq` of the first event, because nobody knows how many events before it the
//! server can decode.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::{collections::HashMap, ops::Range};

use oh_protocol::{Event, Payload};

/// The smallest piece. A piece has room for a quarter of the events held, which limits both the
/// number of pieces and the unused room.
const SMALLEST: usize = 16;

/// Consecutive events. The places are filled one by one, even while snapshots share the piece.
struct Piece {
    /// Index of the first event.
    start: usize,
    places: Box<[OnceLock<Entry>]>,
}

struct Entry {
    event: Event,
    /// How many earlier events are merged into another one in the list.
    merged: u32,
    /// Whether this event is merged.
    is_merged: bool,
}

/// Repeated reports of ACP tool calls: index of the first report, indexes of the others.
#[derive(Default)]
struct Calls(RwLock<HashMap<usize, Vec<usize>>>);

/// The events held. A clone is a cheap snapshot, which later events do not change.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pieces: Arc<Vec<Arc<Piece>>>,
    /// Index of the first event that was ever held. The indexes below it are `seq`s.
    begin: usize,
    /// Index after the last event.
    end: usize,
    /// Gaps before the end: from this index on, this many `seq`s are missing.
    gaps: Arc<Vec<(usize, i64)>>,
    calls: Arc<Calls>,
    /// How many of all events are merged into another one.
    merged: u32,
}

/// State that only the writer needs.
#[derive(Default)]
pub(crate) struct Appender {
    /// The minimum number of events to keep; `None` keeps all.
    keep: Option<usize>,
    /// ACP tool calls in progress.
    open: HashMap<String, usize>,
    /// First events of the pieces removed, for readers that need them later.
    marks: Vec<(usize, Box<str>)>,
}

impl Piece {
    fn new(start: usize, room: usize) -> Self {
        let places = (0..room).map(|_| OnceLock::new()).collect();
        Self { start, places }
    }

    fn entry(&self, index: usize) -> Option<&Entry> {
        self.places.get(index.checked_sub(self.start)?)?.get()
    }
}

impl Log {
    /// Creates an empty log whose first event will have this index.
    pub(crate) fn starting_at(index: usize) -> Self {
        Self {
            begin: index,
            end: index,
            ..Self::default()
        }
    }

    /// Returns the index of the first event that was ever held: 0, or where a window begins.
    pub(crate) fn begin(&self) -> usize {
        self.begin
    }

    /// Returns whether a `seq` differs from its index.
    pub(crate) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// Returns whether no event was ever held.
    pub(crate) fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Returns the index of the first event held.
    pub(crate) fn start(&self) -> usize {
        self.pieces.first().map_or(self.end, |piece| piece.start)
    }

    /// Returns the index after the last event held.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Returns the `seq` of the event at an index, held or not.
    pub(crate) fn seq(&self, index: usize) -> i64 {
        let before = self.gaps.partition_point(|(from, _)| *from <= index);
        let missing = before.checked_sub(1).map_or(0, |at| self.gaps[at].1);
        as_seq(index).saturating_add(missing)
    }

    /// Sets the `seq` of the event at an index. The events after it follow, up to the next gap.
    pub(crate) fn renumber(&mut self, index: usize, seq: i64) {
        let missing = seq.saturating_sub(as_seq(index));
        let gaps = Arc::make_mut(&mut self.gaps);
        let at = gaps.partition_point(|(from, _)| *from < index);
        if gaps.get(at).is_some_and(|(from, _)| *from == index) {
            gaps.remove(at);
        }
        if at.checked_sub(1).map_or(0, |before| gaps[before].1) != missing {
            gaps.insert(at, (index, missing));
        }
    }

    /// Returns the index of the first event with a higher `seq`, or the end if there is none yet.
    /// Before a window, the index is the next `seq`.
    pub(crate) fn after(&self, seq: i64) -> usize {
        let next = seq.saturating_add(1);
        if self.begin > 0 && next < self.seq(self.begin) {
            return usize::try_from(next).unwrap_or(0).min(self.begin);
        }
        let (mut low, mut high) = (self.begin, self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.seq(middle) <= seq {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Event> {
        self.entry(index).map(|entry| &entry.event)
    }

    pub(crate) fn last(&self) -> Option<&Event> {
        self.get(self.end.checked_sub(1)?)
    }

    /// Returns the events of a range, as far as they are held.
    pub(crate) fn range(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = &Event> {
        self.entries(range).map(|(_, entry)| &entry.event)
    }

    fn entries(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = (usize, &Entry)> {
        let end = range.end.min(self.end);
        let start = range.start.max(self.start()).min(end);
        let first = self.piece_of(start);
        let last = if start < end {
            self.piece_of(end - 1) + 1
        } else {
            first
        };
        let pieces = self.pieces.get(first..last).unwrap_or_default();
        pieces.iter().flat_map(move |piece| {
            let from = start.max(piece.start) - piece.start;
            let to = (end - piece.start).min(piece.places.len());
            let places = piece.places.get(from..to).unwrap_or_default();
            let index = piece.start + from;
            let full = places.iter().enumerate();
            full.filter_map(move |(n, place)| Some((index + n, place.get()?)))
        })
    }

    fn piece_of(&self, index: usize) -> usize {
        let after = self.pieces.partition_point(|piece| piece.start <= index);
        after.saturating_sub(1)
    }

    fn entry(&self, index: usize) -> Option<&Entry> {
        if index >= self.end {
            return None;
        }
        self.pieces.get(self.piece_of(index))?.entry(index)
    }
}

/// The list that readers see, which omits events merged into another one.
impl Log {
    /// Returns the position in the list of the first event held, counted from the conversation's
    /// first.
    pub(crate) fn first_place(&self) -> usize {
        self.place(self.start())
    }

    /// Returns the position in the list after the last event.
    pub(crate) fn end_place(&self) -> usize {
        self.end - self.merged as usize
    }

    /// Returns how many events before an index are in the list.
    fn place(&self, index: usize) -> usize {
        self.entry(index)
            .map_or(self.end_place(), |entry| index - entry.merged as usize)
    }

    /// Returns the index of the event at a position in the list.
    pub(crate) fn at_place(&self, place: usize) -> usize {
        if self.merged == 0 {
            return place;
        }
        let (mut low, mut high) = (self.start(), self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let before = self.entry(middle).is_some_and(|entry| {
                middle - entry.merged as usize + usize::from(!entry.is_merged) <= place
            });
            if before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Returns the index and event of the latest report of a tool call, or those given.
    pub(crate) fn newest<'a>(&'a self, index: usize, event: &'a Event) -> (usize, &'a Event) {
        if self.merged == 0 || event.kind() != ACP {
            return (index, event);
        }
        let newest = self.calls.newest(index, self.end);
        match newest.and_then(|newest| Some((newest, self.get(newest)?))) {
            Some(newest) => newest,
            None => (index, event),
        }
    }
}

const ACP: &str = "ACPToolCallEvent";

impl Calls {
    fn newest(&self, first: usize, end: usize) -> Option<usize> {
        let again = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = again.get(&first)?.iter().rev();
        known.copied().find(|index| *index < end)
    }

    fn add(&self, first: usize, again: usize) {
        let mut calls = self.0.write().unwrap_or_else(PoisonError::into_inner);
        calls.entry(first).or_default().push(again);
    }

    fn forget(&self, before: usize) {
        let mut calls = self.0.write().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|first, _| *first >= before);
    }
}

impl Appender {
    pub(crate) fn keeping(keep: Option<usize>) -> Self {
        Self {
            keep: keep.map(|keep| keep.max(1)),
            ..Self::default()
        }
    }

    /// Appends an event whose `seq` is higher than all before.
    pub(crate) fn append(&mut self, log: &mut Log, seq: i64, event: Event) {
        let index = log.end;
        let missing = seq.saturating_sub(as_seq(index));
        if missing != log.gaps.last().map_or(0, |(_, missing)| *missing) {
            Arc::make_mut(&mut log.gaps).push((index, missing));
        }
        let first = self.first_of_call(&event, index);
        let entry = Entry {
            event,
            merged: log.merged,
            is_merged: first.is_some(),
        };
        if let Some(first) = first {
            log.calls.add(first, index);
            log.merged += 1;
        }
        let room = |piece: &Arc<Piece>| piece.start + piece.places.len();
        if log.pieces.last().is_none_or(|piece| room(piece) <= index) {
            let room = ((index - log.start()) / 4).max(SMALLEST);
            let pieces = Arc::make_mut(&mut log.pieces);
            pieces.push(Arc::new(Piece::new(index, room)));
        }
        if let Some(piece) = log.pieces.last()
            && let Some(place) = piece.places.get(index - piece.start)
        {
            // There is only one writer, so the place is free.
            let _ = place.set(entry);
        }
        log.end += 1;
        self.forget(log);
    }

    /// Returns the index of the first report of the ACP tool call that this event reports again.
    fn first_of_call(&mut self, event: &Event, index: usize) -> Option<usize> {
        if event.kind() != ACP {
            return None;
        }
        let Payload::AcpToolCall(call) = event.payload() else {
            return None;
        };
        let first = self.open.get(call.tool_call_id.as_str()).copied();
        let status = call.status.as_ref().map(|status| status.as_str());
        if matches!(status, Some("completed" | "failed")) {
            self.open.remove(call.tool_call_id.as_str());
        } else if first.is_none() {
            self.open.insert(call.tool_call_id.as_str().into(), index);
        }
        first
    }

    fn forget(&mut self, log: &mut Log) {
        let Some(keep) = self.keep else { return };
        // A piece is removed as a whole, once enough events follow it.
        while let [first, second, ..] = log.pieces.as_slice()
            && log.end - second.start >= keep
        {
            let id = first
                .entry(first.start)
                .map_or("", |entry| entry.event.id());
            self.marks.push((first.start, id.into()));
            let start = second.start;
            Arc::make_mut(&mut log.pieces).remove(0);
            log.calls.forget(start);
            self.open.retain(|_, index| *index >= start);
        }
    }

    /// Returns the index and id of the nearest known event at or before an index that is no longer
    /// held.
    pub(crate) fn mark(&self, index: usize) -> Option<(usize, &str)> {
        let after = self.marks.partition_point(|(start, _)| *start <= index);
        let (index, id) = self.marks.get(after.checked_sub(1)?)?;
        Some((*index, id))
    }
}

fn as_seq(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize) -> Event {
        Event::from_json(format!(r#"{{"kind":"New","id":"{n}"}}"#)).unwrap()
    }

    fn call(n: usize, call: &str, status: &str) -> Event {
        Event::from_json(format!(
            r#"{{"kind":"ACPToolCallEvent","id":"{n}","source":"agent","tool_call_id":"{call}",
               "title":"t","status":"{status}","is_error":false}}"#
        ))
        .unwrap()
    }

    fn ids(log: &Log) -> Vec<usize> {
        let all = log.range(0..usize::MAX);
        all.map(|event| event.id().parse().unwrap()).collect()
    }

    fn listed(log: &Log) -> Vec<usize> {
        let shown = (log.first_place()..log.end_place()).map(|place| {
            let index = log.at_place(place);
            let (_, event) = log.newest(index, log.get(index).unwrap());
            event.id().parse().unwrap()
        });
        shown.collect()
    }

    #[test]
    fn a_snapshot_does_not_change_while_the_log_grows() {
        let (mut log, mut appender) = (Log::default(), Appender::default());
        let mut snapshots = Vec::new();
        for n in 0..1000 {
            snapshots.push(log.clone());
            appender.append(&mut log, as_seq(n), event(n));
        }
        for (n, snapshot) in snapshots.iter().enumerate() {
            assert_eq!((snapshot.end(), snapshot.start()), (n, 0));
            assert_eq!(
                snapshot.last().map(Event::id),
                n.checked_sub(1).map(|n| n.to_string()).as_deref()
            );
            assert!(snapshot.get(n).is_none(), "it has no event of later");
        }
        assert_eq!(ids(&log), (0..1000).collect::<Vec<_>>());
        assert!(log.pieces.len() < 40, "{} pieces", log.pieces.len());
        for range in [0..0, 5..5, 0..1, 15..17, 990..2000, 1000..1001] {
            let expected = range.clone().filter(|n| *n < 1000).collect::<Vec<_>>();
            let got = log.range(range).map(|event| event.id().parse().unwrap());
            assert_eq!(got.collect::<Vec<usize>>(), expected);
        }
    }

    #[test]
    fn index_and_seq_differ_after_a_gap_only() {
        let (mut log, mut appender) = (Log::default(), Appender::default());
        for (n, seq) in [0, 1, 4, 5, 9].into_iter().enumerate() {
            appender.append(&mut log, seq, event(n));
        }
        let seqs: Vec<_> = (0..5).map(|index| log.seq(index)).collect();
        assert_eq!(seqs, [0, 1, 4, 5, 9]);
        for (seq, index) in [
            (-1, 0),
            (0, 1),
            (1, 2),
            (2, 2),
            (3, 2),
            (4, 3),
            (8, 4),
            (9, 5),
            (99, 5),
        ] {
            assert_eq!(log.after(seq), index, "after {seq}");
        }
    }

    #[test]
    fn a_bounded_log_drops_its_oldest_events_and_keeps_their_positions() {
        let (mut log, mut appender) = (Log::default(), Appender::keeping(Some(100)));
        for n in 0..10_000 {
            appender.append(&mut log, as_seq(n) + 5, event(n));
            assert!(
                log.end() - log.start() <= 150,
                "{}",
                log.end() - log.start()
            );
        }
        let held = log.end() - log.start();
        assert!(held >= 100, "{held}");
        assert_eq!(ids(&log), (log.start()..10_000).collect::<Vec<_>>());
        assert!(log.get(log.start() - 1).is_none());
        assert_eq!(
            (log.seq(3), log.after(8)),
            (8, 4),
            "also of what is not held"
        );
        for index in [0, 1, 17, 5000, log.start() - 1] {
            let (mark, id) = appender.mark(index).unwrap();
            assert_eq!(id, mark.to_string());
            assert!(mark <= index && index - mark < 50, "{index} {mark}");
        }
    }

    #[test]
    fn a_repeated_acp_tool_call_replaces_its_first_event() {
        let (mut log, mut appender) = (Log::default(), Appender::default());
        let mut n = 0;
        let mut add = |log: &mut Log, event: Event| {
            appender.append(log, n, event);
            n += 1;
        };
        add(&mut log, event(0));
        add(&mut log, call(1, "a", "in_progress"));
        add(&mut log, call(2, "b", "in_progress"));
        let early = log.clone();
        add(&mut log, event(3));
        add(&mut log, call(4, "a", "completed"));
        add(&mut log, call(5, "a", "in_progress"));
        add(&mut log, call(6, "b", "failed"));
        add(&mut log, event(7));
        assert_eq!(listed(&early), [0, 1, 2]);
        assert_eq!(
            listed(&log),
            [0, 4, 6, 3, 5, 7],
            "a reused id begins a new entry"
        );
        assert_eq!(ids(&log), (0..8).collect::<Vec<_>>(), "the log has all");
        assert_eq!((log.first_place(), log.end_place()), (0, 6));
        assert_eq!(log.at_place(6), 8);
    }
}
