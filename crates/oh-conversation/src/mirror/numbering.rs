//! The `seq`s of events that REST has delivered.
//!
//! REST does not say which `seq` the server gave an event. The client counts, and is right unless
//! the log has events that the server cannot read: it numbers these, and omits them. The session
//! socket reports the `seq`s, so that a replay corrects them.

use std::ops::Range;

use oh_protocol::Event;

use super::held::{Counted, Held, Link};

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
}

impl Held {
    /// Returns the last event, if the server's event at the cursor must be this one.
    pub(crate) fn anchor(&self) -> Option<&Event> {
        let last = self.log.end().checked_sub(1)?;
        let exact = self.exact && self.log.seq(last) == self.cursor;
        self.log.get(last).filter(|_| exact)
    }

    /// Notes that the next event is numbered by counting. On a live link the number before is the
    /// server's, and only this event may be missing from the socket.
    pub(crate) fn counts(&mut self) {
        self.exact = false;
        if self.link != Link::Live && !self.refused {
            self.counted.get_or_insert(Counted {
                after: self.cursor,
                differs: false,
            });
        }
    }

    /// Corrects the `seq` of a counted event that a socket delivers. `replayed`: the indexes of the
    /// held events that the socket has delivered again. `again`: whether REST has delivered the
    /// event.
    pub(crate) fn number(
        &mut self,
        replayed: &mut Range<usize>,
        seq: i64,
        id: &str,
        again: bool,
    ) -> Numbered {
        let Some(counted) = &mut self.counted else {
            return Numbered::New;
        };
        let log = &mut self.log;
        let next = replayed.end;
        let near = replayed.start.max(next.saturating_sub(NEAR))..next.saturating_add(NEAR);
        let mut places = std::iter::once(next).chain(near);
        let held = places.find(|at| log.get(*at).is_some_and(|event| event.id() == id));
        if let Some(at) = held.filter(|_| !id.is_empty()) {
            let follows = at == log.after(counted.after);
            if log.seq(at) != seq {
                log.renumber(at, seq);
                self.cursor = self.cursor.max(log.seq(log.end().saturating_sub(1)));
            }
            if follows {
                // Another connection goes on here.
                counted.after = seq;
            }
            replayed.end = next.max(at + 1);
            return Numbered::Held;
        }
        // The events before this one decide from which on the server numbers differently.
        if again && seq > self.cursor && !counted.differs {
            counted.differs = true;
            return Numbered::Differently;
        }
        Numbered::New
    }
}
