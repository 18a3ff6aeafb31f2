//! Port-forwarding: a WebSocket with the bytes of one connection with a pod.

use std::net::SocketAddr;

use http::{HeaderValue, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

use crate::{
    fake::wire::frames::{self, Inbound, Reader, Writer},
    http::{self as server, Request, Response},
    kubernetes::{refusal::Refusal, world::World},
};

/// The subprotocol that clients ask for.
const PROTOCOL: &str = "v4.channel.k8s.io";

/// Returns the response to a request for a port of a pod, and forwards one connection.
pub(crate) fn forward(
    world: &World,
    request: &mut Request,
    port: u16,
    address: SocketAddr,
) -> Result<Response, Refusal> {
    let refused = |why: &str| Refusal::new(400, "BadRequest", why);
    let offered = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.and_then(|value| value.to_str().ok());
    let mut offered = offered.unwrap_or_default().split(',').map(str::trim);
    if !offered.any(|protocol| protocol == PROTOCOL) {
        return Err(refused("no supported subprotocol"));
    }
    let upgraded = frames::upgrade(request);
    let (head, opening) = upgraded.ok_or_else(|| refused("Upgrade request required"))?;
    world.spawn(async move {
        if let Some((from, to)) = opening.await {
            connect(from, to, port, address).await;
        }
    });
    let mut response = head.map(|()| server::full(""));
    let protocol = HeaderValue::from_static(PROTOCOL);
    let headers = response.headers_mut();
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    Ok(response)
}

async fn connect(from: Reader, mut to: Writer, port: u16, address: SocketAddr) {
    // The first message of the data channel (0) and of the error channel (1) is the port.
    for channel in [0, 1] {
        to.binary(&[&[channel], &port.to_le_bytes()]);
    }
    match TcpStream::connect(address).await {
        Ok(pod) if to.flush().await.is_ok() => {
            let (pod_read, pod_write) = pod.into_split();
            let (sender, inbound) = mpsc::channel(16);
            // Either end closes the connection.
            tokio::select! {
                () = from.pump(sender) => {}
                () = to_pod(inbound, pod_write) => {}
                () = from_pod(pod_read, &mut to) => {}
            }
        }
        Ok(_) => {}
        Err(error) => {
            let text = format!("error forwarding port {port} to pod: {error}");
            to.binary(&[&[1], text.as_bytes()]);
        }
    }
    to.close(1000, "").await;
}

async fn to_pod(mut inbound: mpsc::Receiver<Inbound>, mut pod: OwnedWriteHalf) {
    while let Some(message) = inbound.recv().await {
        match &message {
            Inbound::End => return,
            Inbound::Binary(bytes) => match bytes.split_first() {
                Some((0, bytes)) if pod.write_all(bytes).await.is_err() => return,
                _ => {}
            },
            _ => {}
        }
    }
}

async fn from_pod(mut pod: OwnedReadHalf, to: &mut Writer) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(count @ 1..) = pod.read(&mut buffer).await {
        to.binary(&[&[0], &buffer[..count]]);
        if to.flush().await.is_err() {
            return;
        }
    }
}
