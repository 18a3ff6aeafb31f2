//! Snapshots of the events held in memory.

use std::{
    fmt,
    ops::{Bound, Index, RangeBounds},
};

use oh_protocol::Event;

use crate::mirror::log::Log;

/// A snapshot of the events held in memory. Later events do not change it.
///
/// A snapshot and its slices cost a few pointers, however many events there are.
///
/// An ACP agent reports a tool call repeatedly while it progresses. In this list such a call is one
/// entry, at the position of its first report, with the content of its latest one. A
/// [stream](crate::EventStream) yields every report.
///
/// ```no_run
/// # fn show(conversation: &oh_conversation::Conversation) {
/// let events = conversation.events();
/// for event in events.last(10) {
///     println!("{event}");
/// }
/// println!("{} actions", events.of_kind("ActionEvent").count());
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Events {
    log: Log,
    /// Positions in the list, counted from the conversation's first event.
    from: usize,
    to: usize,
}

impl Events {
    pub(crate) fn of(log: Log) -> Self {
        let (from, to) = (log.first_place(), log.end_place());
        Self { log, from, to }
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Returns the event at an index, counted from 0.
    pub fn get(&self, index: usize) -> Option<&Event> {
        self.numbered_at(index).map(|(_, event)| event)
    }

    /// Returns the event at an index; negative indexes count from the end: −1 is the last.
    pub fn at(&self, index: isize) -> Option<&Event> {
        let index = match usize::try_from(index) {
            Ok(index) => index,
            Err(_) => self.len().checked_sub(index.unsigned_abs())?,
        };
        self.get(index)
    }

    /// Returns the first event.
    pub fn first(&self) -> Option<&Event> {
        self.get(0)
    }

    /// Returns the last `n` events, or all if there are fewer.
    pub fn last(&self, n: usize) -> Self {
        self.slice(self.len().saturating_sub(n)..)
    }

    /// Returns the events in a range of indexes, clamped to the list.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => usize::MAX,
        };
        let end = end.min(self.len());
        let start = start.min(end);
        Self {
            log: self.log.clone(),
            from: self.from + start,
            to: self.from + end,
        }
    }

    /// Returns the event with an id, including earlier reports of a tool call. Searches from the
    /// end.
    pub fn by_id(&self, id: &str) -> Option<&Event> {
        let range = self.log.at_place(self.from)..self.log.at_place(self.to);
        let held = self.log.range(range).rev().find(|event| event.id() == id);
        // The latest report of a tool call may be beyond the end of this list.
        held.or_else(|| self.iter().find(|event| event.id() == id))
    }

    /// Returns the events of a kind, such as `ActionEvent`.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Event> {
        self.iter().filter(move |event| event.kind() == kind)
    }

    /// Returns all events, in log order.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.numbered_iter())
    }

    /// Returns all events with their `seq`: the position in the server's log, as used by
    /// [`Cursor::After`](crate::Cursor::After).
    pub fn numbered(&self) -> impl DoubleEndedIterator<Item = (u64, &Event)> + ExactSizeIterator {
        self.numbered_iter()
    }

    /// Returns the `seq` of the event at an index.
    pub fn seq(&self, index: usize) -> Option<u64> {
        self.numbered_at(index).map(|(seq, _)| seq)
    }

    fn numbered_at(&self, index: usize) -> Option<(u64, &Event)> {
        if index >= self.len() {
            return None;
        }
        let index = self.log.at_place(self.from + index);
        let (index, event) = self.log.newest(index, self.log.get(index)?);
        Some((self.seq_of(index), event))
    }

    fn seq_of(&self, index: usize) -> u64 {
        u64::try_from(self.log.seq(index)).unwrap_or_default()
    }

    fn numbered_iter(&self) -> Numbered<'_> {
        Numbered {
            events: self,
            front: 0,
            back: self.len(),
        }
    }
}

/// Panics if the index is out of bounds, as for slices; see [`Events::get`] and [`Events::at`].
impl Index<usize> for Events {
    type Output = Event;

    fn index(&self, index: usize) -> &Event {
        let len = self.len();
        match self.get(index) {
            Some(event) => event,
            #[allow(clippy::panic, reason = "what indexing does everywhere")]
            None => panic!("there is no event {index} in a list of {len}"),
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

struct Numbered<'a> {
    events: &'a Events,
    front: usize,
    back: usize,
}

impl<'a> Iterator for Numbered<'a> {
    type Item = (u64, &'a Event);

    fn next(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        self.front += 1;
        self.events.numbered_at(self.front - 1)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.back - self.front;
        (left, Some(left))
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.front = self.front.saturating_add(n).min(self.back);
        self.next()
    }
}

impl DoubleEndedIterator for Numbered<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        self.back -= 1;
        self.events.numbered_at(self.back)
    }
}

impl ExactSizeIterator for Numbered<'_> {}

/// An iterator over the events of a list, in log order.
pub struct Iter<'a>(Numbered<'a>);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Event;

    fn next(&mut self) -> Option<&'a Event> {
        self.0.next().map(|(_, event)| event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }

    fn nth(&mut self, n: usize) -> Option<&'a Event> {
        self.0.nth(n).map(|(_, event)| event)
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(_, event)| event)
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("left", &self.len()).finish()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for Events {
    type Item = Event;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter(self)
    }
}

/// An owning iterator over the events of a list, in log order.
#[derive(Debug)]
pub struct IntoIter(Events);

impl Iterator for IntoIter {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let next = self.0.first().cloned()?;
        self.0.from += 1;
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl DoubleEndedIterator for IntoIter {
    fn next_back(&mut self) -> Option<Event> {
        let last = self.0.at(-1).cloned()?;
        self.0.to -= 1;
        Some(last)
    }
}

impl ExactSizeIterator for IntoIter {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::log::Appender;

    fn list(n: usize, keep: Option<usize>) -> Events {
        let (mut log, mut appender) = (Log::default(), Appender::keeping(keep));
        for n in 0..n {
            let json = match n % 10 {
                3 | 6 => format!(
                    r#"{{"kind":"ACPToolCallEvent","id":"{n}","tool_call_id":"{}","title":"t",
                        "status":"{}"}}"#,
                    n / 10,
                    if n % 10 == 3 { "pending" } else { "completed" }
                ),
                _ => format!(r#"{{"kind":"New","id":"{n}"}}"#),
            };
            let seq = i64::try_from(n * 2).unwrap();
            appender.append(&mut log, seq, Event::from_json(json).unwrap());
        }
        Events::of(log)
    }

    fn ids(events: &Events) -> Vec<usize> {
        events
            .iter()
            .map(|event| event.id().parse().unwrap())
            .collect()
    }

    /// Returns the indexes that a list of `n` events should show.
    fn expected(n: usize) -> Vec<usize> {
        let shown = |n: usize| if n % 10 == 3 { n + 3 } else { n };
        let all = (0..n).filter(|n| n % 10 != 6).map(shown);
        all.filter(|shown| *shown < n).collect()
    }

    #[test]
    fn a_list_of_events_behaves_as_a_sequence() {
        let events = list(1000, None);
        let expected = expected(1000);
        assert_eq!((events.len(), events.is_empty()), (900, false));
        assert_eq!(ids(&events), expected);
        let mut back: Vec<usize> = events
            .iter()
            .rev()
            .map(|e| e.id().parse().unwrap())
            .collect();
        back.reverse();
        assert_eq!(back, expected);
        let owned: Vec<_> = events
            .clone()
            .into_iter()
            .map(|e| e.id().to_owned())
            .collect();
        assert_eq!(owned.len(), 900);
        for place in [0, 1, 3, 4, 5, 6, 899] {
            assert_eq!(events[place].id(), expected[place].to_string());
            let behind = isize::try_from(place).unwrap() - 900;
            assert_eq!(events.at(behind).unwrap().id(), expected[place].to_string());
            assert_eq!(events.seq(place), Some(expected[place] as u64 * 2));
        }
        assert!(events.get(900).is_none() && events.at(-901).is_none() && events.at(900).is_none());
        assert!(events.at(isize::MIN).is_none() && events.get(usize::MAX).is_none());
        assert_eq!(ids(&events.last(7)), expected[893..]);
        assert_eq!(ids(&events.last(5000)), expected);
        assert_eq!(ids(&events.slice(3..=12)), expected[3..=12]);
        assert_eq!(
            ids(&events.slice(3..17).slice(2..).last(4)),
            expected[13..17]
        );
        assert!(events.slice(5..5).is_empty() && events.slice(1000..).is_empty());
        let seqs: Vec<_> = events.numbered().map(|(seq, _)| seq).collect();
        assert_eq!(seqs[4], 8);
    }

    #[test]
    fn an_event_is_found_by_id_and_by_kind() {
        let events = list(1000, None);
        for id in ["0", "3", "6", "500", "999"] {
            assert_eq!(events.by_id(id).unwrap().id(), id);
        }
        assert!(events.by_id("1000").is_none());
        assert_eq!(events.of_kind("ACPToolCallEvent").count(), 100);
        assert_eq!(events.of_kind("New").next_back().unwrap().id(), "999");
        assert_eq!(
            events.slice(..4).by_id("6").unwrap().id(),
            "6",
            "as it is shown"
        );
        assert!(events.slice(..4).by_id("7").is_none());
    }

    #[test]
    fn a_bounded_list_begins_with_the_oldest_kept_event() {
        let events = list(1000, Some(100));
        let shown = ids(&events);
        assert_eq!(shown, expected(1000)[900 - shown.len()..]);
        assert!((100..150).contains(&shown.len()), "{}", shown.len());
        assert_eq!(events[0].id(), shown[0].to_string());
        assert_eq!(events.at(-1).unwrap().id(), "999");
        assert!(events.by_id("0").is_none());
    }

    #[test]
    fn an_empty_list_has_no_events() {
        let events = Events::default();
        assert!(events.is_empty() && events.first().is_none() && events.at(-1).is_none());
        assert_eq!(
            (
                events.last(3).len(),
                events.slice(..).len(),
                events.iter().count()
            ),
            (0, 0, 0)
        );
    }
}
