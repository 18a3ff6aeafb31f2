//! Deferred initialization of a dormant server.
//!
//! Servers that are started with `OH_DEFERRED_INIT` return 503 until they are initialized. [`Init`]
//! uses the secret key that the server was started with, and sets the session keys.

use std::collections::BTreeMap;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::call;
use crate::{Answer, Error, Request, json::open_enum::open_enum};

const ROUTE: &str = "/api/init";

open_enum! {
    /// The state of a server with deferred initialization.
    InitState {
        /// Waiting for initialization.
        Dormant = "dormant",
        /// Initialization is in progress.
        Initializing = "initializing",
        /// The server accepts work. Servers without deferred initialization are always in this
        /// state.
        Ready = "ready",
    }
}

/// The status of a deferred initialization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct InitStatus {
    /// The state.
    pub state: InitState,
    /// The reason why the last attempt failed. The call can be repeated.
    #[serde(default)]
    pub error: Option<String>,
}

/// `GET /api/init`: returns the status of a deferred initialization. Works without authentication.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct GetInitStatus;

call!(GetInitStatus => InitStatus, GET "/api/init", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, ROUTE));
    |answer| Answer::json(&answer, "state of a deferred start"));

/// `POST /api/init`: initializes a dormant server. Returns 401 for a wrong key, and 400 if the
/// server is already initialized.
///
/// Options that are not set keep the values that the server was started with.
#[derive(Clone)]
#[must_use]
pub struct Init {
    key: SecretString,
    session_api_keys: Vec<SecretString>,
    secret_key: Option<SecretString>,
    env: BTreeMap<String, SecretString>,
    fields: Map<String, Value>,
}

impl Init {
    /// Creates a call with the secret key that the server was started with.
    pub fn new(key: impl Into<SecretString>) -> Self {
        Self {
            key: key.into(),
            session_api_keys: Vec::new(),
            secret_key: None,
            env: BTreeMap::new(),
            fields: Map::new(),
        }
    }

    /// Adds a session key that the server accepts.
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.session_api_keys.push(key.into());
        self
    }

    /// Sets the key for the encryption of secrets. Server default: the first session key.
    pub fn secret_key(mut self, key: impl Into<SecretString>) -> Self {
        self.secret_key = Some(key.into());
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets the directory for conversations, as a path on the server.
    pub fn conversations_path(self, path: impl Into<String>) -> Self {
        self.set("conversations_path", path.into())
    }

    /// Sets the directory for the command history, as a path on the server.
    pub fn bash_events_dir(self, path: impl Into<String>) -> Self {
        self.set("bash_events_dir", path.into())
    }

    /// Sets any other field of the server's request, by its JSON name. The server rejects unknown
    /// fields.
    pub fn set(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(field.into(), value.into());
        self
    }

    // The only place where these secrets are exposed to a request.
    fn body(&self) -> Map<String, Value> {
        let shown = |key: &SecretString| Value::from(key.expose_secret());
        let mut body = self.fields.clone();
        if !self.session_api_keys.is_empty() {
            let keys = self.session_api_keys.iter().map(shown).collect();
            body.insert("session_api_keys".into(), keys);
        }
        if let Some(key) = &self.secret_key {
            body.insert("secret_key".into(), shown(key));
        }
        if !self.env.is_empty() {
            let variables = self
                .env
                .iter()
                .map(|(name, value)| (name.clone(), shown(value)));
            body.insert("env".into(), Value::Object(variables.collect()));
        }
        body
    }
}

call!(Init => InitStatus, POST "/api/init", Never;
|this| {
    let mut key = HeaderValue::from_str(this.key.expose_secret())
        .map_err(|_| Error::invalid("the init key contains characters that a header cannot hold"))?;
    key.set_sensitive(true);
    let mut request = Request::new(http::Method::POST, ROUTE).json(&this.body())?;
    request.headers.insert("x-init-api-key", key);
    Ok(request)
};
|answer| answer.json("state of a deferred start"));

/// Calls are equal if the server would get the same request.
impl PartialEq for Init {
    fn eq(&self, other: &Self) -> bool {
        self.key.expose_secret() == other.key.expose_secret() && self.body() == other.body()
    }
}

impl std::fmt::Debug for Init {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Init")
            .field("env", &self.env.keys())
            .field("fields", &self.fields.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Call;

    #[test]
    fn keys_are_only_in_header_and_body() {
        let init = Init::new("canary-init")
            .session_api_key("canary-session")
            .secret_key("canary-secret")
            .env("TOKEN", "canary-env")
            .conversations_path("/c");
        assert!(!format!("{init:?} {:?}", init.request().unwrap()).contains("canary"));
        let request = init.request().unwrap();
        assert_eq!(request.headers["x-init-api-key"], "canary-init");
        let body: Value = serde_json::from_slice(&request.body.unwrap()).unwrap();
        assert_eq!(body["session_api_keys"][0], "canary-session");
        assert_eq!(body["secret_key"], "canary-secret");
        assert_eq!(body["env"]["TOKEN"], "canary-env");
        assert_eq!(body["conversations_path"], "/c");
        assert!(!format!("{:?}", request.headers).contains("canary"));
    }

    #[test]
    fn a_key_that_is_invalid_in_a_header_is_rejected() {
        assert!(Init::new("a\nb").request().is_err());
    }
}
