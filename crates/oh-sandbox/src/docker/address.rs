//! The addresses at which this process reaches the ports of a container.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::{Engine, Error, ErrorKind, Result, docker::settings::Settings};

/// Returns the host at which this process reaches published ports.
pub(crate) fn reachable_host(engine: &Engine, settings: &Settings) -> Result<String> {
    let published_on = settings.published_on;
    match engine.address.remote_host() {
        // The ports of the container are forwarded by ssh.
        Some(_)
            if engine.forwards.is_some()
                && published_on.is_loopback()
                && !settings.shares_network() =>
        {
            Ok(Ipv4Addr::LOCALHOST.to_string())
        }
        Some(host) if published_on.is_loopback() => {
            let message = format!(
                "the engine at {host} is another machine, but the server's port would be reachable \
                 on its {published_on} only; use an address of ssh:// without `network(\"host\")`, \
                 or `publish_on` with an address of a trusted network"
            );
            Err(Error::new(ErrorKind::InvalidInput, message))
        }
        Some(host) => Ok(host.to_owned()),
        None => Ok(reachable(SocketAddr::new(published_on, 0)).ip().to_string()),
    }
}

/// Returns the URL of a server in a container that was found. `published` is the address at which
/// the engine, or ssh, publishes its port. With the network of the machine, there is none.
pub(crate) fn url_of_found(
    engine: &Engine,
    published: Option<SocketAddr>,
    port: u16,
) -> Result<String> {
    let Some(host) = engine.address.remote_host() else {
        let address = published.unwrap_or((Ipv4Addr::LOCALHOST, port).into());
        let address = reachable(address);
        return Ok(url_of(address.ip().to_string(), address.port()));
    };
    match published {
        Some(address) if !address.ip().is_loopback() => Ok(url_of(host.to_owned(), address.port())),
        Some(address) if engine.forwards.is_some() => {
            Ok(url_of(address.ip().to_string(), address.port()))
        }
        _ => {
            let message = format!(
                "the engine at {host} is another machine, and the server listens on its loopback \
                 interface only; use an address of ssh:// and published ports"
            );
            Err(Error::new(ErrorKind::InvalidInput, message))
        }
    }
}

/// Returns the address at which this machine reaches a port that listens on `address`.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => SocketAddr::new([127, 0, 0, 1].into(), address.port()),
        false => address,
    }
}

pub(crate) fn url_of(host: String, port: u16) -> String {
    match host.contains(':') {
        true => format!("http://[{host}]:{port}"),
        false => format!("http://{host}:{port}"),
    }
}

pub(crate) fn host_port(published: &[(u16, SocketAddr)], port: u16) -> Option<u16> {
    let mut ports = published.iter();
    ports
        .find(|(known, _)| *known == port)
        .map(|(_, address)| address.port())
}

/// Returns a port that is free at the moment.
pub(crate) fn free_port(ip: IpAddr) -> Result<u16> {
    let bound = TcpListener::bind((ip, 0)).and_then(|listener| listener.local_addr());
    let bound = bound.map_err(|error| {
        let message = format!("cannot find a free port on {ip}");
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })?;
    Ok(bound.port())
}
