//! Requests that run while a socket is read, and the effects of their responses.

use oh_protocol::calls::conversations::Get;
use oh_transport::ErrorKind as Wire;
use tracing::warn;

use super::{
    Connection, Done, Phase, Watcher,
    reading::{Flavor, Reading},
    rest::{Fault, Fetched, is_missing},
};
use crate::{LinkStatus, link::restore};

/// Number of requests without success after which the events of a gap count as unreadable.
const FILLS: u32 = 2;

/// The maximum number of events remembered as fetched with REST.
const REMEMBERED: usize = 10_000;

impl Watcher {
    /// Follows up on the first snapshot of a subscription: sets again what the server loses when it
    /// loads a conversation, and requests fields that no snapshot has.
    pub(super) fn subscribed(&mut self) {
        let mirror = self.writer.mirror().clone();
        let (first, again) = {
            let held = mirror.read();
            let first = held.snapshot.as_ref().is_some_and(|last| last.first);
            (first, held.connection > 1)
        };
        if !first {
            return;
        }
        // On the server these may wait for a running tool; frames must not wait.
        if !restore::is_settled(&mirror) {
            let client = self.client.clone();
            self.errands.spawn(async move {
                if let Err(error) = restore::restore(&client, &mirror).await {
                    // The next run tries again first.
                    warn!(
                        conversation = %mirror.id,
                        %error,
                        "cannot restore the confirmation policy; the next run tries again"
                    );
                }
                Done::Restored
            });
        }
        // A check of an idle link brings nothing new.
        let news = self.rest_until_check == self.limits.silence;
        if again && news {
            let (client, id) = (self.client.clone(), self.id);
            self.errands.spawn(async move {
                let described = client.call(&Get::new(id)).await.ok();
                Done::Described(described.map(|info| info.state().clone()))
            });
        }
    }

    /// Fetches events that the socket does not deliver, now or after the fetch in progress.
    pub(super) fn ring(&mut self, reading: &mut Reading) {
        reading.bell = self.fetching;
        self.fetch_beside();
    }

    /// Fetches the events after the last one held.
    pub(super) fn fetch_beside(&mut self) {
        if std::mem::replace(&mut self.fetching, true) {
            return;
        }
        let (rest, few) = (self.rest(), self.few);
        self.errands
            .spawn(async move { Done::Fetched(rest.after_last(few).await) });
    }

    /// Requests the newest event, to check whether a silent link still delivers.
    pub(super) fn ask_newest(&mut self) {
        if std::mem::replace(&mut self.checking, true) {
            return;
        }
        let rest = self.rest();
        self.errands
            .spawn(async move { Done::Newest(rest.newest().await) });
    }

    /// Opens a socket to replace a silent one.
    pub(super) fn dial_beside(&mut self) {
        if std::mem::replace(&mut self.dialling, true) {
            return;
        }
        let client = self.client.clone();
        let (target, expected) = self.target();
        self.errands
            .spawn(async move { Done::Dialled(client.socket(&target).await, expected) });
    }

    /// Applies the result of an errand. Returns the next phase if the connection is over.
    pub(super) fn done(&mut self, done: Done, connection: &mut Connection) -> Option<Phase> {
        match done {
            Done::Restored | Done::Described(None) => None,
            Done::Described(Some(description)) => {
                self.writer.change(|held| held.described(&description));
                None
            }
            Done::Fetched(fetched) => {
                self.fetching = false;
                self.fetched(fetched, connection)
            }
            Done::Newest(newest) => {
                self.checking = false;
                match newest {
                    Err(error) if is_missing(&error) => Some(Phase::Broken(error)),
                    // A server that is busy with a tool or a hook responds late; pings decide about
                    // the link.
                    Err(_) | Ok(None) => None,
                    Ok(Some(id)) => {
                        if !self.writer.mirror().read().holds(&id) {
                            connection.reading.nudged = true;
                            self.fetch_beside();
                        }
                        None
                    }
                }
            }
            Done::Dialled(dialled, expected) => {
                self.dialling = false;
                match dialled {
                    Ok(socket) => {
                        let reading = Reading::expecting(connection.reading.flavor, expected);
                        let check = connection.check;
                        *connection = self.connection(socket, reading);
                        connection.check = check;
                        self.writer.change(crate::mirror::held::Held::reconnected);
                    }
                    Err(error) if error.kind() == Wire::Unauthorized => {
                        return Some(Phase::Broken(error));
                    }
                    // The old socket may still work; REST shows more.
                    Err(_) => self.ask_newest(),
                }
                None
            }
        }
    }

    fn fetched(
        &mut self,
        fetched: Result<Fetched, Fault>,
        connection: &mut Connection,
    ) -> Option<Phase> {
        let reading = &mut connection.reading;
        let legacy = reading.flavor == Flavor::Legacy;
        let fetched = match fetched {
            Ok(fetched) => {
                self.went_well();
                fetched
            }
            Err(Fault::Other) => return Some(Phase::Verify),
            Err(Fault::Wire(error)) if self.ask_for_fewer(&error) => {
                self.fetch_beside();
                return None;
            }
            // The legacy socket only signals changes; without REST no events arrive.
            Err(Fault::Wire(error)) if legacy || is_missing(&error) => {
                return Some(Phase::Broken(error));
            }
            // Any caller that misses an event requests it again.
            Err(Fault::Wire(_)) => return None,
        };
        let more = fetched.more;
        let (asked, length) = (fetched.length.is_some(), fetched.length);
        let taken = self.take_fetched(fetched, legacy);
        let mut waits = false;
        let (mut live, mut renumber) = (false, false);
        self.writer.change(|held| {
            if let Some((&first, _)) = held.early.first_key_value()
                && !more
            {
                reading.fills += 1;
                if reading.fills >= FILLS {
                    // Not in the log either: these events cannot be read.
                    held.skip_hole(first - 1);
                }
            }
            waits = !held.early.is_empty();
            if let Some(through) = reading.through
                && held.cursor >= through
                && held.link == LinkStatus::Replaying
            {
                held.live();
                held.has_length(through.unsigned_abs().saturating_add(1));
            }
            if let Some(length) = length {
                held.has_length(length);
            }
            live = held.link == LinkStatus::Live;
            // Only another replay shows the numbers of these events.
            let counted = held.counted.filter(|_| !held.unnumbered);
            renumber = counted.is_some_and(|counted| match counted.differs {
                true => reading.over,
                false => live && asked && !waits,
            });
        });
        if renumber {
            return Some(Phase::Dial);
        }
        if !waits {
            (reading.gap, reading.fills) = (None, 0);
        }
        if more || std::mem::take(&mut reading.bell) {
            self.fetch_beside();
        } else if legacy {
            if let Some(snapshot) = reading.snapshot.take() {
                (self.missing, self.leased) = (None, None);
                self.writer.change(|held| held.transient(&snapshot));
                self.tell_live();
                self.subscribed();
            }
        } else if std::mem::take(&mut reading.nudged) && taken > 0 && live {
            // The socket should have delivered these events: it is stuck, or very slow.
            self.dial_beside();
        }
        None
    }

    /// Adds fetched events to the mirror. Returns how many were new.
    pub(super) fn take_fetched(&mut self, fetched: Fetched, replayed: bool) -> usize {
        let Fetched {
            from,
            events,
            tally,
            length,
            ..
        } = fetched;
        if events.is_empty() && length.is_none() {
            return 0;
        }
        let (first, taken) = self.writer.change(|held| {
            let first = held.cursor + 1;
            let taken = match tally {
                Some(tally) => held.window(events, tally, replayed),
                None => held.read(from, events, replayed),
            };
            if let Some(length) = length {
                held.has_length(length);
            }
            (first, taken)
        });
        // These events may arrive again by the session socket, under another `seq`.
        if self.fetched.len() > REMEMBERED {
            self.fetched.clear();
        }
        let ids = taken.iter().map(|event| event.id().into());
        self.fetched.extend(ids);
        if self.flavor == Flavor::Legacy {
            self.fetched.clear();
        }
        for (seq, event) in (first..).zip(&taken) {
            self.tokens.durable(seq, event, true);
        }
        taken.len()
    }
}
