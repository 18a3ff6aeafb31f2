//! The network as a transport: what a client uses by default, to share, configure or wrap.

use std::{fmt, net::IpAddr, time::Duration};

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

/// HTTP and WebSocket over the network: the transport that a [`Client`](crate::Client) uses unless
/// it is given another. Cheap to clone; clones share their connections.
///
/// Wrap it to add headers to each request, to record, or to route. A wrapper that is used for
/// sockets too implements [`SocketTransport`] in the same way.
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
            limits: SocketLimits::default(),
            tls: TlsOptions::default(),
        }
    }

    /// Checks proxy and TLS for a URL without connecting.
    pub(crate) fn check(&self, url: &Url) -> Result<()> {
        self.connector.check(url)
    }
}

#[async_trait]
impl HttpTransport for Network {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        self.http.send(request).await
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
    limits: SocketLimits,
    tls: TlsOptions,
}

impl NetworkBuilder {
    /// Uses this HTTP proxy for every host, loopback included, instead of the one the environment
    /// names: `http://proxy:3128`, or `https://`, with percent-encoded user and password where the
    /// proxy wants them. Blanks and line ends around the URL are ignored.
    ///
    /// Plain `http` requests are forwarded by the proxy, which sees them whole, session key
    /// included. `https` requests and all sockets go through a tunnel (`CONNECT`), which the proxy
    /// must permit to the server's port.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Ignores the environment. Otherwise these variables choose a proxy, for every host but this
    /// machine's own addresses:
    ///
    /// * `http_proxy` or `HTTP_PROXY` for `http` and `ws`, `https_proxy` or `HTTPS_PROXY` for
    ///   `https` and `wss`, `all_proxy` or `ALL_PROXY` for what has none of its own. Lower case
    ///   takes precedence and an empty value counts as unset. curl ignores upper-case
    ///   `HTTP_PROXY`; here it counts, except in a CGI program (`REQUEST_METHOD` is set), where a
    ///   request could set it.
    /// * `no_proxy` or `NO_PROXY`: hosts that are reached directly, separated by commas or blanks:
    ///   `*`, a domain with its subdomains, an address or a network such as `10.0.0.0/8`, each
    ///   with an optional `:port`.
    ///
    /// A value that cannot be used is an error for every URL it would apply to.
    pub fn ignore_environment(mut self) -> Self {
        self.environment = false;
        self
    }

    /// Sets the addresses of a host, instead of looking it up. The port is the URL's.
    pub fn resolve(mut self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.resolver.set(host, addresses);
        self
    }

    /// Sets how long making a connection may take, name lookup, proxy and TLS included. Default
    /// 10 s. Where a host has IPv6 and IPv4 addresses, the second family is tried too after 300 ms;
    /// addresses of one family share the time.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets how long an idle connection is kept for the next request. Default 4 s: the server
    /// closes its end after 5.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// Sets how long the server may take to answer a WebSocket handshake, once connected. Default
    /// 30 s.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.limits = self.limits.with_handshake(limit);
        self
    }

    /// Sets how long a socket may receive nothing at all, answers to our pings included, before it
    /// counts as lost. Default 100 s: a blocking hook freezes the whole server, by default for up
    /// to a minute. A ping is sent every fifth of this time.
    pub fn silence_timeout(mut self, limit: Duration) -> Self {
        self.limits = self.limits.with_silence(limit);
        self
    }

    /// Sets the size of the largest message a socket accepts, in bytes. Default 64 MiB, at most
    /// 1 GiB; the server sends frames of up to 4 MiB on session sockets, and of any size on legacy
    /// ones.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.limits = self.limits.with_message(bytes);
        self
    }

    /// Trusts these certificates too, PEM (one or several) or DER, besides the platform's.
    #[cfg(feature = "tls")]
    pub fn root_certificate(mut self, certificate: impl AsRef<[u8]>) -> Self {
        self.tls.add_root(certificate.as_ref());
        self
    }

    /// Presents this certificate to servers that ask for one (mTLS): the certificate and its chain
    /// as PEM, and its private key as PEM without a passphrase.
    #[cfg(feature = "tls")]
    pub fn client_certificate(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl Into<secrecy::SecretString>,
    ) -> Self {
        self.tls.set_identity(chain.as_ref(), &key.into());
        self
    }

    /// Creates the network. Connects to nothing.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the proxy, a root certificate or the client certificate cannot be used.
    /// A variable of the environment that cannot be used is an error of the requests it applies
    /// to.
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
            http: HyperTransport::new(connector.clone(), self.idle_timeout),
            sockets: FastTransport::new(connector.clone(), self.limits),
            connector,
        })
    }
}

// A proxy's URL may hold credentials.
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
