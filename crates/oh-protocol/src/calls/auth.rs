//! Cookies with which a browser can load the pages of a conversation's workspace, where requests
//! cannot have the header with the session key.

use std::fmt;

use http::{HeaderValue, header};

use super::call;
use crate::{Answer, Error, Request, Result};

const ROUTE: &str = "/api/auth/workspace-session";

/// `POST /api/auth/workspace-session`: returns a cookie for the pages of workspaces. The server
/// accepts the cookie for `/api/conversations/{conversation_id}/workspace` only. The cookie
/// contains the session key.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct CreateWorkspaceSession;

call!(CreateWorkspaceSession => WorkspaceCookie, POST "/api/auth/workspace-session", Idempotent;
    |_this| Ok(Request::new(http::Method::POST, ROUTE));
    |answer| WorkspaceCookie::read(&answer));

/// `DELETE /api/auth/workspace-session`: returns an empty cookie, with which a browser deletes its
/// own. The server stores no cookies, so an old cookie stays valid as long as the session key.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct DeleteWorkspaceSession;

call!(DeleteWorkspaceSession => WorkspaceCookie, DELETE "/api/auth/workspace-session", Idempotent;
    |_this| Ok(Request::new(http::Method::DELETE, ROUTE));
    |answer| WorkspaceCookie::read(&answer));

/// A cookie for the pages of workspaces. Contains the session key, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct WorkspaceCookie(HeaderValue);

impl WorkspaceCookie {
    fn read(answer: &Answer) -> Result<Self> {
        let value = answer.headers.get(header::SET_COOKIE);
        let mut value = value.cloned().ok_or_else(|| {
            Error::decode("cookie for workspace pages", "the response has no cookie")
        })?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// Returns the value of the header `Set-Cookie`, with which a program in front of the agent
    /// server gives the cookie to a browser. The cookie is for the path `/api/conversations`,
    /// cannot be read by scripts, and lasts for years.
    pub fn set_cookie(&self) -> &HeaderValue {
        &self.0
    }

    /// Returns the value of the header `Cookie`, for requests to the pages without a browser.
    pub fn cookie(&self) -> HeaderValue {
        let value = self.0.as_bytes();
        let end = value.iter().position(|byte| *byte == b';');
        let pair = value.get(..end.unwrap_or(value.len()));
        let pair = pair.and_then(|pair| HeaderValue::from_bytes(pair).ok());
        // A part of a valid value is valid.
        let mut pair = pair.unwrap_or_else(|| self.0.clone());
        pair.set_sensitive(true);
        pair
    }
}

impl fmt::Debug for WorkspaceCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkspaceCookie").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::Call as _;

    #[test]
    fn a_cookie_is_read_and_not_shown() {
        let mut headers = HeaderMap::new();
        let value = "oh_workspace_session_key=canary; HttpOnly; Path=/api/conversations";
        headers.insert(header::SET_COOKIE, HeaderValue::from_static(value));
        let answer = Answer::new(StatusCode::NO_CONTENT, headers, Bytes::new());
        let cookie = CreateWorkspaceSession.decode(answer).unwrap();
        assert_eq!(cookie.set_cookie(), value);
        assert_eq!(cookie.cookie(), "oh_workspace_session_key=canary");
        let shown = format!("{cookie:?} {:?} {:?}", cookie.set_cookie(), cookie.cookie());
        assert!(!shown.contains("canary"), "{shown}");
        let empty = Answer::new(StatusCode::NO_CONTENT, HeaderMap::new(), Bytes::new());
        DeleteWorkspaceSession.decode(empty).unwrap_err();
    }
}
