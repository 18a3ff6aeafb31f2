//! A port of this machine that leads to a port of a pod, through the API of the cluster.

use std::{io, net::SocketAddr, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tracing::debug;

use crate::{Error, ErrorKind, Result};

/// Delay after a failed `accept`, for example because too many files are open.
const FULL: Duration = Duration::from_millis(50);

/// A listener on 127.0.0.1. Each connection is forwarded to the pod. All end with this value.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Forward {
    /// `pod` is the pod of new connections.
    pub(crate) async fn start(
        pods: Api<Pod>,
        pod: watch::Receiver<String>,
        port: u16,
    ) -> Result<Self> {
        let opened = async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let address = listener.local_addr()?;
            Ok::<_, io::Error>((listener, address))
        };
        let (listener, address) = opened.await.map_err(|error| {
            let message = "cannot open a port on 127.0.0.1 for the connection with the pod";
            Error::new(ErrorKind::PortTaken, message).with_source(error)
        })?;
        let accepting = tokio::spawn(accept(listener, pods, pod, port));
        Ok(Self { address, accepting })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, pods: Api<Pod>, pod: watch::Receiver<String>, port: u16) {
    // Dropped with this task, which ends all connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let pod = pod.borrow().clone();
                    connections.spawn(forward(stream, pods.clone(), pod, port));
                }
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    sleep(FULL).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Forwards one connection. If the pod cannot be reached, the connection is closed.
async fn forward(mut stream: TcpStream, pods: Api<Pod>, pod: String, port: u16) {
    let _small_packets = stream.set_nodelay(true);
    let mut forwarder = match pods.portforward(&pod, &[port]).await {
        Ok(forwarder) => forwarder,
        Err(error) => {
            debug!(%error, pod, port, "the cluster does not forward the port");
            return;
        }
    };
    if let Some(mut far) = forwarder.take_stream(port) {
        let copied = copy_bidirectional(&mut stream, &mut far).await;
        debug!(?copied, pod, port, "a forwarded connection has ended");
    }
}
