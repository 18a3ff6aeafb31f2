//! The position at which a reader starts.

/// The position at which a reader starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cursor {
    /// At the first event of the conversation.
    #[default]
    Start,
    /// After the newest event when the reader starts. On a live link this is the newest event that has
    /// arrived; otherwise the server is asked for its newest event.
    Now,
    /// After the event with this `seq`: its position in the server's log, counted from 0. The event
    /// may still be in the future. Events that the server cannot decode have a position too, except
    /// on servers before 1.47, which do not report `seq`: on those, only decodable events are
    /// counted.
    After(u64),
}

impl Cursor {
    /// Returns a cursor after the event with this `seq`; −1 means before the first event.
    pub(crate) fn after(seq: i64) -> Self {
        u64::try_from(seq).map_or(Self::Start, Self::After)
    }
}
