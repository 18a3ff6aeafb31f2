//! The last part of a message: what the caller can do about the failure.

use std::borrow::Cow;

use super::{Error, ErrorKind};

impl Error {
    /// Returns what the caller can do, if that is not part of the server's explanation.
    pub(super) fn advice(&self) -> Option<Cow<'static, str>> {
        let explained = self.detail_beyond_status().is_some();
        let advice = match self.0.kind {
            // Another explanation is about another credential, such as a provider's token.
            ErrorKind::Unauthorized if explained => return None,
            ErrorKind::Unauthorized => match self.0.had_key {
                Some(true) => {
                    "the session key is wrong: pass the server's key to `session_api_key`"
                }
                Some(false) => {
                    "the client has no session key: set the server's with `session_api_key`"
                }
                None => "set the server's session key with `session_api_key`",
            },
            ErrorKind::Forbidden if !explained => {
                "check the path, the gateway in front of the server, and whether the server is \
                 dormant"
            }
            ErrorKind::RateLimited => {
                return Some(match self.0.retry_after {
                    Some(delay) => format!("try again after {delay:?}").into(),
                    None => "try again later, or run fewer conversations at a time".into(),
                });
            }
            ErrorKind::Server => return self.advice_for_server(),
            _ => return None,
        };
        Some(advice.into())
    }

    fn advice_for_server(&self) -> Option<Cow<'static, str>> {
        let detail = self.detail().unwrap_or_default();
        if detail.contains("deferred-init") {
            return Some("activate the server with `calls::init::Init`".into());
        }
        if let Some(id) = self.error_id() {
            let id = oh_protocol::printable(id);
            return Some(format!("look for error {id} in the server's log").into());
        }
        (self.status()?.as_u16() == 503).then(|| "try again later".into())
    }
}
