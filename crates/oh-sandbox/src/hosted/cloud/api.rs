//! [`Cloud`], a client of the API of OpenHands Cloud.

use std::{fmt, time::Duration};

use oh_protocol::{Call, Json, calls::Any};
use oh_transport::Network;
use secrecy::SecretString;
use serde_json::Value;
use url::form_urlencoded;

use crate::{
    Error, ErrorKind, Request, Result,
    hosted::{
        owned,
        plane::{Access, Ask, Plane},
    },
};

/// How messages call the service.
pub(crate) const NAME: &str = "OpenHands Cloud";

/// A client of the API of OpenHands Cloud. Clones share its connections.
///
/// Typed methods cover sandboxes, settings, secrets, repositories and organizations.
/// [`call`](Self::call) reaches all other routes.
///
/// A request that may be repeated is sent again after a failure of the connection. After a status
/// of 429, it is sent again when the time in `Retry-After` is over. A request that creates
/// something is never repeated.
///
/// ```no_run
/// # async fn list(key: oh_sandbox::secrecy::SecretString) -> oh_sandbox::Result<()> {
/// use oh_sandbox::Cloud;
///
/// let cloud = Cloud::builder(key).build()?;
/// for sandbox in cloud.sandboxes().await? {
///     println!("{} {}", sandbox.id, sandbox.status);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Cloud {
    plane: Plane,
    network: Network,
}

/// Configures a [`Cloud`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct CloudBuilder {
    url: String,
    key: SecretString,
    organization: Option<String>,
    network: Option<Network>,
    timeout: Duration,
    patience: Duration,
}

impl Cloud {
    /// The URL of the service that OpenHands operates.
    pub const URL: &'static str = "https://app.all-hands.dev";

    /// Creates a builder for a client with an API key, or with the token of a login.
    pub fn builder(key: impl Into<SecretString>) -> CloudBuilder {
        CloudBuilder {
            url: Self::URL.to_owned(),
            key: key.into(),
            organization: None,
            network: None,
            timeout: Duration::from_secs(60),
            patience: Duration::from_secs(60),
        }
    }

    /// Returns the base URL, without a slash at its end.
    pub fn url(&self) -> &str {
        self.plane.base_url()
    }

    /// Sends a call to any route of the API, such as `/api/v1/app-conversations/search`, and
    /// returns the JSON of the response.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](ErrorKind::InvalidInput) if the path is not valid.
    /// - [`Unauthorized`](ErrorKind::Unauthorized) if the key is wrong or has expired.
    /// - [`RateLimited`](ErrorKind::RateLimited) if a quota is used up. The delay that the service
    ///   asks for is in `transport_error()`.
    /// - Other kinds for other statuses, with the reason that the service gives.
    pub fn call(&self, call: Any) -> Request<Json> {
        let cloud = self.clone();
        Request::new(async move {
            let checked = call.request();
            let invalid = |error| {
                let message = "invalid call of OpenHands Cloud";
                Error::new(ErrorKind::InvalidInput, message).with_source(error)
            };
            checked.map_err(invalid)?;
            let mut ask = Ask::new(call.method, "(untyped)", call.path, call.repeat);
            if let Some(body) = &call.body {
                ask = ask.body(body.to_value());
            }
            let answer = cloud.ask("the call failed", ask).await?;
            Ok(Json::from(&answer))
        })
    }

    pub(crate) async fn ask(&self, doing: &str, ask: Ask) -> Result<Value> {
        self.plane.ask(doing, ask).await
    }

    pub(crate) fn plane(&self) -> &Plane {
        &self.plane
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }
}

impl CloudBuilder {
    /// Sets the base URL. Default [`Cloud::URL`].
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// Sets the id of the organization that requests are for (`X-Org-Id`). Default: the one that
    /// the service has stored for the key.
    pub fn organization(mut self, id: impl Into<String>) -> Self {
        self.organization = Some(id.into());
        self
    }

    /// Sets the network, for example one with a proxy or a private certificate authority. Default:
    /// one with default settings.
    pub fn network(mut self, network: Network) -> Self {
        self.network = Some(network);
        self
    }

    /// Sets how long a request may take. Default 60 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Sets how long a request that may be repeated waits altogether because of `Retry-After`.
    /// Zero never waits. Default 60 s.
    pub fn retry_after_within(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    /// Creates the client. Sends nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL, the key or the id of the organization is not valid, or if the
    /// URL needs the feature `tls`.
    pub fn build(&self) -> Result<Cloud> {
        let network = owned::network(self.network.as_ref())?;
        let organization = self.organization.iter();
        let headers: Vec<_> = organization.map(|id| ("X-Org-Id", id.clone())).collect();
        let access = Access {
            name: NAME,
            url: &self.url,
            header: "Authorization",
            scheme: "Bearer ",
            key: Some(&self.key),
            headers: &headers,
            timeout: self.timeout,
            patience: self.patience,
        };
        let plane = Plane::new(&access, &network)?;
        Ok(Cloud { plane, network })
    }
}

/// Encodes a name that is one segment of a path.
pub(crate) fn segment(name: &str) -> Result<String> {
    // A URL with dots as a segment is another URL.
    if name.is_empty() || name.bytes().all(|byte| byte == b'.') {
        let message = format!("the name {name:?} is not valid: must not be empty, nor only dots");
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(encoded)
}

/// Encodes the query of a URL, or a form.
pub(crate) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs).finish()
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CloudBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudBuilder")
            .field("organization", &self.organization)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_of_the_path() {
        assert_eq!(segment("GITHUB_TOKEN-1.a~").unwrap(), "GITHUB_TOKEN-1.a~");
        assert_eq!(segment("a/../b?c ä").unwrap(), "a%2F..%2Fb%3Fc%20%C3%A4");
        for name in ["", ".", ".."] {
            let error = segment(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
}
