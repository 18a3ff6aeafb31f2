//! Connections with engines that the engine's client library cannot open in our way: TLS with the
//! user's own CA only, and the command `ssh`.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::docker::ssh::Host;

/// Time limit for the answer to a request, as that of other connections.
const ANSWER: u64 = 120;
/// Time for which a connection waits for the next request.
const IDLE: Duration = Duration::from_secs(10);

/// How a connection is opened.
#[derive(Clone)]
pub(crate) enum Dial {
    /// By the command `ssh`, within this time.
    Ssh(Host, Duration),
    /// By TLS, to a host and port.
    #[cfg(feature = "tls")]
    Tls(tokio_rustls::TlsConnector, String, u16),
}

impl Dial {
    async fn open(self) -> io::Result<Stream> {
        let stream: Box<dyn Both> = match self {
            Self::Ssh(host, within) => Box::new(host.dial(within).map_err(io::Error::other)?),
            #[cfg(feature = "tls")]
            Self::Tls(connector, host, port) => {
                Box::new(crate::docker::tls::dial(&connector, &host, port).await?)
            }
        };
        Ok(Stream(TokioIo::new(stream)))
    }

    /// Returns a client whose connections are opened in this way.
    pub(crate) fn client(self) -> Result<Docker, bollard::errors::Error> {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(Connector(Arc::new(self)));
        let send = move |request: BollardRequest| {
            let sent = client.request(request);
            async move { sent.await.map_err(bollard::errors::Error::from) }
        };
        let address = Some("http://engine");
        Docker::connect_with_custom_transport(send, address, ANSWER, API_DEFAULT_VERSION)
    }
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// A connection, for the HTTP client.
struct Stream(TokioIo<Box<dyn Both>>);

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

#[derive(Clone)]
struct Connector(Arc<Dial>);

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(Dial::clone(&self.0).open())
    }
}
