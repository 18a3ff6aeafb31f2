//! The default transport of a client, which programs can share, configure or wrap.

use std::{fmt, net::IpAddr, num::NonZeroUsize, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, Request, Response};
use url::Url;

use crate::{
    Body, HttpTransport, Result, Socket, SocketTransport,
    environment::Variables,
    http::HyperTransport,
    net::{Connector, Proxies, Resolver, Tls, TlsOptions},
    ws::{FastTransport, SocketLimits},
};

/// The default HTTP and WebSocket transport of a [`Client`](crate::Client). Cheap to clone; clones
/// share their connections.
///
/// Wrap a network to add headers to each request, to record requests or to route them. A wrapper
/// that is also used for sockets implements [`SocketTransport`] in the same way.
///
/// ```
/// use http::{Request, Response};
/// use oh_transport::{Body, Client, HttpTransport, Network, Result, async_trait};
///
/// #[derive(Debug)]
/// struct Signed(Network);
///
/// #[async_trait]
/// impl HttpTransport for Signed {
///     async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>> {
///         let token = "a token that was fetched just now".parse().expect("a header's value");
///         request.headers_mut().insert("x-gateway-token", token);
///         self.0.send(request).await
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let network = Network::builder().build()?;
/// let client = Client::builder("http://127.0.0.1:8000")
///     .http_transport(Signed(network.clone()))
///     .socket_transport(network)
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Network {
    connector: Connector,
    http: HyperTransport,
    sockets: FastTransport,
}

impl Network {
    /// Creates a builder with the default settings.
    pub fn builder() -> NetworkBuilder {
        NetworkBuilder {
            environment: true,
            proxy: None,
            resolver: Resolver::default(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(4),
            max_connections: None,
            limits: SocketLimits::default(),
            tls: TlsOptions::default(),
        }
    }

    /// Validates the proxy and TLS settings for a URL without connecting.
    pub(crate) fn check(&self, url: &Url) -> Result<()> {
        self.connector.check(url)
    }
}

#[async_trait]
impl HttpTransport for Network {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        self.http.send(request).await
    }

    fn reset_connections(&self) {
        self.http.reset_connections();
    }
}

#[async_trait]
impl SocketTransport for Network {
    async fn connect(&self, url: &Url, headers: &HeaderMap) -> Result<Socket> {
        self.sockets.connect(url, headers).await
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// Options for a [`Network`].
#[must_use = "a builder does nothing until it is built"]
pub struct NetworkBuilder {
    environment: bool,
    proxy: Option<String>,
    resolver: Resolver,
    connect_timeout: Duration,
    idle_timeout: Duration,
    max_connections: Option<NonZeroUsize>,
    limits: SocketLimits,
    tls: TlsOptions,
}

impl NetworkBuilder {
    /// Sets the HTTP proxy for every host, including loopback. Overrides the proxy from the
    /// environment.
    ///
    /// The URL is `http://proxy:3128` or `https://…`, with a percent-encoded user and password if
    /// the proxy requires them. Whitespace and line breaks around the URL are ignored.
    ///
    /// The proxy forwards plain `http` requests and sees their full content, including the session
    /// key. `https` requests and all sockets use a tunnel (`CONNECT`), which the proxy must permit
    /// to the server's port.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Ignores the environment. By default, these variables choose a proxy for all hosts except
    /// this machine's own addresses:
    ///
    /// * `http_proxy` or `HTTP_PROXY` for `http` and `ws`, `https_proxy` or `HTTPS_PROXY` for
    ///   `https` and `wss`, and `all_proxy` or `ALL_PROXY` for schemes without their own variable.
    ///   Lower case takes precedence, and an empty value counts as unset. curl ignores upper-case
    ///   `HTTP_PROXY`. This crate uses it, except in a CGI program (`REQUEST_METHOD` is set), where
    ///   a request could set it.
    /// * `no_proxy` or `NO_PROXY`: hosts that are reached directly, separated by commas or spaces.
    ///   An entry is `*`, a domain (including its subdomains), an address or a network such as
    ///   `10.0.0.0/8`. Each entry can end with an optional `:port`.
    ///
    /// An invalid value is an error for every URL that it would apply to.
    pub fn ignore_environment(mut self) -> Self {
        self.environment = false;
        self
    }

    /// Sets the addresses of a host, which replaces the name lookup. The port is taken from the
    /// URL.
    pub fn resolve(mut self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.resolver.set(host, addresses);
        self
    }

    /// Sets the timeout for opening a connection, including name lookup, proxy and TLS. Default: 10
    /// s.
    ///
    /// If a host has both IPv6 and IPv4 addresses, the second family is tried in parallel after 300
    /// ms. The addresses of one family share the time.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets how long an idle connection is kept for the next request. Default: 4 s, because the
    /// server closes idle connections after 5 s.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// Sets how many HTTP connections may be in use at the same time, to all hosts together.
    /// Default: no limit.
    ///
    /// Another request waits until the response of one has been read or dropped. The time counts
    /// towards its timeouts. A program that keeps as many responses open as the limit, such as
    /// downloads, must therefore not wait for another request. Sockets are not counted.
    pub fn max_connections(mut self, connections: NonZeroUsize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Sets the timeout for the response to a WebSocket handshake, measured from the established
    /// connection. Default: 30 s.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.limits = self.limits.with_handshake(limit);
        self
    }

    /// Sets how long a socket may receive nothing, not even a pong, before it counts as lost.
    /// Default: 100 s, because a blocking hook freezes the whole server, by default for up to a
    /// minute. A ping is sent every fifth of this time.
    pub fn silence_timeout(mut self, limit: Duration) -> Self {
        self.limits = self.limits.with_silence(limit);
        self
    }

    /// Sets the maximum size of a message that a socket accepts, in bytes. Default: 64 MiB.
    /// Maximum: 1 GiB. The server sends frames of up to 4 MiB on session sockets, and of any size
    /// on legacy sockets.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.limits = self.limits.with_message(bytes);
        self
    }

    /// Adds trusted root certificates, in PEM (one or several) or DER, to those of the platform.
    #[cfg(feature = "tls")]
    pub fn root_certificate(mut self, certificate: impl AsRef<[u8]>) -> Self {
        self.tls.add_root(certificate.as_ref());
        self
    }

    /// Sets the client certificate for servers that request one (mTLS). `chain` is the certificate
    /// and its chain in PEM, and the private key is PEM without a passphrase.
    #[cfg(feature = "tls")]
    pub fn client_certificate(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl Into<secrecy::SecretString>,
    ) -> Self {
        self.tls.set_identity(chain.as_ref(), &key.into());
        self
    }

    /// Creates the network. Opens no connection.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the proxy, a root certificate or the client certificate is
    /// invalid. An invalid environment variable does not fail here, but in each request that it
    /// applies to.
    pub fn build(self) -> Result<Network> {
        self.build_in(&|name| std::env::var_os(name))
    }

    pub(crate) fn build_in(self, variables: &Variables<'_>) -> Result<Network> {
        let proxies = match &self.proxy {
            Some(proxy) => Proxies::fixed(proxy)?,
            None if self.environment => Proxies::ambient(variables),
            None => Proxies::ambient(&|_| None),
        };
        let tls = Tls::new(self.tls)?;
        let connector = Connector::new(self.connect_timeout, proxies, tls, self.resolver);
        Ok(Network {
            http: HyperTransport::new(connector.clone(), self.idle_timeout, self.max_connections),
            sockets: FastTransport::new(connector.clone(), self.limits),
            connector,
        })
    }
}

// The proxy URL may contain credentials.
impl fmt::Debug for NetworkBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkBuilder")
            .field("environment", &self.environment)
            .field("proxy", &self.proxy.as_ref().map(|_| "set"))
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
