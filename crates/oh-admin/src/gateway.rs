//! The gateway for clients of OpenAI's API.

use std::fmt;

use http::{HeaderName, HeaderValue};
use oh_protocol::secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{Admin, Error, Request};

/// The address and key of the gateway for clients of OpenAI's API: see [`Admin::gateway`].
#[derive(Clone)]
pub struct Gateway {
    base_url: Url,
    key: Option<SecretString>,
}

impl Admin {
    /// Returns the address and key of the server's gateway for clients of OpenAI's API (`/v1`).
    /// Sends nothing.
    ///
    /// The models of the gateway are the agents of the server. Each request to
    /// `/v1/chat/completions` or `/v1/responses` runs an agent until it has finished, without
    /// approval, so the client needs a long timeout.
    ///
    /// # Errors
    ///
    /// Returns an error if the client has no key at the moment.
    pub fn gateway(&self) -> Request<Gateway> {
        let client = self.client().clone();
        Request::new(async move {
            let key = client.session_api_key().await;
            let key = key.map_err(|error| Error::transport("read the session key", error))?;
            let mut base_url = client.base_url().clone();
            let path = format!("{}/v1", base_url.path().trim_end_matches('/'));
            base_url.set_path(&path);
            Ok(Gateway { base_url, key })
        })
    }
}

impl Gateway {
    /// The header with the id of the conversation that has answered a request. A request to
    /// `/v1/chat/completions` with this header continues the conversation.
    pub const CONVERSATION: HeaderName =
        HeaderName::from_static("x-openhands-serverconversation-id");
    /// The header with the session key, for clients that can set headers.
    pub const KEY_HEADER: HeaderName = HeaderName::from_static("x-session-api-key");

    /// Returns the base URL, which ends with `/v1`. Clients call it the API base.
    pub fn base_url(&self) -> &Url {
        &self.base_url
    }

    /// Returns the session key, which is the API key of the gateway. `None` if the server needs no
    /// key. Clients send it as a bearer token.
    pub fn key(&self) -> Option<&SecretString> {
        self.key.as_ref()
    }

    /// Returns the value of the header `Authorization` with the key as a bearer token.
    pub fn bearer(&self) -> Option<HeaderValue> {
        self.header("Bearer ")
    }

    /// Returns the value of [`KEY_HEADER`](Self::KEY_HEADER).
    pub fn key_header(&self) -> Option<HeaderValue> {
        self.header("")
    }

    /// Returns the key as a header. A key is valid in a header, or no request could be sent.
    fn header(&self, before: &str) -> Option<HeaderValue> {
        let key = self.key.as_ref()?.expose_secret();
        let mut value = HeaderValue::from_str(&format!("{before}{key}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

// The key is a secret. The URL of a client has no user and no query.
impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("base_url", &self.base_url.as_str())
            .field("has_key", &self.key.is_some())
            .finish()
    }
}
