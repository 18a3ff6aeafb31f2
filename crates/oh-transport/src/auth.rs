//! The session key of a client: a fixed value, or a provider that is called for each request.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};

use crate::{Error, ErrorKind, Result};

/// The header that carries the session key over HTTP.
pub(crate) const SESSION_KEY: HeaderName = HeaderName::from_static("x-session-api-key");

/// A source of session keys, for keys that rotate.
///
/// A client calls the provider before each attempt of a call, each stream and each socket. The
/// provider should therefore cache the key and renew it before it expires. A 401 response is not
/// retried with a new key.
///
/// ```
/// use oh_transport::{AuthProvider, Client, Result, async_trait};
/// use secrecy::SecretString;
///
/// struct FromVault;
///
/// #[async_trait]
/// impl AuthProvider for FromVault {
///     async fn session_api_key(&self) -> Result<SecretString> {
///         Ok("the current key".into())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let client = Client::builder("http://127.0.0.1:8000").auth_provider(FromVault).build()?;
/// # Ok(()) }
/// ```
#[async_trait]
pub trait AuthProvider: Send + Sync + 'static {
    /// Returns the key for the next request.
    ///
    /// # Errors
    ///
    /// Return an error if no key is available. The request is not sent in that case, and the caller
    /// gets an error of the same kind with this error as its source.
    async fn session_api_key(&self) -> Result<SecretString>;
}

/// The session key of a client.
pub(crate) enum Auth {
    None,
    Fixed(SecretString),
    Provider {
        provider: Arc<dyn AuthProvider>,
        /// The most recent key, which is redacted in the server's responses.
        last: Mutex<Option<SecretString>>,
    },
}

impl Auth {
    pub(crate) fn provided(provider: Arc<dyn AuthProvider>) -> Self {
        Self::Provider {
            provider,
            last: Mutex::new(None),
        }
    }

    /// Returns the key for the next request.
    pub(crate) async fn key(&self) -> Result<Option<SecretString>> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(key) => Ok(Some(key.clone())),
            Self::Provider { provider, last } => {
                let key = provider.session_api_key().await.map_err(|error| {
                    let failed = Error::new(error.kind(), "cannot obtain the session key");
                    failed.unsent().with_source(error)
                })?;
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
                Ok(Some(key))
            }
        }
    }

    /// Returns the most recently used key, if known.
    pub(crate) fn known(&self) -> Option<SecretString> {
        match self {
            Self::None => None,
            Self::Fixed(key) => Some(key.clone()),
            Self::Provider { last, .. } => {
                last.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    /// Returns whether requests carry a key.
    pub(crate) fn is_set(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// The credentials of one call, instead of those of its client.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) key: Option<SecretString>,
    pub(crate) bearer: Option<SecretString>,
}

impl Credentials {
    /// Adds the credentials to the headers of a request, which override those of the client.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) -> Result<()> {
        if let Some(key) = &self.key {
            headers.insert(SESSION_KEY, key_header(key)?);
        }
        if let Some(token) = &self.bearer {
            let bearer = format!("Bearer {}", token.expose_secret());
            let empty = token.expose_secret().trim().is_empty();
            let value = HeaderValue::from_str(&bearer).ok().filter(|_| !empty);
            let mut value = value.ok_or_else(|| {
                let message = "invalid bearer token (hidden): must not be empty or contain \
                               characters that a header cannot hold";
                Error::new(ErrorKind::InvalidInput, message)
            })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(())
    }
}

/// Converts a key to a header value.
///
/// # Errors
///
/// Returns `InvalidInput` if the key is empty or not valid in a header. The error does not contain
/// the key.
pub(crate) fn key_header(key: &SecretString) -> Result<HeaderValue> {
    let key = key.expose_secret();
    let value = HeaderValue::from_str(key).ok();
    let mut value = value.filter(|_| !key.trim().is_empty()).ok_or_else(|| {
        let message = "invalid session key (hidden): must not be empty or contain characters that \
                       a header cannot hold";
        Error::new(ErrorKind::InvalidInput, message)
    })?;
    value.set_sensitive(true);
    Ok(value)
}
