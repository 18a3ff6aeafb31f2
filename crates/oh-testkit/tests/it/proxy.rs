//! Tests of the proxy between two plain TCP ends.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use oh_testkit::{Chance, Link, Proxy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const LIMIT: Duration = Duration::from_secs(10);

/// Starts a server that echoes its input.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn ends_after(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut all = Vec::new();
    let end = tokio::time::timeout(LIMIT, stream.read_to_end(&mut all)).await;
    (all, end.unwrap().err().map(|error| error.kind()))
}

async fn round_trip(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    let mut back = vec![0; bytes.len()];
    let read = tokio::time::timeout(LIMIT, stream.read_exact(&mut back)).await;
    read.unwrap().unwrap();
    assert_eq!(back, bytes);
}

#[tokio::test]
async fn the_proxy_forwards_both_ways_and_ends_with_its_peers() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let long = vec![7; 300_000];
    let (mut read, mut write) = stream.split();
    let send = async {
        write.write_all(&long).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, read) = tokio::join!(send, read.read_to_end(&mut back));
    read.unwrap();
    assert_eq!(back, long);
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn the_proxy_cuts_at_the_byte_and_then_forwards() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    proxy.next(Link::new().cut_after(5));
    proxy.next(Link::new().cut_after_sent(3));
    proxy.next(Link::new().cut_after(2).reset());
    for expected in ["01234", "012", "01"] {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(b"0123456789").await.unwrap();
        let (got, end) = ends_after(&mut stream).await;
        // The kernel decides whether bytes in transit survive a reset.
        if expected == "01" {
            assert_eq!(end, Some(ErrorKind::ConnectionReset));
        } else if expected == "012" {
            assert!(b"012".starts_with(&got), "{got:?}");
        } else {
            assert_eq!(got, expected.as_bytes());
        }
    }
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut stream, b"0123456789").await;
}

#[tokio::test(start_paused = true)]
async fn the_proxy_holds_without_closing_and_delivers_late() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut stream, b"before").await;
    proxy.hold();
    stream.write_all(b"during").await.unwrap();
    let silent = tokio::time::timeout(Duration::from_secs(600), stream.read_u8()).await;
    assert!(silent.is_err(), "{silent:?}");
    proxy.release();
    let mut back = [0; 6];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"during");
}

#[tokio::test(start_paused = true)]
async fn the_proxy_stalls_one_direction_only() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    proxy.next(Link::new().stall_after(4));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut stream, b"four").await;
    stream.write_all(b"more").await.unwrap();
    let silent = tokio::time::timeout(Duration::from_secs(600), stream.read_u8()).await;
    assert!(silent.is_err(), "{silent:?}");
    assert_eq!(proxy.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_proxy_delivers_byte_by_byte() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    proxy.next(Link::new().drip(1, Duration::from_secs(1)));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let start = tokio::time::Instant::now();
    stream.write_all(b"12345678").await.unwrap();
    let mut back = [0; 8];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"12345678");
    assert!(
        start.elapsed() >= Duration::from_secs(7),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn the_proxy_cuts_refuses_and_accepts_again_on_the_same_port() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut stream, b"x").await;
    proxy.cut();
    assert_eq!(ends_after(&mut stream).await.0, b"");
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut stream, b"x").await;
    proxy.refuse().await;
    assert_eq!(ends_after(&mut stream).await.0, b"");
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.accept().await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut stream, b"x").await;
}

#[tokio::test]
async fn an_absent_server_ends_connections_and_retargeting_restores_them() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = gone.local_addr().unwrap();
    drop(gone);
    let proxy = Proxy::start(away).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ends_after(&mut stream).await.0, b"");
    proxy.retarget(echo().await);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut stream, b"x").await;
}

#[test]
fn the_same_seed_gives_the_same_chance() {
    let draw = |seed| {
        let mut chance = Chance::new(seed);
        (0..50).map(|_| chance.pick(3..=900)).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert!(draw(3).iter().all(|n| (3..=900).contains(n)));
    let mut chance = Chance::new(9);
    assert!(!chance.hit(0, 10) && chance.hit(10, 10));
}
