//! Compares the fake server with the real one: the same requests and the same script must produce
//! the same responses.
//!
//! Each scenario records its observations, without values that always differ (ids, times, texts of
//! explanations). The records of both sides must be equal.

mod admin;
mod agents;
pub(crate) mod agree;
mod approvals;
mod branches;
mod browser;
mod changes;
mod closed;
mod disk;
mod every;
mod frames;
mod held;
mod lifecycle;
mod page;
mod places;
mod raw;
mod runs;
mod scenarios;
mod served;
mod side;
