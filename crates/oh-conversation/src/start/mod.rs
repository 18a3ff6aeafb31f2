//! Starting a conversation, and attaching to one.

pub(crate) mod builder;

pub(crate) mod attach;
pub(crate) mod automation;
pub(crate) mod children;
mod follow;
pub(crate) mod fork;
pub(crate) mod options;
