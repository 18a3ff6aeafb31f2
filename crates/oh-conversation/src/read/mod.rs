//! Reading the mirror: streams of events and of the newest values, and callbacks.

pub(crate) mod attempts;
pub(crate) mod callback;
pub(crate) mod completions;
pub(crate) mod cursor;
pub(crate) mod failures;
pub(crate) mod latest;
pub(crate) mod pager;
pub(crate) mod stream;
