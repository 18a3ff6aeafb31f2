//! Waits until the server in a container is ready, and verifies it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bollard::query_parameters::InspectContainerOptions;
use oh_process::internal;
use oh_protocol::calls::server::ServerInfo;
use oh_transport::Client;
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
    let inspected = engine
        .docker
        .inspect_container(container, None::<InspectContainerOptions>)
        .await
        .map_err(|error| refused::error("cannot inspect the container", error))?;
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
    let known = ports
        .iter()
        .filter_map(|port| Some((*port, address(*port)?)));
    Ok(known.collect())
}

/// Returns a client for the server at this address.
pub(crate) fn client(url: &str, key: Option<&SecretString>) -> Result<Client> {
    let failed = |error| Error::transport("cannot create a client for the server", error);
    let network = internal::direct().map_err(failed)?;
    let mut builder = Client::builder(url)
        .http_transport(network.clone())
        .socket_transport(network);
    if let Some(key) = key {
        builder = builder.session_api_key(key.clone());
    }
    builder.build().map_err(failed)
}

/// Waits until the server at `url` is ready, and verifies that it accepts `key` and no other.
/// Returns how it describes itself. Does not notice that the container has ended.
pub(crate) async fn verified(
    url: &str,
    key: &SecretString,
    deadline: Duration,
) -> Result<Arc<ServerInfo>> {
    let anonymous = client(url, None)?;
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
            match internal::accepts_only(&anonymous, key)
                .await
                .map_err(failed)?
            {
                Some(true) => break,
                None => sleep(PAUSE).await,
                Some(false) => return Err(wrong_key(url).await),
            }
        }
        let failed = |error| Error::shared("the server did not report its version", error);
        internal::version(&client(url, Some(key))?)
            .await
            .map_err(failed)
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
async fn wrong_key(url: &str) -> Error {
    let asked = match client(url, Some(&internal::random_key())) {
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
