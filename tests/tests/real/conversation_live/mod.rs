//! Conversations on the real server.

mod approvals;
mod copies;
mod crowd;
mod ends;
mod invariant;
mod limits;
mod links;
pub(crate) mod live;
mod odd;
mod older;
mod policies;
mod requests;
mod restarts;
pub(crate) mod stage;
mod steps;
mod unclear;
