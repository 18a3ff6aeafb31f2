//! The `seq`s of events that REST has delivered.
//!
//! REST does not say which `seq` the server gave an event. The client counts, and is right unless
//! the log has events that the server cannot read: it numbers these, and omits them. The session
//! socket reports the `seq`s, so that a replay corrects them.

use oh_protocol::Event;

use crate::mirror::Held;

/// Events whose `seq` was counted, and that no socket has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The `seq` before the first of them.
    pub(crate) after: i64,
    /// Whether the server numbers one of them differently.
    pub(crate) differs: bool,
}

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

    /// Notes that the next event is numbered by counting.
    pub(crate) fn counts(&mut self) {
        self.exact = false;
        self.counted.get_or_insert(Counted {
            after: self.cursor,
            differs: false,
        });
    }

    /// Corrects the `seq` of a counted event that a socket delivers. `next`: the index of the next
    /// held event that the socket delivers again. `again`: whether REST has delivered the event.
    pub(crate) fn number(&mut self, next: &mut usize, seq: i64, id: &str, again: bool) -> Numbered {
        let Some(counted) = &mut self.counted else {
            return Numbered::New;
        };
        let log = &mut self.log;
        if !id.is_empty() && log.get(*next).is_some_and(|event| event.id() == id) {
            if log.seq(*next) != seq {
                log.renumber(*next, seq);
                self.cursor = self.cursor.max(log.seq(log.end().saturating_sub(1)));
            }
            *next += 1;
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
