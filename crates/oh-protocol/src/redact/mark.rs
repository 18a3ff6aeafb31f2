//! The mark of redacted text.

/// The mark that replaces hidden text.
pub const HIDDEN: &str = "<redacted>";
