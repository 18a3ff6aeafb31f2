//! The pods of a fake cluster: servers that the test gives.

use std::{any::Any, fmt, net::SocketAddr, pin::Pin, sync::Arc};

/// A server that acts as a pod: its address, and the value that keeps the server running.
///
/// The value is dropped when the cluster ends the pod.
pub struct Pod {
    pub(crate) address: SocketAddr,
    _server: Option<Box<dyn Any + Send + Sync>>,
}

impl Pod {
    /// Creates a pod whose port is at this address.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            _server: None,
        }
    }

    /// Sets the value to drop when the pod ends.
    #[must_use]
    pub fn owning(mut self, server: impl Any + Send + Sync) -> Self {
        self._server = Some(Box::new(server));
        self
    }
}

impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pod")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

type Starting = Pin<Box<dyn Future<Output = Pod> + Send>>;

/// Starts pods.
#[derive(Clone)]
pub(crate) struct Factory(Arc<dyn Fn() -> Starting + Send + Sync>);

impl Factory {
    pub(crate) fn new<F>(start: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Pod> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(start())))
    }

    pub(crate) async fn start(&self) -> Pod {
        (self.0)().await
    }
}

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Factory")
    }
}
