//! Settings and secrets stored on the server, and its profiles of models.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{call, query, segment};
use crate::{Error, Request};

const EXPOSE: HeaderName = HeaderName::from_static("x-expose-secrets");

/// How the server shows secrets it has stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expose {
    /// As a mask, or not at all.
    #[default]
    Masked,
    /// As only the server can read them.
    Encrypted,
    /// As they are. The server notes in its log that somebody asked.
    Plain,
}

impl Expose {
    fn into_headers(self, headers: &mut HeaderMap) {
        let mode = match self {
            Self::Masked => return,
            Self::Encrypted => HeaderValue::from_static("encrypted"),
            Self::Plain => HeaderValue::from_static("plaintext"),
        };
        headers.insert(EXPOSE, mode);
    }
}

/// `GET /api/settings`.
#[derive(Debug, Clone, Copy, Default)]
pub struct GetSettings(Expose);

impl GetSettings {
    /// With secrets shown in this way.
    pub fn new(expose: Expose) -> Self {
        Self(expose)
    }
}

call!(GetSettings => Settings, GET "/api/settings", Idempotent;
    |this| {
        let mut request = Request::new(http::Method::GET, "/api/settings");
        this.0.into_headers(&mut request.headers);
        Ok(request)
    };
    |answer| answer.json("settings"));

/// What is set on the server. Parts are kept as they came: newer servers set more.
#[derive(Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Settings {
    /// How agents are made, model and MCP servers included. May hold secrets.
    #[serde(default)]
    pub agent_settings: Value,
    /// How conversations are made.
    #[serde(default)]
    pub conversation_settings: Value,
    /// Whether there is a key for the model.
    #[serde(default)]
    pub llm_api_key_is_set: bool,
    /// The profile of a model that is used where none is named.
    #[serde(default)]
    pub active_profile: Option<String>,
}

// Settings may hold secrets: only what cannot is shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("llm_api_key_is_set", &self.llm_api_key_is_set)
            .field("active_profile", &self.active_profile)
            .finish_non_exhaustive()
    }
}

/// `GET /api/settings/secrets`: the names of the stored secrets, without their values.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ListSecrets {
    agent_profile_id: Option<String>,
}

/// A stored secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
}

impl SecretInfo {
    /// Where the server itself finds the value: a path for a
    /// [lookup](crate::config::SecretSource::lookup).
    pub fn path(&self) -> String {
        format!("/api/settings/secrets/{}", segment(&self.name))
    }
}

impl ListSecrets {
    /// All of them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those an agent profile refers to.
    pub fn agent_profile(mut self, id: impl Into<String>) -> Self {
        self.agent_profile_id = Some(id.into());
        self
    }
}

call!(ListSecrets => Vec<SecretInfo>, GET "/api/settings/secrets", Idempotent;
|this| {
    let mut target = "/api/settings/secrets".to_owned();
    if let Some(id) = &this.agent_profile_id {
        query(&mut target, "agent_profile_id", id);
    }
    Ok(Request::new(http::Method::GET, target))
};
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        secrets: Vec<SecretInfo>,
    }
    answer.json::<Wire>("names of secrets").map(|wire| wire.secrets)
});

/// `GET /api/settings/secrets/{name}`: the value of a stored secret, in the clear.
#[derive(Debug, Clone)]
pub struct GetSecret(String);

impl GetSecret {
    /// The secret of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(GetSecret => SecretString, GET "/api/settings/secrets/{name}", Idempotent;
|this| {
    if this.0.is_empty() || this.0.contains('/') || matches!(this.0.as_str(), "." | "..") {
        return Err(Error::invalid("a secret has a name without slashes"));
    }
    let target = format!("/api/settings/secrets/{}", segment(&this.0));
    Ok(Request::new(http::Method::GET, target))
};
|answer| match std::str::from_utf8(&answer.body) {
    Ok(value) => Ok(value.into()),
    Err(error) => Err(Error::decode("value of a secret", error)),
});

/// `GET /api/profiles/{name}`: a stored configuration of a model.
#[derive(Debug, Clone)]
pub struct GetProfile {
    name: String,
    expose: Expose,
}

impl GetProfile {
    /// The profile of this name, with secrets shown in this way.
    pub fn new(name: impl Into<String>, expose: Expose) -> Self {
        Self {
            name: name.into(),
            expose,
        }
    }
}

/// A stored configuration of a model.
#[derive(Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// The configuration as it came. May hold secrets.
    pub config: Value,
    /// Whether it has a key.
    #[serde(default)]
    pub api_key_set: bool,
}

// A configuration may hold secrets.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .field("api_key_set", &self.api_key_set)
            .finish_non_exhaustive()
    }
}

call!(GetProfile => Profile, GET "/api/profiles/{name}", Idempotent;
    |this| {
        if this.name.is_empty() || matches!(this.name.as_str(), "." | "..") {
            return Err(Error::invalid("a profile has a name"));
        }
        let target = format!("/api/profiles/{}", segment(&this.name));
        let mut request = Request::new(http::Method::GET, target);
        this.expose.into_headers(&mut request.headers);
        Ok(request)
    };
    |answer| answer.json("profile"));
