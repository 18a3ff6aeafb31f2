//! Finding the head of the log: from the mirror or, if another program may have moved it, from the
//! server.

use oh_protocol::calls::conversations::Get;

use crate::{
    Conversation, Result,
    mirror::{
        head::{Head, Position, moves},
        held::Held,
    },
};

/// Maximum number of requests for the head while events arrive.
const TRIES: usize = 3;

impl Conversation {
    /// Returns the head, and whether the server has reported it. Otherwise it is assumed that the
    /// log has no branches.
    pub(crate) fn known_head(&self) -> (Head, bool) {
        head(&self.mirror().read(), self.asked_head().get())
    }

    /// Reports that this handle has moved the head.
    pub(crate) fn navigated(&self, head: Head) {
        let events = self.mirror().read().log.end();
        self.asked_head().set(Position { events, head });
        self.mirror().answered.wait();
    }

    /// Asks the server for the head (`GET /api/conversations/{id}`): it does not announce
    /// navigation by another program.
    pub(crate) async fn look_at_head(&self) -> Result<()> {
        for _ in 0..TRIES {
            let before = self.asked_head().get();
            let events = self.mirror().read().log.end();
            let info = self.insist("read the head", &Get::new(self.id())).await?;
            let head = Head::reported(info.state());
            let read = Position { events, head };
            let settled = self.mirror().read().log.end() == events;
            if self.asked_head().replace(&before, read) && settled {
                break;
            }
        }
        Ok(())
    }
}

/// Returns the head. On the server every event except state changes moves the head, as does
/// navigation.
fn head(held: &Held, asked: Option<Position>) -> (Head, bool) {
    let reported = held.snapshot.as_ref().map(|snapshot| Position {
        events: snapshot.events,
        head: Head::reported(&held.state),
    });
    let known = match (reported, asked) {
        (Some(reported), Some(asked)) if reported.events > asked.events => Some(reported),
        (reported, None) => reported,
        (_, asked) => asked,
    };
    let Some(known) = known else {
        return (Head::Last, false);
    };
    let mut since = held.log.range(known.events..held.log.end()).rev();
    match since.find(|event| moves(event)) {
        Some(event) => (Head::Event(event.id().to_owned()), true),
        None => (known.head, true),
    }
}
