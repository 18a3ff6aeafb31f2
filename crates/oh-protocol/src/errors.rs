//! Shared parts of the error types of all crates. Hidden: only crates of this project use them.

/// Implements the methods of every error type, and its `source()`, for a crate that sends no
/// requests: `no_requests!(Error, error => the source of error)`.
#[doc(hidden)]
#[macro_export]
macro_rules! no_requests {
    ($type:ident, $error:ident => $source:expr) => {
        impl $type {
            /// Returns false: no operation of this crate fails because of a time limit. Every error
            /// type of this project has this method.
            pub fn is_timeout(&self) -> bool {
                false
            }

            /// Returns false: the same input fails again. Every error type of this project has this
            /// method.
            pub fn is_transient(&self) -> bool {
                false
            }

            /// Returns false: this crate sends no requests. Every error type of this project has
            /// this method.
            pub fn is_auth(&self) -> bool {
                false
            }

            /// Returns `None`: this crate sends no requests. Every error type of this project has
            /// this method.
            pub fn status(&self) -> Option<::http::StatusCode> {
                None
            }
        }

        $crate::error_source!($type, $error => $source);
    };
}

/// Implements `std::error::Error` and `Debug`: `error_source!(Error, error => the source of
/// error)`.
///
/// `main` and `unwrap` print the `Debug` form, so it is the message after the kind. `{:#?}` is a
/// struct that also has the source.
#[doc(hidden)]
#[macro_export]
macro_rules! error_source {
    ($type:ident, $error:ident => $source:expr) => {
        impl ::std::error::Error for $type {
            fn source(&self) -> Option<&(dyn ::std::error::Error + 'static)> {
                let $error = self;
                $source.map(|source| source as _)
            }
        }

        impl ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                if !f.alternate() {
                    return write!(f, "{:?}: {self}", self.kind());
                }
                f.debug_struct("Error")
                    .field("kind", &self.kind())
                    .field("message", &::std::format_args!("{self}"))
                    .field("source", &::std::error::Error::source(self))
                    .finish()
            }
        }
    };
}

/// Returns whether a file operation failed because no space, or no quota, is left.
#[doc(hidden)]
pub fn is_out_of_space(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
