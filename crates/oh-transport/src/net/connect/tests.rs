//! Tests for hosts with several addresses, some of which do not respond.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::net::TlsOptions;

fn connector(limit: Duration, addresses: &[IpAddr]) -> Connector {
    let mut resolver = Resolver::default();
    resolver.set("Agent.test", addresses.iter().copied());
    let tls = Tls::new(TlsOptions::default()).unwrap();
    let proxies = Proxies::ambient(&|_| None);
    Connector::new(limit, proxies, tls, resolver)
}

/// Returns an address to which connecting never completes: its accept queue is full.
async fn black_hole(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let socket = match address.is_ipv6() {
        true => TcpSocket::new_v6(),
        false => TcpSocket::new_v4(),
    }
    .unwrap();
    socket.bind(address).unwrap();
    let listener = socket.listen(0).unwrap();
    // A queue of length 0 holds one connection.
    let filling = TcpStream::connect(listener.local_addr().unwrap()).await;
    (listener, vec![filling.unwrap()])
}

fn agent(port: u16) -> Target<'static> {
    Target {
        scheme: "http",
        host: "agent.test",
        port,
    }
}

#[tokio::test]
async fn a_silent_ipv6_address_does_not_hide_the_ipv4_one() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = server.local_addr().unwrap().port();
    let target = agent(port);
    let hole = black_hole((Ipv6Addr::LOCALHOST, port).into()).await;
    let addresses = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
    let connector = connector(Duration::from_secs(60), &addresses);
    let (connected, accepted) = tokio::join!(connector.connect(&target), server.accept());
    connected.map(drop).unwrap();
    accepted.unwrap();
    drop(hole);
}

#[tokio::test]
async fn addresses_of_one_family_share_the_time() {
    let server = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 1), 0))
        .await
        .unwrap();
    let port = server.local_addr().unwrap().port();
    let target = agent(port);
    let dead = Ipv4Addr::new(127, 0, 0, 2);
    let hole = black_hole((dead, port).into()).await;
    let connector = connector(
        Duration::from_secs(2),
        &[dead.into(), Ipv4Addr::LOCALHOST.into()],
    );
    let (connected, accepted) = tokio::join!(connector.connect(&target), server.accept());
    connected.map(drop).unwrap();
    accepted.unwrap();
    drop(hole);
}

#[tokio::test]
async fn a_refused_connection_is_reported_and_a_slow_one_is_a_timeout() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let connector = connector(Duration::from_millis(50), &[Ipv4Addr::LOCALHOST.into()]);
    let error = connector.connect(&agent(port)).await.map(drop).unwrap_err();
    assert!(error.never_sent() && !error.is_timeout(), "{error:?}");
    let shown = error.to_string().to_lowercase();
    assert!(
        shown.contains("refused") && shown.contains("agent.test"),
        "{error}"
    );

    let hole = black_hole((Ipv4Addr::LOCALHOST, 0).into()).await;
    let port = hole.0.local_addr().unwrap().port();
    let error = connector.connect(&agent(port)).await.map(drop).unwrap_err();
    assert!(error.never_sent() && error.is_timeout(), "{error:?}");
}
