//! When a read that keeps failing is given up.

use http::StatusCode;
use oh_transport::{Error, ErrorKind as Wire};

/// How often a read may fail in a way that another request rarely changes, such as a response that
/// cannot be decoded. The client has repeated an internal error of the server before it counts.
const REFUSED: u32 = 3;

/// Counts the failures of one read.
#[derive(Debug, Default)]
pub(crate) struct Attempts(u32);

impl Attempts {
    /// Counts a failure, and returns whether the read is given up. A server that is unreachable or
    /// overloaded is waited for, and the link finds out about a 404: both never end a read here.
    pub(crate) fn give_up(&mut self, error: &Error) -> bool {
        let internal = error.status() == Some(StatusCode::INTERNAL_SERVER_ERROR);
        let missing = error.status() == Some(StatusCode::NOT_FOUND);
        match error.kind() {
            Wire::Unauthorized | Wire::InvalidInput | Wire::Validation | Wire::Status => {
                return true;
            }
            Wire::NotFound | Wire::SocketClosed => return false,
            // A gateway's, while the server restarts.
            Wire::NotAnAgentServer if missing => return false,
            _ if error.is_transient() && !internal => return false,
            _ => self.0 += 1,
        }
        self.0 >= REFUSED
    }
}
