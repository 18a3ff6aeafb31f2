//! Provider connections: API keys and URLs that several model profiles share. The server reads a
//! connection each time a profile that refers to it is used.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::{call, named, unmasked};
use crate::{Error, Request, Result};

const ROUTE: &str = "/api/llm/provider-connections";

/// A provider connection, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Connection {
    /// The id, for [`Llm::provider_connection_id`](crate::config::Llm::provider_connection_id).
    pub id: String,
    /// The name for users.
    pub display_name: String,
    /// The name of the provider.
    #[serde(default)]
    pub provider: String,
    /// The base URL, if it differs from the provider's default.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The time of creation, in seconds since 1970.
    #[serde(default)]
    pub created_at: i64,
    /// The time of the last change, in seconds since 1970.
    #[serde(default)]
    pub updated_at: i64,
    /// Whether the connection has a key. False in the response to
    /// [`DeleteConnection`].
    #[serde(default)]
    pub api_key_set: bool,
}

/// `GET /api/llm/provider-connections`: returns all connections.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct ListConnections;

call!(ListConnections => Vec<Connection>, GET "/api/llm/provider-connections", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, ROUTE));
    |answer| answer.json("list of provider connections"));

/// `POST /api/llm/provider-connections`: creates a connection. Returns 409 if the server has as
/// many connections as it allows.
#[derive(Clone)]
#[must_use]
pub struct CreateConnection {
    display_name: String,
    api_key: SecretString,
    provider: Option<String>,
    base_url: Option<String>,
}

super::same_request!(CreateConnection UpdateConnection);

impl CreateConnection {
    /// Creates a call for a connection with this name for users and this key.
    pub fn new(display_name: impl Into<String>, api_key: impl Into<SecretString>) -> Self {
        Self {
            display_name: display_name.into(),
            api_key: api_key.into(),
            provider: None,
            base_url: None,
        }
    }

    /// Sets the name of the provider. Server default: `custom`.
    pub fn provider(mut self, name: impl Into<String>) -> Self {
        self.provider = Some(name.into());
        self
    }

    /// Sets the base URL, if it differs from the provider's default.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }
}

impl fmt::Debug for CreateConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateConnection")
            .field("display_name", &self.display_name)
            .field("provider", &self.provider)
            .field(
                "base_url",
                &self.base_url.as_deref().map(crate::redact::url),
            )
            .finish_non_exhaustive()
    }
}

// Not retried: a second request would create a second connection.
call!(CreateConnection => Connection, POST "/api/llm/provider-connections", Never;
|this| {
    unmasked("api_key", &this.api_key)?;
    let mut body = json!({
        "display_name": this.display_name,
        "api_key": this.api_key.expose_secret(),
    });
    if let Some(provider) = &this.provider {
        body["provider"] = provider.as_str().into();
    }
    if let Some(url) = &this.base_url {
        body["base_url"] = url.as_str().into();
    }
    Request::new(http::Method::POST, ROUTE).json(&body)
};
|answer| answer.json("provider connection"));

/// `PATCH /api/llm/provider-connections/{connection_id}`: changes the given fields of a connection.
/// Profiles that refer to it use the new values the next time they are used.
#[derive(Clone)]
#[must_use]
pub struct UpdateConnection {
    id: String,
    api_key: Option<SecretString>,
    display_name: Option<String>,
    provider: Option<String>,
    base_url: Option<Option<String>>,
}

impl UpdateConnection {
    /// Creates a call for the connection with this id, without changes. At least one is required.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            api_key: None,
            display_name: None,
            provider: None,
            base_url: None,
        }
    }

    /// Replaces the key.
    pub fn api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Changes the name for users.
    pub fn display_name(mut self, name: impl Into<String>) -> Self {
        self.display_name = Some(name.into());
        self
    }

    /// Changes the name of the provider.
    pub fn provider(mut self, name: impl Into<String>) -> Self {
        self.provider = Some(name.into());
        self
    }

    /// Changes the base URL. `None` removes it.
    pub fn base_url<'a>(mut self, url: impl Into<Option<&'a str>>) -> Self {
        self.base_url = Some(url.into().map(str::to_owned));
        self
    }
}

impl fmt::Debug for UpdateConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self
            .base_url
            .as_ref()
            .map(|url| url.as_deref().map(crate::redact::url));
        f.debug_struct("UpdateConnection")
            .field("id", &self.id)
            .field("changes_key", &self.api_key.is_some())
            .field("display_name", &self.display_name)
            .field("provider", &self.provider)
            .field("base_url", &url)
            .finish()
    }
}

call!(UpdateConnection => Connection, PATCH "/api/llm/provider-connections/{connection_id}",
    Idempotent;
|this| {
    let mut body = Map::new();
    if let Some(key) = &this.api_key {
        unmasked("api_key", key)?;
        body.insert("api_key".to_owned(), key.expose_secret().into());
    }
    for (field, value) in [("display_name", &this.display_name), ("provider", &this.provider)] {
        if let Some(value) = value {
            body.insert(field.to_owned(), value.as_str().into());
        }
    }
    if let Some(url) = &this.base_url {
        body.insert("base_url".to_owned(), url.clone().into());
    }
    if body.is_empty() {
        return Err(Error::invalid("provider connection: at least one field must change"));
    }
    Request::new(http::Method::PATCH, at(&this.id)?).json(&body)
};
|answer| answer.json("provider connection"));

/// `DELETE /api/llm/provider-connections/{connection_id}`: deletes a connection, and returns it.
/// Returns 409 if a profile or the settings refer to it. A repeated request returns 404.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteConnection(String);

impl DeleteConnection {
    /// Creates a call for the connection with this id.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }
}

call!(DeleteConnection => Connection, DELETE "/api/llm/provider-connections/{connection_id}",
    Idempotent;
    |this| Ok(Request::new(http::Method::DELETE, at(&this.0)?));
    |answer| answer.json("provider connection"));

/// Returns the path of a connection.
fn at(id: &str) -> Result<String> {
    named(ROUTE, "the connection id", id, "")
}
