//! Tests of all writers with recorded and hostile events.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod events;
#[cfg(feature = "conversation")]
mod follow;
mod hostile;
mod live;
mod options;
mod screen;
mod snapshots;
