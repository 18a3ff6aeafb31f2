//! The server's operations as typed [`Call`](crate::Call)s, one module per router.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

mod any;
pub mod bash;
pub mod conversations;
pub mod events;
pub mod files;
pub mod git;
pub mod hooks;
pub mod init;
pub mod mcp;
mod page;
mod scope;
pub mod server;
pub mod settings;
pub mod skills;
pub mod tools;
pub mod vscode;

pub use any::Any;
pub use page::Unreadable;
pub use scope::Scope;

/// Declares that a type is a call, with its route, repeat policy, request and response. Decoding
/// the response may use the values of the request.
macro_rules! call {
    (
        $name:ty => $output:ty, $method:ident $route:literal, $repeat:ident;
        |$this:ident| $request:expr;
        |$answer:ident $(, $asked:ident)?| $decode:expr
    ) => {
        impl $crate::Call for $name {
            type Output = $output;

            fn operation(&self) -> $crate::Operation {
                $crate::Operation::new(http::Method::$method, $route, $crate::Repeat::$repeat)
            }

            fn request(&self) -> $crate::Result<$crate::Request> {
                let $this = self;
                $request
            }

            fn decode(&self, $answer: $crate::Answer) -> $crate::Result<$output> {
                $( let $asked = self; )?
                $decode
            }
        }
    };
}
pub(crate) use call;

/// Appends a percent-encoded query parameter.
pub(crate) fn query(target: &mut String, name: &str, value: &str) {
    target.push(if target.contains('?') { '&' } else { '?' });
    target.push_str(name);
    target.push('=');
    target.extend(url::form_urlencoded::byte_serialize(value.as_bytes()));
}

/// Returns a value as a percent-encoded path segment.
pub(crate) fn segment(value: &str) -> String {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(value, ENCODED).to_string()
}
