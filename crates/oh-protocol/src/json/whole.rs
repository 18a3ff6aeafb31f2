//! The shared bytes of texts.

use bytestring::ByteString;

use super::scan::Span;

/// A text that other texts share.
#[derive(Debug)]
pub(crate) enum Whole {
    /// The original bytes of an event.
    Came(ByteString),
    /// Decoded escapes, or a text created by the program.
    Own(Box<str>),
}

impl Whole {
    /// Returns the whole text.
    pub(crate) fn all(&self) -> &str {
        match self {
            Self::Came(came) => came,
            Self::Own(own) => own,
        }
    }

    /// Returns a part of the text.
    #[inline]
    pub(crate) fn piece(&self, span: Span) -> &str {
        match self {
            Self::Came(came) => span.of(came),
            Self::Own(own) => span.of(own),
        }
    }
}
