//! Many servers for many conversations: bounded, warm, replaced when they fail, and drained.

pub(crate) mod attached;
pub(crate) mod builder;
pub(crate) mod failure;
pub(crate) mod handle;
pub(crate) mod lease;
pub(crate) mod observe;
pub(crate) mod provider;
mod providers;
mod rooms;
mod settings;
pub(crate) mod stats;
mod store;
