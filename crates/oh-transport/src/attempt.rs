//! The description of an attempt, for observers.

use std::time::Duration;

use http::StatusCode;
use oh_protocol::Operation;

use crate::ErrorKind;

/// An attempt of a call, as passed to [`on_attempt`](crate::ClientBuilder::on_attempt).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// The operation: method and route, without values.
    pub operation: &'a Operation,
    /// The number of the attempt, starting at 1.
    pub number: u32,
    /// The time from sending the request to receiving the whole response.
    pub elapsed: Duration,
    /// The response status. `None` if there was no response.
    pub status: Option<StatusCode>,
    /// The kind of error. `None` if the attempt succeeded.
    pub failure: Option<ErrorKind>,
    /// The delay before the next attempt. `None` if there is no further attempt.
    pub retry_in: Option<Duration>,
}
