//! Settings and secrets that are stored on the server.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod mcp;
mod schema;
mod secrets;
mod update;

use super::{call, query, segment};
use crate::{Error, Request};

pub use mcp::{AddMcpServer, PatchMcpServer, RemoveMcpServer, StoredMcpServer};
pub use schema::{
    GetAgentSchema, GetConversationSchema, SettingsChoice, SettingsField, SettingsSchema,
    SettingsSection,
};
pub use secrets::{DeleteSecret, SetSecret};
pub use update::UpdateSettings;

const EXPOSE: HeaderName = HeaderName::from_static("x-expose-secrets");

/// The form in which the server returns stored secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expose {
    /// Masked or omitted.
    #[default]
    Masked,
    /// Encrypted, so that only the server can decrypt the secrets.
    Encrypted,
    /// In plain text. The server logs the request.
    Plain,
}

impl Expose {
    pub(super) fn into_headers(self, headers: &mut HeaderMap) {
        let mode = match self {
            Self::Masked => return,
            Self::Encrypted => HeaderValue::from_static("encrypted"),
            Self::Plain => HeaderValue::from_static("plaintext"),
        };
        headers.insert(EXPOSE, mode);
    }
}

/// `GET /api/settings`: returns the settings of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GetSettings(Expose);

impl GetSettings {
    /// Creates a call that returns secrets in this form.
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

/// The settings of a server. Parts without a fixed type are JSON values, because newer servers have
/// more settings.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Settings {
    /// The settings for agents, including the model and MCP servers. May contain secrets.
    #[serde(default)]
    pub agent_settings: Value,
    /// The settings for conversations.
    #[serde(default)]
    pub conversation_settings: Value,
    /// Whether an API key for the model is set.
    #[serde(default)]
    pub llm_api_key_is_set: bool,
    /// The name of the default model profile.
    #[serde(default)]
    pub active_profile: Option<String>,
    /// The id of the active agent profile.
    #[serde(default)]
    pub active_agent_profile_id: Option<String>,
    /// The name of the active meta-profile.
    #[serde(default)]
    pub active_meta_profile: Option<String>,
    /// Values that the server stores for user interfaces, without interpreting them.
    #[serde(default)]
    pub misc_settings: Value,
}

// Settings may contain secrets, so only safe fields are shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("llm_api_key_is_set", &self.llm_api_key_is_set)
            .field("active_profile", &self.active_profile)
            .finish_non_exhaustive()
    }
}

/// `GET /api/settings/secrets`: returns the names of the stored secrets, without their values.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use]
pub struct ListSecrets {
    agent_profile_id: Option<String>,
}

/// A stored secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SecretInfo {
    /// The name.
    pub name: String,
    /// The description.
    #[serde(default)]
    pub description: Option<String>,
}

impl SecretInfo {
    /// Returns the path of the secret on the server, for a
    /// [lookup](crate::config::SecretSource::lookup).
    pub fn path(&self) -> String {
        format!("/api/settings/secrets/{}", segment(&self.name))
    }
}

impl ListSecrets {
    /// Creates a call for all secrets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the result to the secrets that an agent profile refers to.
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

/// `GET /api/settings/secrets/{name}`: returns the value of a stored secret in plain text.
#[derive(Debug, Clone, PartialEq)]
pub struct GetSecret(String);

impl GetSecret {
    /// Creates a call for the secret with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(GetSecret => SecretString, GET "/api/settings/secrets/{name}", Idempotent;
|this| {
    if this.0.is_empty() || this.0.contains('/') || matches!(this.0.as_str(), "." | "..") {
        return Err(Error::invalid("the secret name must not be empty or contain slashes"));
    }
    let target = format!("/api/settings/secrets/{}", segment(&this.0));
    Ok(Request::new(http::Method::GET, target))
};
|answer| match std::str::from_utf8(&answer.bytes("value of a secret")?) {
    Ok(value) => Ok(value.into()),
    Err(error) => Err(Error::decode("value of a secret", error)),
});
