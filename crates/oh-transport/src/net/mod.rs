//! Connections: proxies, name lookup, TCP and TLS.

mod connect;
mod head;
mod proxy;
mod resolve;
mod stream;
mod target;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;

pub(crate) use connect::{Connector, refused};
pub(crate) use head::{Head, lost, read_head};
pub(crate) use proxy::Proxies;
pub(crate) use resolve::Resolver;
pub(crate) use stream::Stream;
pub(crate) use target::Target;
pub(crate) use tls::{Tls, TlsOptions, is_handshake_alert};
