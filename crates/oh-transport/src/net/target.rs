//! The destination of a connection.

use std::fmt;

use http::Uri;
use url::Url;

/// The destination of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) scheme: &'a str,
    /// The host, without the brackets of an IPv6 address.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
}

impl<'a> Target<'a> {
    pub(crate) fn of_url(url: &'a Url) -> Self {
        Self {
            scheme: url.scheme(),
            host: bare(url.host_str().unwrap_or_default()),
            port: url.port_or_known_default().unwrap_or(80),
        }
    }

    pub(crate) fn of_uri(uri: &'a Uri) -> Self {
        let scheme = uri.scheme_str().unwrap_or("http");
        let default = if scheme == "https" { 443 } else { 80 };
        Self {
            scheme,
            host: bare(uri.host().unwrap_or_default()),
            port: uri.port_u16().unwrap_or(default),
        }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.scheme, "https" | "wss")
    }

    /// Returns whether a proxy forwards requests to this target without a tunnel. Plain requests do
    /// not use a tunnel, because many proxies permit tunnels to port 443 only.
    pub(super) fn is_forwarded(&self) -> bool {
        self.scheme == "http"
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Returns a host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}
