//! A scene with a host that has two addresses, one of which is silent.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use openhands::{
    conversation::LinkStatus, protocol::calls::server::GetServerInfo, transport::ErrorKind,
};
use tokio::net::{TcpSocket, TcpStream};

use super::{
    forwarder::HOST,
    stage::{LONG, Stage, converses, until},
};

pub(crate) async fn a_silent_ipv6_address(stage: &Stage) {
    let port = stage.server.port();
    let url = format!("http://{HOST}:{port}");
    // Connecting never completes, because the accept queue is full: a length of 0 is one place.
    let socket = TcpSocket::new_v6().unwrap();
    socket.bind((Ipv6Addr::LOCALHOST, port).into()).unwrap();
    let silent = socket.listen(0).unwrap();
    let filling = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await;
    let client = |addresses: &[IpAddr], limit| {
        let client = stage.client(url.clone());
        let client = client.resolve(HOST, addresses.iter().copied());
        client.connect_timeout(limit).build().unwrap()
    };
    let (v6, v4) = (Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into());
    // No attempt may end by its limit, so what works uses IPv4 while IPv6 is still pending.
    let both = client(&[v6, v4], 2 * LONG);
    let directory = stage.directory("addresses");
    tokio::join!(
        converses(&both, &directory, LinkStatus::Live),
        until(|| is_dialled(port))
    );
    let only = client(&[v6], Duration::from_millis(200));
    let call = GetServerInfo::default();
    let error = only.call(&call).single_attempt().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.is_timeout(), "{error:?}");
    drop((silent, filling));
}

/// Returns whether the kernel has sent a SYN to the IPv6 address and got no answer.
fn is_dialled(port: u16) -> bool {
    let remote = format!(" 00000000000000000000000001000000:{port:04X} 02 ");
    fs::read_to_string("/proc/net/tcp6")
        .unwrap()
        .contains(&remote)
}
