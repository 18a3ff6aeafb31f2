//! A byte stream to a host: TCP, with TLS where the scheme asks for it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use crate::{Error, ErrorKind, Result};

/// A connected stream, plain or encrypted.
pub(crate) struct Stream(Box<dyn Io>);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens connections; cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    limit: Duration,
    #[cfg(feature = "tls")]
    tls: tokio_rustls::TlsConnector,
}

impl Connector {
    pub(crate) fn new(limit: Duration) -> Result<Self> {
        Ok(Self {
            limit,
            #[cfg(feature = "tls")]
            tls: tls::connector()?,
        })
    }

    /// Connects to the host and port of `url`, within the limit for connecting.
    pub(crate) async fn connect(&self, url: &Url) -> Result<Stream> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or(80);
        let connecting = async {
            let tcp = TcpStream::connect((host, port)).await.map_err(|error| {
                Error::new(
                    ErrorKind::Connect,
                    format!("cannot connect to {host}:{port}"),
                )
                .with_source(error)
            })?;
            // Frames and requests are small and wait for answers: Nagle only delays them.
            let _ = tcp.set_nodelay(true);
            match url.scheme() {
                "https" | "wss" => self.encrypt(tcp, host).await,
                _ => Ok(Stream(Box::new(tcp))),
            }
        };
        timeout(self.limit, connecting).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Connect,
                format!("no connection to {host}:{port} within {:?}", self.limit),
            ))
        })
    }

    #[cfg(feature = "tls")]
    async fn encrypt(&self, tcp: TcpStream, host: &str) -> Result<Stream> {
        let failed = |message: &str| Error::new(ErrorKind::Tls, format!("{message} with {host}"));
        let name = rustls::pki_types::ServerName::try_from(host.to_owned())
            .map_err(|error| failed("no TLS").with_source(error))?;
        let stream = self
            .tls
            .connect(name, tcp)
            .await
            .map_err(|error| failed("the TLS handshake failed").with_source(error))?;
        Ok(Stream(Box::new(stream)))
    }

    #[cfg(not(feature = "tls"))]
    async fn encrypt(&self, _tcp: TcpStream, host: &str) -> Result<Stream> {
        Err(Error::new(
            ErrorKind::Tls,
            format!("{host} wants TLS, and this build has not the feature `tls`"),
        ))
    }
}

#[cfg(feature = "tls")]
mod tls {
    //! The TLS client configuration: the platform's certificate verifier, provider ring.

    use std::sync::Arc;

    use crate::{Error, ErrorKind, Result};

    pub(super) fn connector() -> Result<tokio_rustls::TlsConnector> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let failed = |error: rustls::Error| {
            Error::new(ErrorKind::Tls, "TLS cannot be set up").with_source(error)
        };
        let verifier = rustls_platform_verifier::Verifier::new(provider.clone()).map_err(failed)?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
    }
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
