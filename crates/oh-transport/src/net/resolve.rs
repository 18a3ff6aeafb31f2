//! Name lookup by the system, with addresses that the caller can override.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;

/// A resolver for host names. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolver(Arc<HashMap<String, Vec<SocketAddr>>>);

impl Resolver {
    /// Sets the addresses of a host. The connector fills in the port.
    pub(crate) fn set(&mut self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
        Arc::make_mut(&mut self.0).insert(host.to_ascii_lowercase(), addresses.collect());
    }
}

impl tower_service::Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let set = self.0.get(&name.as_str().to_ascii_lowercase()).cloned();
        Box::pin(async move {
            Ok(match set {
                Some(addresses) => addresses.into_iter(),
                None => {
                    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
                    Vec::from_iter(found).into_iter()
                }
            })
        })
    }
}
