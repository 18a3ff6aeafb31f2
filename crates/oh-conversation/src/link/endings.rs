//! Classifies the end of a connection: the only code that decides which errors are fatal. Contains
//! no I/O.

use oh_transport::{Error, ErrorKind};

/// The action to take after a connection has ended or could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Reconnect after a delay.
    Retry,
    /// An event is larger than the server's frame limit: fetch it with REST, then reconnect.
    TooLarge,
    /// A frame could not be decoded. Reconnect; if that happens again, use REST.
    Unreadable,
    /// The conversation may be gone or leased by a dying server, or the endpoint may not exist.
    /// Check with REST.
    Ask,
    /// The key is wrong.
    Unauthorized,
}

pub(crate) fn classify(error: &Error) -> Ending {
    match error.kind() {
        ErrorKind::Unauthorized => Ending::Unauthorized,
        ErrorKind::NotFound | ErrorKind::Forbidden => Ending::Ask,
        // The peer's message limit: the event is in the log, so REST has it.
        ErrorKind::SocketClosed if error.close_code() == Some(1009) => Ending::TooLarge,
        ErrorKind::SocketClosed if error.close_reason() == Some("frame_too_large") => {
            Ending::TooLarge
        }
        ErrorKind::Decode => Ending::Unreadable,
        _ => Ending::Retry,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn pitfall_06_every_clean_close_is_retried_after_a_delay() {
        for code in [1000, 1001, 1005, 1006, 1011, 1012, 1013] {
            assert_eq!(classify(&Error::closed(code, "")), Ending::Retry, "{code}");
        }
        let slow = Error::closed(1013, "slow_consumer");
        assert_eq!(classify(&slow), Ending::Retry);
    }

    #[test]
    fn pitfall_04_a_too_large_frame_has_its_own_ending() {
        let large = Error::closed(1013, "frame_too_large");
        assert_eq!(classify(&large), Ending::TooLarge);
        assert_eq!(classify(&Error::closed(1009, "")), Ending::TooLarge);
    }

    #[test]
    fn pitfall_08_a_wrong_key_is_fatal_and_a_missing_conversation_is_checked() {
        assert_eq!(classify(&Error::closed(4001, "")), Ending::Unauthorized);
        let unauthorized = Error::from_status(StatusCode::UNAUTHORIZED);
        assert_eq!(classify(&unauthorized), Ending::Unauthorized);
        for error in [
            Error::closed(4004, ""),
            Error::from_status(StatusCode::NOT_FOUND),
            Error::from_status(StatusCode::FORBIDDEN),
        ] {
            assert_eq!(classify(&error), Ending::Ask);
        }
    }

    #[test]
    fn failures_of_the_network_and_the_server_are_retried() {
        for kind in [
            ErrorKind::Connect,
            ErrorKind::Timeout,
            ErrorKind::Interrupted,
            ErrorKind::Handshake,
            ErrorKind::Server,
        ] {
            assert_eq!(classify(&Error::new(kind, "")), Ending::Retry, "{kind:?}");
        }
    }
}
