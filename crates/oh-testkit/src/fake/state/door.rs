//! The keys of a server, and whether it is dormant.

use std::sync::OnceLock;

use http::HeaderMap;

/// The cookie with which a browser loads the pages of workspaces.
pub(crate) const COOKIE: &str = "oh_workspace_session_key";

/// The keys of a server.
pub(crate) struct Door {
    /// The session key at the start.
    pub(crate) key: Option<String>,
    /// The secret key that activates a dormant server.
    pub(crate) secret: Option<String>,
    /// The session keys of the activation request. `None` if the request had no session keys.
    pub(crate) activated: OnceLock<Option<Vec<String>>>,
}

impl Door {
    pub(crate) fn new(key: Option<String>, secret: Option<String>) -> Self {
        Self {
            key,
            secret,
            activated: OnceLock::new(),
        }
    }

    pub(crate) fn is_dormant(&self) -> bool {
        self.secret.is_some() && self.activated.get().is_none()
    }

    fn keys(&self) -> &[String] {
        match self.activated.get() {
            Some(Some(keys)) => keys,
            _ => self.key.as_slice(),
        }
    }

    /// Returns whether no key is needed.
    pub(crate) fn is_open(&self) -> bool {
        self.keys().is_empty()
    }

    pub(crate) fn accepts(&self, key: &str) -> bool {
        self.keys().iter().any(|known| known == key)
    }

    /// Returns the key for clients, or an empty string if none is needed.
    pub(crate) fn key(&self) -> &str {
        self.keys().first().map_or("", String::as_str)
    }

    /// Returns whether a request may access `/api`.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get("x-session-api-key");
        let given = given.and_then(|given| given.to_str().ok());
        self.is_open() || given.is_some_and(|given| self.accepts(given))
    }

    /// Returns whether a browser may load a page of a workspace.
    pub(crate) fn admits_browser(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(http::header::COOKIE).into_iter();
        let cookies = cookies.filter_map(|cookies| cookies.to_str().ok());
        cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(name, value)| name == COOKIE && self.accepts(value))
    }
}
