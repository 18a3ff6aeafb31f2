//! Sends a JSON body to a URL of an automation environment.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, header};
use oh_protocol::Request;
use oh_transport::{Body, Client};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use crate::{Error, ErrorKind, Result};

/// Sends a body once, with a bearer token.
pub(crate) async fn post(
    url: &Url,
    key: Option<&SecretString>,
    body: &Value,
    limit: Duration,
) -> Result<()> {
    let failed = |error| Error::transport("cannot send the callback", error);
    let mut origin = url.clone();
    origin.set_path("");
    origin.set_query(None);
    origin.set_fragment(None);
    let client = Client::builder(origin.as_str()).build().map_err(failed)?;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::new(http::Method::POST, target);
    let json = HeaderValue::from_static("application/json");
    request.headers.insert(header::CONTENT_TYPE, json);
    if let Some(key) = key {
        let bearer = format!("Bearer {}", key.expose_secret());
        let mut bearer = HeaderValue::try_from(bearer).map_err(|_| {
            Error::invalid("the callback's key contains characters that a header cannot hold")
        })?;
        bearer.set_sensitive(true);
        request.headers.insert(header::AUTHORIZATION, bearer);
    }
    let body = Body::from(Bytes::from(body.to_string()));
    let calling = async { client.accepted(client.stream(request, body).await?).await };
    match tokio::time::timeout(limit, calling).await {
        Ok(answer) => answer.map(drop).map_err(failed),
        Err(_) => {
            let context = format!("no response to the callback within {limit:?}");
            Err(Error::new(ErrorKind::Timeout, context))
        }
    }
}
