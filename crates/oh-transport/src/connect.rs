//! A byte stream to a host: TCP, through a proxy where one leads there, with TLS where the scheme
//! asks for it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{StatusCode, Uri};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use crate::{
    Error, ErrorKind, Result,
    head::{lost, read_head},
    proxy::{Hop, Proxies},
    tls::{self, Tls},
};

/// A connected stream, plain or encrypted.
pub(crate) struct Stream(Box<dyn Io>);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Stream {
    pub(crate) fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Box::new(io))
    }
}

/// Opens connections; cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    limit: Duration,
    proxies: Proxies,
    tls: tls::Ready,
}

impl Connector {
    pub(crate) fn new(limit: Duration, proxies: Proxies, tls: Tls, base: &Url) -> Result<Self> {
        // The platform's certificates are many files: they are read only if they will be needed.
        let proxy = proxies.to(base).ok().flatten();
        let encrypted = base.scheme() == "https"
            || proxy.is_some_and(|hop| hop.uri.scheme_str() == Some("https"));
        Ok(Self {
            limit,
            proxies,
            tls: tls.ready(encrypted)?,
        })
    }

    /// Connects to the host and port of `url`, within the limit for connecting.
    ///
    /// Whatever fails here, the server has not seen a request.
    pub(crate) async fn connect(&self, url: &Url) -> Result<Stream> {
        let host = bare(url.host_str().unwrap_or_default());
        let port = url.port_or_known_default().unwrap_or(80);
        let connecting = async {
            let stream = match self.proxies.to(url)? {
                Some(hop) => self.tunnel(&hop, url, port).await?,
                None => tcp(host, port).await?,
            };
            match url.scheme() {
                "https" | "wss" => self.tls.encrypt(stream, host).await,
                _ => Ok(stream),
            }
        };
        timeout(self.limit, connecting).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Connect,
                format!("no connection to {host}:{port} within {:?}", self.limit),
            ))
        })
    }

    /// A stream to the host of `url` through a proxy.
    async fn tunnel(&self, hop: &Hop, url: &Url, port: u16) -> Result<Stream> {
        let proxy = bare(hop.uri.host().unwrap_or_default());
        let mut stream = tcp(proxy, proxy_port(&hop.uri)).await?;
        if hop.uri.scheme_str() == Some("https") {
            stream = self.tls.encrypt(stream, proxy).await?;
        }
        let authority = format!("{}:{port}", url.host_str().unwrap_or_default());
        let mut head =
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        if let Some(authorization) = &hop.authorization {
            head.extend_from_slice(b"Proxy-Authorization: ");
            head.extend_from_slice(authorization.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let what = format!("tunnel of proxy {proxy}");
        let asked = async {
            stream
                .write_all(&head)
                .await
                .map_err(|error| lost(&what, error))?;
            stream.flush().await.map_err(|error| lost(&what, error))?;
            read_head(&mut stream, &what).await
        };
        // A tunnel that never opened: the server has seen nothing.
        let (status, _) = asked.await.map_err(|error| {
            Error::new(ErrorKind::Connect, format!("no answer from proxy {proxy}"))
                .with_source(error)
        })?;
        match status {
            status if status.is_success() => Ok(stream),
            status => {
                let kind = if status.is_server_error() {
                    ErrorKind::Connect
                } else {
                    ErrorKind::Proxy
                };
                let hint = match status {
                    StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                        "; give user and password in the proxy's URL"
                    }
                    _ => "; set NO_PROXY if it can be reached directly",
                };
                let message =
                    format!("proxy {proxy} answered {status} to a tunnel to {authority}{hint}");
                Err(Error::new(kind, message))
            }
        }
    }
}

async fn tcp(host: &str, port: u16) -> Result<Stream> {
    let stream = TcpStream::connect((host, port)).await.map_err(|error| {
        Error::new(
            ErrorKind::Connect,
            format!("cannot connect to {host}:{port}"),
        )
        .with_source(error)
    })?;
    // Frames and requests are small and wait for answers: Nagle only delays them.
    let _ = stream.set_nodelay(true);
    Ok(Stream::new(stream))
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

fn proxy_port(uri: &Uri) -> u16 {
    let default = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    uri.port_u16().unwrap_or(default)
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
