//! Opens a byte stream to a host: TCP, through a proxy if one is configured, with TLS if the scheme
//! requires it.

use std::{io, sync::Arc, time::Duration};

use http::{StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::{io::AsyncWriteExt, time::timeout};
use tower_service::Service as _;
use url::Url;

use super::{Head, Proxies, Resolver, Stream, Target, Tls, lost, proxy::Hop, read_head};
use crate::{Error, ErrorKind, Result};

/// A connector for byte streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Inner>);

struct Inner {
    limit: Duration,
    proxies: Proxies,
    tls: Tls,
    tcp: HttpConnector<Resolver>,
}

/// An open connection.
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    /// Whether the stream ends at a proxy that forwards plain requests.
    pub(crate) forwarded: bool,
}

impl Connector {
    pub(crate) fn new(limit: Duration, proxies: Proxies, tls: Tls, resolver: Resolver) -> Self {
        // `HttpConnector` tries the other address family after 300 ms. The addresses of one family
        // share the limit, so that an unresponsive address does not use up the time of the others.
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.set_connect_timeout(Some(limit));
        // Nagle's algorithm would delay frames and requests, which are small and wait for a
        // response.
        tcp.set_nodelay(true);
        Self(Arc::new(Inner {
            limit,
            proxies,
            tls,
            tcp,
        }))
    }

    /// Checks that a URL can be reached with these settings, without connecting.
    ///
    /// # Errors
    ///
    /// Returns an error if the proxy for the URL is invalid, or if TLS is needed and cannot be set
    /// up.
    pub(crate) fn check(&self, url: &Url) -> Result<()> {
        let target = Target::of_url(url);
        let hop = self.0.proxies.to(&target)?;
        if target.is_encrypted() || hop.is_some_and(|hop| hop.encrypted) {
            self.0.tls.prepare()?;
        }
        Ok(())
    }

    /// Returns the proxy that forwards plain requests to a URL, if any.
    pub(crate) fn forwarder(&self, uri: &Uri) -> Result<Option<&Hop>> {
        if self.0.proxies.is_empty() {
            return Ok(None);
        }
        let target = Target::of_uri(uri);
        let hop = self.0.proxies.to(&target)?;
        Ok(hop.filter(|_| target.is_forwarded()))
    }

    /// Connects to a target, within the connect timeout.
    ///
    /// If this method fails, the server has not seen a request.
    pub(crate) async fn connect(&self, target: &Target<'_>) -> Result<Connected> {
        let connecting = async {
            let Some(hop) = self.0.proxies.to(target)? else {
                let stream = self.tcp(target).await?;
                return self.encrypt(stream, target).await;
            };
            let stream = self.proxy(hop).await?;
            if target.is_forwarded() {
                return Ok(Connected {
                    stream,
                    forwarded: true,
                });
            }
            let stream = tunnel(stream, hop, target).await?;
            self.encrypt(stream, target).await
        };
        timeout(self.0.limit, connecting).await.unwrap_or_else(|_| {
            let message = format!("cannot connect to {target} within {:?}", self.0.limit);
            Err(Error::new(ErrorKind::Connect, message).timed_out())
        })
    }

    async fn encrypt(&self, stream: Stream, target: &Target<'_>) -> Result<Connected> {
        let stream = match target.is_encrypted() {
            true => self.0.tls.encrypt(stream, target.host).await?,
            false => stream,
        };
        Ok(Connected {
            stream,
            forwarded: false,
        })
    }

    async fn proxy(&self, hop: &Hop) -> Result<Stream> {
        let stream = self.tcp(&hop.target()).await?;
        match hop.encrypted {
            true => self.0.tls.encrypt(stream, &hop.host).await,
            false => Ok(stream),
        }
    }

    async fn tcp(&self, target: &Target<'_>) -> Result<Stream> {
        let uri = Uri::try_from(format!("http://{target}/"));
        let uri = uri.map_err(|error| {
            let message = format!("{} is not a valid host name", target.host);
            Error::new(ErrorKind::InvalidInput, message).with_source(error)
        })?;
        let stream = self.0.tcp.clone().call(uri).await.map_err(|error| {
            let message = format!("cannot connect to {target}");
            let timed_out = has_timed_out(&error);
            let error = Error::new(ErrorKind::Connect, message).with_source(error);
            if timed_out { error.timed_out() } else { error }
        })?;
        Ok(Stream::new(stream.into_inner()))
    }
}

impl Hop {
    fn target(&self) -> Target<'_> {
        Target {
            scheme: "http",
            host: &self.host,
            port: self.port,
        }
    }
}

fn has_timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::TimedOut;
        }
        cause = error.source();
    }
    false
}

/// Opens a tunnel to a target through a proxy.
async fn tunnel(mut stream: Stream, hop: &Hop, target: &Target<'_>) -> Result<Stream> {
    let proxy = hop.target();
    let mut ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(authorization) = &hop.authorization {
        ask.extend_from_slice(b"Proxy-Authorization: ");
        ask.extend_from_slice(authorization.as_bytes());
        ask.extend_from_slice(b"\r\n");
    }
    ask.extend_from_slice(b"\r\n");
    let what = format!("tunnel of proxy {proxy}");
    let asked = async {
        let written = stream.write_all(&ask).await;
        written.map_err(|error| lost(&what, error))?;
        let flushed = stream.flush().await;
        flushed.map_err(|error| lost(&what, error))?;
        read_head(&mut stream, &what).await
    };
    // The tunnel was not opened, so the server has not seen anything.
    let Head { status, rest, .. } = asked.await.map_err(|error| {
        let message = format!("no valid response from proxy {proxy}");
        Error::new(ErrorKind::Connect, message).with_source(error)
    })?;
    if status.is_success() {
        // TLS and HTTP servers do not send anything first, so more data is an error.
        return match rest.is_empty() {
            true => Ok(stream),
            false => Err(Error::new(
                ErrorKind::Connect,
                format!("proxy {proxy} sent unexpected data in the tunnel to {target}"),
            )),
        };
    }
    Err(refused(hop, status, &format!("a tunnel to {target}")))
}

/// Returns the error for a status of the proxy itself.
pub(crate) fn refused(hop: &Hop, status: StatusCode, what: &str) -> Error {
    let kind = match status.is_server_error() {
        true => ErrorKind::Connect,
        false => ErrorKind::Proxy,
    };
    let hint = match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => "; put user and password into the proxy URL",
        _ => "; set NO_PROXY if the server can be reached directly",
    };
    let proxy = hop.target();
    let message = format!("proxy {proxy} returned {status} to {what}{hint}");
    Error::new(kind, message).with_status(status)
}

#[cfg(test)]
mod tests;
