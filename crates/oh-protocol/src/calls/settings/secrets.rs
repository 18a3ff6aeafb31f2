//! Changes of the secrets that are stored on the server.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::SecretInfo;
use crate::{
    Request,
    calls::{call, named, unmasked},
};

const ROUTE: &str = "/api/settings/secrets";

/// `PUT /api/settings/secrets`: stores a secret, or replaces the secret with this name.
#[derive(Clone)]
#[must_use]
pub struct SetSecret {
    name: String,
    value: SecretString,
    description: Option<String>,
}

crate::calls::same_request!(SetSecret);

impl SetSecret {
    /// Creates a call. A name starts with a letter, and has at most 64 letters, digits and
    /// underscores, because agents get the secret as an environment variable.
    pub fn new(name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            description: None,
        }
    }

    /// Sets the description, which agents can read. Without it, a stored description is removed.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

impl fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetSecret")
            .field("name", &self.name)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

call!(SetSecret => SecretInfo, PUT "/api/settings/secrets", Idempotent;
|this| {
    unmasked("value", &this.value)?;
    let mut body = json!({"name": this.name, "value": this.value.expose_secret()});
    if let Some(description) = &this.description {
        body["description"] = description.as_str().into();
    }
    Request::new(http::Method::PUT, ROUTE).json(&body)
};
|answer| answer.json("stored secret"));

/// `DELETE /api/settings/secrets/{name}`: deletes a secret. A repeated request returns 404.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteSecret(String);

impl DeleteSecret {
    /// Creates a call for the secret with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(DeleteSecret => (), DELETE "/api/settings/secrets/{name}", Idempotent;
    |this| {
        let target = named(ROUTE, "the secret name", &this.0, "")?;
        Ok(Request::new(http::Method::DELETE, target))
    };
    |answer| answer.done("response"));
