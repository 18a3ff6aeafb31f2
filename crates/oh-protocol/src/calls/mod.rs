//! The server's operations as typed [`Call`](crate::Call)s, one module per router.
//!
//! Calls have constructors and setters, and can be compared. The bodies that the server returns can
//! also be serialized and deserialized, so a test can make one with `serde_json::from_value`.
//! Secrets take part in comparisons, and no `Debug` output shows them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Answer, Error, Result, config};

pub mod acp;
pub mod agent_profiles;
mod any;
pub mod auth;
pub mod bash;
pub mod connections;
pub mod conversations;
pub mod events;
pub mod files;
pub mod git;
pub mod hooks;
pub mod init;
pub mod llm;
pub mod mcp;
pub mod meta_profiles;
mod operations;
mod page;
pub mod plugins;
pub mod profiles;
mod scope;
pub mod server;
pub mod settings;
pub mod skills;
pub mod sub_agents;
pub mod tools;
pub mod vscode;
pub mod workspaces;

pub use any::Any;
pub use operations::operations;
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
        impl $name {
            /// The operations that this call can request.
            pub const OPERATIONS: &'static [$crate::Operation] = &[
                $crate::Operation::new(http::Method::$method, $route, $crate::Repeat::$repeat),
            ];
        }

        const _: () = {
            const fn is_comparable<T: Clone + std::fmt::Debug + PartialEq>() {}
            is_comparable::<$name>();
        };

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

/// Compares calls with secrets: they are equal if the server would get the same request.
macro_rules! same_request {
    ($($name:ident)+) => { $(
        impl PartialEq for $name {
            /// Returns whether the server would get the same request. False if a call is invalid.
            fn eq(&self, other: &Self) -> bool {
                let requests = (crate::Call::request(self), crate::Call::request(other));
                matches!(requests, (Ok(one), Ok(other)) if one == other)
            }
        }
    )+ };
}
pub(crate) use same_request;

/// Decodes one field of a response. `what` names the response in errors.
pub(crate) fn part<T: DeserializeOwned>(answer: &Answer, field: &str, what: &str) -> Result<T> {
    let mut whole: Map<String, Value> = answer.json(what)?;
    let value = whole.remove(field).unwrap_or_default();
    T::deserialize(value).map_err(|error| Error::decode(format!("`{field}` of the {what}"), error))
}

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

/// Returns the path of a resource: the route, the name as a segment, and the rest. `what` names the
/// name in the error. Without this check, an empty name or a slash would address another route.
pub(crate) fn named(route: &str, what: &str, name: &str, rest: &str) -> Result<String> {
    if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
        return Err(Error::invalid(format!(
            "{what} must not be empty, a dot or two, or contain slashes"
        )));
    }
    Ok(format!("{route}/{}{rest}", segment(name)))
}

/// Checks that a secret is neither empty nor the server's mask, which would replace the real value.
pub(crate) fn unmasked(field: &str, secret: &SecretString) -> Result<()> {
    match secret.expose_secret().trim() {
        "" => Err(Error::invalid(format!("{field}: must not be empty"))),
        config::MASK => Err(Error::invalid(format!("{field}: {}", config::MASKED))),
        _ => Ok(()),
    }
}
