//! The wire: frames of sockets, requests and responses, and the known routes.

pub(crate) mod frames;
pub(super) mod known;
pub(crate) mod reply;
