//! The position at which a reader starts.

/// The position at which a reader starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cursor {
    /// At the first event of the conversation.
    #[default]
    Start,
    /// After the newest event when the reader starts. On a live link this is the newest event that
    /// has arrived; otherwise the server is asked for its newest event.
    Now,
    /// After the event with this `seq`: its position in the server's log, counted from 0. The event
    /// may still be in the future. Events that the server cannot read have a position too.
    ///
    /// Only the session socket reports these numbers. On servers before 1.47, and while the link is
    /// [`Polling`](crate::LinkStatus::Polling) because sockets are refused, a `seq` is the number
    /// of readable events before the event. The two differ only if the server cannot read an event
    /// of the log. A cursor of one kind then means another event to a reader with the other kind:
    /// while sockets are refused, such a reader waits up to a minute for a socket, and then starts
    /// early enough to skip nothing, so that it may get events again. On a server before 1.47, a
    /// stored cursor also changes its meaning if an earlier event becomes unreadable.
    After(u64),
}

impl Cursor {
    /// Returns a cursor after the event with this `seq`; −1 means before the first event.
    pub(crate) fn after(seq: i64) -> Self {
        u64::try_from(seq).map_or(Self::Start, Self::After)
    }
}
