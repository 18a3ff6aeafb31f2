//! OpenHands Cloud: its API, and servers in its sandboxes.

pub(crate) mod account;
pub(crate) mod api;
pub(crate) mod builder;
pub(crate) mod inside;
pub(crate) mod login;
pub(crate) mod lookups;
pub(crate) mod options;
pub(crate) mod place;
pub(crate) mod sandboxes;
pub(crate) mod server;
pub(crate) mod tokens;
