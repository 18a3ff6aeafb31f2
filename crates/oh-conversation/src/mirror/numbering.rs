//! The `seq`s of events that REST has delivered.
//!
//! REST does not say which `seq` the server gave an event. The client counts the events that the
//! server can read. Its numbers are too low if the log has events that the server cannot read: it
//! numbers these, and omits them. Two things confirm a number: the session socket delivers the
//! event again with its `seq`, or the length of the server's log equals the count. Readers get an
//! event only after its number is confirmed, unless no socket reports numbers.

use std::ops::Range;

use oh_protocol::{
    ConversationId, Event,
    calls::events::{Count, EventFilter},
};

use super::held::{Counted, Held};

/// How far from its place a server may send an event of a replay.
const NEAR: usize = 8;

/// The number of an event that a socket delivers, compared with the one held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Numbered {
    /// The event is not known to be held.
    New,
    /// The event is held under this `seq` now.
    Held,
    /// The event is held under another `seq`. The events before it are needed again.
    Differently,
    /// The event is older than the window held.
    Older,
}

/// Returns a call that counts the events that the server can read. A count without a filter
/// includes the others.
pub(crate) fn readable(id: ConversationId) -> Count {
    let mut all = EventFilter::default();
    all.since = Some("1970-01-02T00:00:00".into());
    Count::new(id).filter(all)
}

/// How the newest events of a log were counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally {
    /// The length of the log, which includes events that the server cannot read, before the events
    /// were fetched.
    pub(crate) length: u64,
    /// The number of events that the server can read.
    pub(crate) readable: u64,
    /// Whether the length did not change meanwhile.
    pub(crate) steady: bool,
}

impl Held {
    /// Returns the last event, if the server's event at the cursor must be this one.
    pub(crate) fn anchor(&self) -> Option<&Event> {
        let last = self.log.end().checked_sub(1)?;
        let exact = self.exact && self.log.seq(last) == self.cursor;
        self.log.get(last).filter(|_| exact)
    }

    /// Returns the index up to which the `seq`s are the server's, or the best ones there are.
    pub(crate) fn confirmed(&self) -> usize {
        let end = self.log.end();
        let counted = self.counted.filter(|_| !self.unnumbered);
        counted.map_or(end, |counted| counted.from.min(end))
    }

    /// Notes that the next event is numbered by counting.
    pub(crate) fn counts(&mut self) {
        self.exact = false;
        self.counted.get_or_insert(Counted {
            after: self.cursor,
            from: self.log.end(),
            differs: false,
            length: 0,
        });
    }

    /// Confirms all `seq`s.
    pub(crate) fn confirm(&mut self) {
        self.counted = None;
        let last = self.log.end().checked_sub(1);
        self.exact = last.is_some_and(|last| self.log.seq(last) == self.cursor);
    }

    /// Confirms the `seq`s if the server's log is as long as the count.
    pub(crate) fn has_length(&mut self, length: u64) {
        let whole = i64::try_from(length).is_ok_and(|length| length == self.cursor + 1);
        if whole && self.counted.is_some_and(|counted| !counted.differs) && self.early.is_empty() {
            self.confirm();
        }
    }

    /// Fills an empty window with the newest events of the log. Returns the events added.
    pub(crate) fn window(
        &mut self,
        events: Vec<Event>,
        tally: Tally,
        replayed: bool,
    ) -> Vec<Event> {
        if !self.log.is_empty() {
            // A socket was faster.
            return Vec::new();
        }
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let first = signed(tally.readable).saturating_sub(count).max(0);
        let reached = self.cursor;
        self.cursor = first - 1;
        for event in &events {
            self.durable(self.cursor + 1, event.clone(), replayed);
        }
        self.cursor = self.cursor.max(reached);
        self.counted = Some(Counted {
            after: first - 1,
            from: self.log.begin(),
            differs: true,
            length: signed(tally.length),
        });
        self.exact = false;
        if tally.steady && tally.readable == tally.length {
            self.confirm();
        }
        events
    }

    /// Returns whether the count is right if it ends where the server's log ends.
    pub(crate) fn is_proven(&self) -> bool {
        self.counted.is_none_or(|counted| !counted.differs)
    }

    /// Returns whether a socket that was opened after this `seq` delivers all events whose numbers
    /// it has to correct.
    pub(crate) fn is_covered(&self, after: i64) -> bool {
        let counted = self.counted.filter(|counted| counted.differs);
        counted.is_none_or(|counted| after <= counted.after)
    }

    /// Corrects the `seq` of a counted event that a socket delivers. `replayed`: the indexes of the
    /// held events that the socket has delivered again. `again`: whether REST has delivered the
    /// event. `covered`: whether the socket delivers all counted events.
    pub(crate) fn number(
        &mut self,
        replayed: &mut Range<usize>,
        seq: i64,
        id: &str,
        again: bool,
        covered: bool,
    ) -> Numbered {
        let Some(counted) = &mut self.counted else {
            return Numbered::New;
        };
        let log = &mut self.log;
        let next = replayed.end;
        let near = replayed.start.max(next.saturating_sub(NEAR))..next.saturating_add(NEAR);
        let counts = match again || counted.differs {
            true => counted.from..log.end(),
            false => 0..0,
        };
        let mut places = std::iter::once(next).chain(near).chain(counts);
        let held = places.find(|at| log.get(*at).is_some_and(|event| event.id() == id));
        let Some(at) = held.filter(|_| !id.is_empty()) else {
            if counted.differs && seq < counted.length {
                return Numbered::Older;
            }
            // The events before this one decide from which on the server numbers differently.
            if again && seq > self.cursor && !counted.differs {
                counted.differs = true;
                return Numbered::Differently;
            }
            if seq == self.cursor + 1 && !counted.differs {
                // No number was left for an event that the server cannot read.
                self.confirm();
            }
            return Numbered::New;
        };
        let same = log.seq(at) == seq;
        if at > counted.from && !same && !counted.differs {
            counted.differs = true;
            return Numbered::Differently;
        }
        if !same {
            log.renumber(at, seq);
            self.cursor = self.cursor.max(log.seq(log.end().saturating_sub(1)));
        }
        if at >= counted.from && covered {
            // Another connection goes on here.
            (counted.after, counted.from) = (seq, at + 1);
            if counted.from == log.end() {
                self.counted = None;
            }
        }
        replayed.end = next.max(at + 1);
        Numbered::Held
    }
}
