//! What texts are pieces of. Knows no JSON.

use bytestring::ByteString;

use crate::scan::Span;

/// Something that texts share.
#[derive(Debug)]
pub(crate) enum Whole {
    /// The bytes of an event.
    Came(ByteString),
    /// What escapes say, or what the program made.
    Own(Box<str>),
}

impl Whole {
    /// All of it.
    pub(crate) fn all(&self) -> &str {
        match self {
            Self::Came(came) => came,
            Self::Own(own) => own,
        }
    }

    /// A piece of it.
    #[inline]
    pub(crate) fn piece(&self, span: Span) -> &str {
        match self {
            Self::Came(came) => span.of(came),
            Self::Own(own) => span.of(own),
        }
    }
}
