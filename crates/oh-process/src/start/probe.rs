//! Checks whether a server answers, and whether it is the one that this process started.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use oh_protocol::{
    Call, Request,
    calls::{init::Init, server::ServerInfo},
};
use oh_transport::{Body, Client, Network};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    Error, ErrorKind, Result,
    provision::requirements,
    start::{listener, state::random_key},
};

/// Delay between attempts to connect. The port refuses connections until the server is ready, and a
/// refused loopback connection costs microseconds. So polling this often is cheap, and the average
/// delay is half of this value.
const PAUSE: Duration = Duration::from_millis(4);
/// The time after which a start counts as slow. From then on, the longer [`SLOW_PAUSE`] is used.
const PATIENCE: Duration = Duration::from_secs(60);
const SLOW_PAUSE: Duration = Duration::from_millis(50);
/// Timeout for one answer. The first answers may be slow on a busy machine.
const ANSWER: Duration = Duration::from_secs(20);

/// An authenticated route that is cheap and exists in every version.
pub(crate) const GUARDED: &str = "/api/conversations/count";

/// A port that the operating system gives to no other process while the server starts.
///
/// A bound socket that does not listen keeps the port from processes that ask for any free port. On
/// Linux a server that sets `SO_REUSEADDR`, like this one, can still listen on it.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) address: SocketAddr,
    _socket: Option<TcpSocket>,
}

/// Reserves a port. Port 0 reserves any free one.
pub(crate) fn reserve(wanted: SocketAddr) -> Result<Reservation> {
    let reserve = || {
        let socket = match wanted {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(wanted)?;
        let address = socket.local_addr()?;
        std::io::Result::Ok(Reservation {
            address,
            _socket: cfg!(target_os = "linux").then_some(socket),
        })
    };
    reserve().map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse && wanted.port() != 0 {
            return port_taken(wanted);
        }
        let ip = wanted.ip();
        let message = format!(
            "cannot listen on {ip}: it is not an address of this machine, or listening is not \
             permitted"
        );
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}

pub(crate) fn port_taken(address: SocketAddr) -> Error {
    let (port, ip) = (address.port(), address.ip());
    Error::new(
        ErrorKind::PortTaken,
        format!(
            "port {port} on {ip} is taken by another program; stop that program, or set no port \
             to use a free one"
        ),
    )
}

/// Key that proves the server's identity.
#[derive(Debug)]
pub(crate) enum Proof<'a> {
    /// An active server accepts its session key and no other.
    Session(&'a SecretString),
    /// A dormant server accepts its secret key for activation and no other.
    Dormant(&'a SecretString),
}

/// Waits until a server answers at `address`, and verifies its identity. On Linux, first checks
/// that the listening process is `ancestor` or a descendant of it, before sending any key. Then
/// checks that the server accepts its key and no other.
///
/// # Errors
///
/// Returns [`ErrorKind::Stranger`] if another program answers.
pub(crate) async fn ready(address: SocketAddr, ancestor: u32, proof: Proof<'_>) -> Result<()> {
    let failed = |error| Error::transport("cannot create a client to check the server", error);
    // Without a key: each request sets the key to test.
    let client = Client::builder(format!("http://{address}"))
        .http_transport(direct().map_err(failed)?)
        .build()
        .map_err(failed)?;
    let begun = tokio::time::Instant::now();
    let mut first = true;
    loop {
        if !std::mem::take(&mut first) {
            let slow = begun.elapsed() > PATIENCE;
            sleep(if slow { SLOW_PAUSE } else { PAUSE }).await;
        }
        if !matches!(
            timeout(ANSWER, TcpStream::connect(address)).await,
            Ok(Ok(_))
        ) {
            continue;
        }
        let listens = spawn_blocking(move || listener::is_within(address, ancestor));
        match listens.await {
            Ok(Ok(Some(true))) => {}
            // The listener is gone.
            Ok(Ok(None)) => continue,
            Ok(Ok(Some(false))) => return Err(stranger(address)),
            Ok(Err(error)) => {
                let message = format!(
                    "cannot determine which process listens at {address}; no key was sent to it"
                );
                return Err(Error::new(ErrorKind::Stranger, message).with_source(error));
            }
            Err(error) => {
                let message = "the tokio runtime is shutting down";
                return Err(Error::new(ErrorKind::Spawn, message).with_source(error));
            }
        }
        match send(&client, get("/ready")).await {
            Some(200) => {}
            // Still starting.
            Some(503) | None => continue,
            Some(_) => return Err(stranger(address)),
        }
        let proven = match &proof {
            Proof::Session(key) => session(&client, key).await?,
            Proof::Dormant(key) => dormant(&client, key).await?,
        };
        match proven {
            Some(true) => return Ok(()),
            Some(false) => return Err(stranger(address)),
            None => {}
        }
    }
}

/// Returns a network that uses no proxy. A server of this machine is reached directly also at an
/// address that is not loopback: a proxy would receive its key.
pub(crate) fn direct() -> oh_transport::Result<Network> {
    Network::builder().ignore_environment().build()
}

/// Returns the server's information about itself. Rejects a server whose version is too old.
pub(crate) async fn version(client: &Client) -> Result<Arc<ServerInfo>> {
    let failed = "the server did not report its version";
    let info = client
        .server_info()
        .await
        .map_err(|error| Error::transport(failed, error))?;
    requirements::check_supported(&info.version)?;
    Ok(info)
}

fn stranger(address: SocketAddr) -> Error {
    let message = format!(
        "another program answers at {address}: it is not the server that was started, or it \
         rejects the session key"
    );
    Error::new(ErrorKind::Stranger, message)
}

/// Checks an active server by its session key. The wrong key is sent first: a server that accepts
/// any key is another program's and must not receive the real key.
pub(crate) async fn session(client: &Client, key: &SecretString) -> Result<Option<bool>> {
    let asked = |key: &SecretString| -> Result<Request> {
        let mut request = get(GUARDED);
        let header = http::HeaderName::from_static("x-session-api-key");
        request.headers.insert(header, header_value(key)?);
        Ok(request)
    };
    match send(client, asked(&random_key().into())?).await {
        Some(401) => {}
        Some(_) => return Ok(Some(false)),
        None => return Ok(None),
    }
    let answer = send(client, asked(key)?).await;
    Ok(answer.map(|status| status == 200))
}

/// Checks a dormant server by its secret key. With the right key the server rejects the request for
/// its unknown field (422), so it proves its identity and stays dormant.
pub(crate) async fn dormant(client: &Client, key: &SecretString) -> Result<Option<bool>> {
    let wrong = random_key().into();
    match post_init(client, &wrong).await {
        Some(401) => {}
        Some(_) => return Ok(Some(false)),
        None => return Ok(None),
    }
    Ok(post_init(client, key).await.map(|status| status == 422))
}

async fn post_init(client: &Client, key: &SecretString) -> Option<u16> {
    let init = Init::new(key.clone()).set("no_such_field", true);
    send(client, init.request().ok()?).await
}

fn header_value(key: &SecretString) -> Result<http::HeaderValue> {
    let invalid = "the session key contains characters that a header cannot hold";
    let mut value = http::HeaderValue::from_str(key.expose_secret())
        .map_err(|error| Error::new(ErrorKind::InvalidInput, invalid).with_source(error))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the status of the response to a `GET`, or `None` if there was no response.
pub(crate) async fn get_status(client: &Client, path: &str) -> Option<u16> {
    exchange(client, get(path)).await.ok()
}

/// Checks that the server accepts the client's session key.
pub(crate) async fn check_key(client: &Client) -> oh_transport::Result<()> {
    let status = exchange(client, get(GUARDED)).await?;
    match http::StatusCode::from_u16(status) {
        Ok(http::StatusCode::OK) => Ok(()),
        Ok(status) => Err(oh_transport::Error::from_status(status)),
        Err(error) => Err(oh_transport::Error::new(
            oh_transport::ErrorKind::Decode,
            "the status is not a number of three digits",
        )
        .with_source(error)),
    }
}

/// Activates a dormant server.
pub(crate) async fn activate(client: &Client, init: &Init) -> Result<()> {
    let failed = |error| Error::transport("cannot activate the dormant server", error);
    client.call(init).await.map_err(failed)?;
    let failed = |error| Error::transport("the server was activated, but does not work", error);
    check_key(client).await.map_err(failed)
}

fn get(path: &str) -> Request {
    Request::new(http::Method::GET, path)
}

async fn send(client: &Client, request: Request) -> Option<u16> {
    exchange(client, request).await.ok()
}

/// Sends a request and returns the status of the response, which may be an error's.
async fn exchange(client: &Client, request: Request) -> oh_transport::Result<u16> {
    let body = request.body.clone().map_or_else(Body::empty, Body::from);
    let exchange = async {
        let answer = client.stream(request, body).await?;
        let status = answer.status().as_u16();
        // Read the whole body so that the connection can be reused.
        let _body = answer.into_body().collect(1024 * 1024).await;
        Ok(status)
    };
    timeout(ANSWER, exchange).await.unwrap_or_else(|_| {
        let message = format!("the server did not respond within {ANSWER:?}");
        Err(oh_transport::Error::new(
            oh_transport::ErrorKind::Timeout,
            message,
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_and_a_free_port_is_reserved() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let error = reserve(address).expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::PortTaken);
        assert!(error.to_string().contains(&address.port().to_string()));

        let held = reserve("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        assert_ne!(held.address.port(), 0);
        // A socket without `SO_REUSEADDR` cannot take the port; the server can.
        let strict = TcpSocket::new_v4().expect("a socket");
        assert!(strict.bind(held.address).is_err());
        let server = TcpSocket::new_v4().expect("a socket");
        server.set_reuseaddr(true).expect("an option");
        server.bind(held.address).expect("shared");
        server.listen(1).expect("listening");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_rejected() {
        let elsewhere = "192.0.2.1:0".parse().expect("an address");
        assert_eq!(
            reserve(elsewhere).expect_err("not ours").kind(),
            ErrorKind::InvalidInput
        );
    }
}
