//! Waits until the server in a container is ready, and verifies it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use oh_process::internal;
use oh_protocol::calls::server::ServerInfo;
use oh_transport::{Client, Network};
use secrecy::SecretString;
use tokio::time::{sleep, timeout};

use crate::{
    Engine, Error, ErrorKind, Result,
    docker::{create::port_name, refused},
};

/// Delay between two attempts. A response of a starting server costs the server little.
const PAUSE: Duration = Duration::from_millis(25);

/// Returns the addresses at which the ports of a container are published. Empty if the container
/// does not run.
pub(crate) async fn published(
    engine: &Engine,
    container: &str,
    ports: &[u16],
) -> Result<Vec<(u16, SocketAddr)>> {
    let failed = |error| refused::error("cannot inspect the container", error);
    let inspected = engine.inspect(container).await.map_err(failed)?;
    let found = inspected.network_settings.and_then(|network| network.ports);
    let found = found.unwrap_or_default();
    let address = |port: u16| -> Option<SocketAddr> {
        let bindings = found.get(&port_name(port))?.as_ref()?;
        let mut parsed = bindings.iter().filter_map(|binding| {
            let ip = binding.host_ip.as_deref().unwrap_or_default().parse();
            // Podman reports all addresses as an empty text.
            let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            Some(SocketAddr::new(
                ip,
                binding.host_port.as_deref()?.parse().ok()?,
            ))
        });
        parsed.next()
    };
    let mut known = Vec::new();
    for port in ports {
        if let Some(address) = address(*port) {
            known.push((*port, forwarded(engine, container, address).await?));
        }
    }
    Ok(known)
}

/// Returns the address on this machine of a port that the engine has published. Only ports on the
/// loopback interface of a machine that is reached by ssh are forwarded.
async fn forwarded(engine: &Engine, container: &str, address: SocketAddr) -> Result<SocketAddr> {
    match &engine.forwards {
        Some(forwards) if address.ip().is_loopback() => {
            forwards.reach(container, address.port()).await
        }
        _ => Ok(address),
    }
}

/// Returns a network that uses no proxy. Loads the certificates of the system.
pub(crate) fn network() -> Result<Network> {
    internal::direct().map_err(no_client)
}

fn no_client(error: oh_transport::Error) -> Error {
    Error::transport("cannot create a client for the server", error)
}

/// Returns a client for the server at this address.
pub(crate) fn client(url: &str, key: Option<&SecretString>, network: &Network) -> Result<Client> {
    let mut builder = Client::builder(url)
        .http_transport(network.clone())
        .socket_transport(network.clone());
    if let Some(key) = key {
        builder = builder.session_api_key(key.clone());
    }
    builder.build().map_err(no_client)
}

/// Waits until the server at `url` is ready, and verifies that it accepts `key` and no other.
/// Returns how it describes itself. Does not notice that the container has ended.
pub(crate) async fn verified(
    url: &str,
    key: &SecretString,
    deadline: Duration,
) -> Result<Arc<ServerInfo>> {
    verify(url, Proof::Session(key), deadline).await
}

/// Does the same for a dormant server, which must accept `init_key` for its activation only.
pub(crate) async fn verified_dormant(
    url: &str,
    init_key: &SecretString,
    deadline: Duration,
) -> Result<Arc<ServerInfo>> {
    verify(url, Proof::Dormant(init_key), deadline).await
}

/// The key that the server must accept.
#[derive(Clone, Copy)]
enum Proof<'a> {
    Session(&'a SecretString),
    Dormant(&'a SecretString),
}

async fn verify(url: &str, proof: Proof<'_>, deadline: Duration) -> Result<Arc<ServerInfo>> {
    let network = network()?;
    let anonymous = client(url, None, &network)?;
    let checks = async {
        loop {
            match internal::get_status(&anonymous, "/ready").await {
                Some(200) => {}
                // Not listening yet, or still starting.
                None | Some(502 | 503) => {
                    sleep(PAUSE).await;
                    continue;
                }
                Some(status) => {
                    let message = format!(
                        "what answers in the container is not an agent server: GET /ready returns \
                         status {status}; correct the name of the image"
                    );
                    return Err(Error::new(ErrorKind::NotAnAgentServer, message));
                }
            }
            let failed = |error| Error::shared("cannot verify the server", error);
            let proven = match proof {
                Proof::Session(key) => internal::accepts_only(&anonymous, key).await,
                Proof::Dormant(key) => internal::accepts_init(&anonymous, key).await,
            };
            match proven.map_err(failed)? {
                Some(true) => break,
                None => sleep(PAUSE).await,
                Some(false) => {
                    return Err(match proof {
                        Proof::Session(_) => wrong_key(url, &network).await,
                        Proof::Dormant(_) => not_dormant(),
                    });
                }
            }
        }
        let failed = |error| Error::shared("the server did not report its version", error);
        let client = match proof {
            Proof::Session(key) => client(url, Some(key), &network)?,
            Proof::Dormant(_) => anonymous,
        };
        internal::version(&client).await.map_err(failed)
    };
    match timeout(deadline, checks).await {
        Ok(checked) => checked,
        Err(_) => {
            let seconds = deadline.as_secs_f32();
            let message = format!("the server in the container was not ready within {seconds} s");
            Err(Error::new(ErrorKind::NotReady, message))
        }
    }
}

/// Returns the error of a server that does not accept the key, or accepts any. Sends another key,
/// because a server that accepts any key must not receive the real one.
async fn wrong_key(url: &str, network: &Network) -> Error {
    let asked = match client(url, Some(&internal::random_key()), network) {
        Ok(client) => internal::get_status(&client, internal::GUARDED).await,
        Err(error) => return error,
    };
    match asked {
        Some(401) => {
            let message = "the server in the container does not accept the session key; use the \
                           key that the server was started with, and an image that reads the \
                           server's configuration";
            Error::new(ErrorKind::Unauthorized, message)
        }
        _ => {
            let message = "the server in the container accepts any session key: the image or a \
                           variable overrides the server's configuration, or another program \
                           answers at its address";
            Error::new(ErrorKind::NotAnAgentServer, message)
        }
    }
}

fn not_dormant() -> Error {
    let message = "the server in the container does not wait for its activation with its own key: \
                   the image or a variable overrides the server's configuration";
    Error::new(ErrorKind::NotAnAgentServer, message)
}
