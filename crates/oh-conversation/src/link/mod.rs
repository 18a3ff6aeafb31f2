//! The link to the server: one socket, which keeps a mirror up to date.

mod endings;
pub(crate) mod restore;
pub(crate) mod shared;
pub(crate) mod tokens;
mod watcher;
