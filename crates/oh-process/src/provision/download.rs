//! Downloads pages, and files with a known checksum, from a package index over HTTP.

use std::{future::poll_fn, path::Path, pin::Pin, time::Duration};

use futures_core::Stream as _;
use http::{HeaderValue, Method, Response, StatusCode, header};
use oh_protocol::Request;
use oh_transport::{Body, Client, Network};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, io::AsyncWriteExt as _};
use url::Url;

use crate::{
    Error, ErrorKind, Result,
    provision::index::{Index, Listed},
};

/// Maximum size of a listing. uv's listing is 2 MB.
const PAGE_LIMIT: usize = 64 << 20;
/// Maximum size of a file. uv is 25 MB.
const FILE_LIMIT: u64 = 512 << 20;
const REDIRECTS: usize = 5;

/// Downloads from one index.
pub(crate) struct Downloader<'a> {
    pub(crate) index: &'a Index,
    /// Maximum time without data from the index.
    pub(crate) patience: Duration,
}

impl Downloader<'_> {
    /// Downloads a page. Returns its body, whether it is JSON, and its final URL.
    pub(crate) async fn page(
        &self,
        url: Url,
        accept: &'static str,
    ) -> Result<(Vec<u8>, bool, Url)> {
        let (url, answer) = self.get(url, accept).await?;
        let json = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.contains("json"));
        let body = answer.into_body().collect(PAGE_LIMIT).await;
        let body = body.map_err(|error| lost(&url, error))?;
        Ok((body.to_vec(), json, url))
    }

    /// Downloads a file and verifies its length and checksum. `progress` receives the number of
    /// bytes received and their expected number.
    pub(crate) async fn file(
        &self,
        listed: &Listed,
        path: &Path,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<()> {
        let Some(expected) = &listed.sha256 else {
            let message = format!("the package index has no checksum for {}", listed.name);
            return Err(Error::new(ErrorKind::Provision, message));
        };
        let failed = |error: std::io::Error| {
            Error::directory(format!("cannot write {}", path.display()), error)
        };
        let (url, answer) = self.get(listed.url.clone(), "*/*").await?;
        let mut body = answer.into_body();
        let total = listed.size.or_else(|| body.length());
        let mut file = File::create(path).await.map_err(failed)?;
        let (mut hash, mut received) = (Sha256::new(), 0_u64);
        progress(0, total);
        loop {
            let Some(chunk) = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await else {
                break;
            };
            let chunk = chunk.map_err(|error| lost(&url, error))?;
            received += chunk.len() as u64;
            if received > total.unwrap_or(FILE_LIMIT).min(FILE_LIMIT) {
                let message = format!("{} is larger than the package index states", listed.name);
                return Err(Error::new(ErrorKind::Provision, message));
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(failed)?;
            progress(received, total);
        }
        file.flush().await.map_err(failed)?;
        let found: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if found != *expected {
            let message = format!(
                "wrong checksum of {}: the index lists {expected}, the file has {found}; the file \
                 was deleted",
                listed.name
            );
            return Err(Error::new(ErrorKind::Provision, message));
        }
        Ok(())
    }

    /// Sends a `GET` and follows redirects. Credentials are sent to the index only.
    async fn get(&self, mut url: Url, accept: &'static str) -> Result<(Url, Response<Body>)> {
        for _ in 0..=REDIRECTS {
            let answer = self.send(&url, accept).await?;
            if answer.status() == StatusCode::OK {
                return Ok((url, answer));
            }
            let next = answer
                .headers()
                .get(header::LOCATION)
                .filter(|_| answer.status().is_redirection())
                .and_then(|to| url.join(to.to_str().ok()?).ok());
            match next {
                Some(next) if next.scheme() == "https" || next.scheme() == url.scheme() => {
                    url = next;
                }
                _ => {
                    let message = format!("{} responded with {}", shown(&url), answer.status());
                    return Err(Error::new(ErrorKind::IndexUnreachable, message));
                }
            }
        }
        let message = format!("too many redirects from {}", shown(&url));
        Err(Error::new(ErrorKind::IndexUnreachable, message))
    }

    /// Sends one request. Fails if the server sends no data for too long, in the body as well.
    async fn send(&self, url: &Url, accept: &'static str) -> Result<Response<Body>> {
        let mut target = url.path().to_owned();
        if let Some(query) = url.query() {
            target = format!("{target}?{query}");
        }
        let mut request = Request::new(Method::GET, target);
        let headers = &mut request.headers;
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("openhands-rs/", env!("CARGO_PKG_VERSION"))),
        );
        let authorization = self.index.authorization(url);
        if let Some(mut value) =
            authorization.and_then(|value| HeaderValue::try_from(value.expose_secret()).ok())
        {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        // The proxies of the environment also apply to an index; its trace headers do not.
        let network = Network::builder().build();
        let network = network.map_err(|error| lost(url, error))?;
        let client = Client::builder(url.origin().ascii_serialization())
            .ignore_environment()
            .http_transport(network)
            .build()
            .map_err(|error| lost(url, error))?;
        let answer = client.stream_within(request, Body::empty(), self.patience);
        answer.await.map_err(|error| lost(url, error))
    }
}

fn lost(url: &Url, error: oh_transport::Error) -> Error {
    let message = format!("cannot download from {}: {error}", shown(url));
    Error::new(ErrorKind::IndexUnreachable, message).with_source(error)
}

/// Formats a URL without the parts that may be secret.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
