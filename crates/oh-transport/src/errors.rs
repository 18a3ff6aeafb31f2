//! Shared parts of the error types of the crates that send requests. Hidden: only crates of this
//! project use them.

/// Implements the methods of every error type, and its `source()`, for a crate whose operations
/// send requests. The `ErrorKind` in scope has the kinds of a failed request.
///
/// ```text
/// requests!(Error, error => the source of error; timeout: MoreKinds; transient: MoreKinds);
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! requests {
    (
        $type:ident, $error:ident => $source:expr;
        timeout: $($timeout:ident)*; transient: $($transient:ident)*
    ) => {
        impl $type {
            /// Returns whether a time limit expired.
            pub fn is_timeout(&self) -> bool {
                let by_transport = self
                    .transport_error()
                    .is_some_and($crate::Error::is_timeout);
                by_transport
                    || matches!(self.kind(), ErrorKind::Timeout $(| ErrorKind::$timeout)*)
            }

            /// Returns whether the same operation may succeed later without a change: the
            /// connection failed, a time limit expired, or the server is overloaded or failed (429,
            /// 5xx other than 501 and 505). Does not mean that repeating the operation is safe.
            pub fn is_transient(&self) -> bool {
                let passing = matches!(
                    self.kind(),
                    ErrorKind::Connect
                        | ErrorKind::Interrupted
                        | ErrorKind::Timeout
                        | ErrorKind::RateLimited
                        | ErrorKind::Server
                        $(| ErrorKind::$transient)*
                );
                passing
                    && self
                        .transport_error()
                        .is_none_or($crate::Error::is_transient)
            }

            /// Returns whether the server rejected the session key.
            pub fn is_auth(&self) -> bool {
                self.kind() == ErrorKind::Unauthorized
            }

            /// Returns the HTTP status, if a response of the server is the cause.
            pub fn status(&self) -> Option<::http::StatusCode> {
                self.transport_error()?.status()
            }

            /// Returns the transport error, if a failed request is the cause: status, path, and the
            /// server's detail.
            pub fn transport_error(&self) -> Option<&$crate::Error> {
                let $error = self;
                let source = $source?;
                match source.downcast_ref::<Self>() {
                    Some(inner) => inner.transport_error(),
                    None => source.downcast_ref(),
                }
            }
        }

        ::oh_protocol::error_source!($type, $error => $source);
    };
}

/// Tests that the error of a failed request keeps the kind of the transport error and gives the
/// same answers: `request_tests!(wire => the error; MoreKinds)`.
#[doc(hidden)]
#[macro_export]
macro_rules! request_tests {
    ($wire:ident => $error:expr; $($more:ident)*) => {
        $crate::request_tests!(@ $wire => $error; Connect Proxy Tls Timeout Interrupted Unauthorized
            Forbidden Conflict Validation RateLimited Status Server Decode NotAnAgentServer
            Unsupported InvalidInput $($more)*);
    };
    (@ $wire:ident => $error:expr; $($name:ident)*) => {
        mod request_tests {
            use super::*;

            #[test]
            fn the_failure_of_a_request_keeps_its_kind() {
                $({
                    let $wire = $crate::Error::new($crate::ErrorKind::$name, "failed");
                    let kind = stringify!($name);
                    let questions = ($wire.is_timeout(), $wire.is_transient(), $wire.is_auth());
                    let error = $error;
                    assert_eq!(format!("{:?}", error.kind()), kind);
                    let answers = (error.is_timeout(), error.is_transient(), error.is_auth());
                    assert_eq!(answers, questions, "{kind}");
                })*
            }

            #[test]
            fn the_status_of_a_rejection_is_kept() {
                for (status, transient, auth) in [
                    (401, false, true),
                    (403, false, false),
                    (501, false, false),
                    (503, true, false),
                ] {
                    let status = ::http::StatusCode::from_u16(status).unwrap();
                    let $wire = $crate::Error::from_status(status);
                    let error = $error;
                    assert_eq!(error.status(), Some(status));
                    assert_eq!((error.is_transient(), error.is_auth()), (transient, auth));
                }
            }
        }
    };
}

/// Maps the kind of a transport error to the kind of the same name of the `ErrorKind` in scope:
/// `same_kind!(kind; MoreKinds)`. Kinds that are not named become `Status`.
#[doc(hidden)]
#[macro_export]
macro_rules! same_kind {
    ($kind:expr; $($more:ident)*) => {
        $crate::same_kind!(@ $kind; Connect Proxy Tls Timeout Interrupted Unauthorized Forbidden
            Conflict Validation RateLimited Server Decode NotAnAgentServer Unsupported InvalidInput
            $($more)*)
    };
    (@ $kind:expr; $($name:ident)*) => {
        match $kind {
            $($crate::ErrorKind::$name => ErrorKind::$name,)*
            $crate::ErrorKind::SocketClosed => ErrorKind::Interrupted,
            _ => ErrorKind::Status,
        }
    };
}
