//! Conversations on the real server.

mod approvals;
mod copies;
mod crowd;
mod ends;
mod invariant;
mod limits;
mod links;
mod live;
mod odd;
mod older;
mod policies;
mod requests;
mod restarts;
mod stage;
mod steps;
mod unclear;
