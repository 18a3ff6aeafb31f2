//! Tests with a hand-written peer at the other end of a pipe, which sends the same bytes as a
//! hostile, broken or slow server. Time is virtual.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::ws::handshake::accept_key;

mod endings;
mod frames;
mod handshakes;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// A text frame without the FIN bit.
const TEXT_BEGINS: u8 = 0x01;
const GOES_ON: u8 = 0x00;
const GOES_ON_ENDS: u8 = 0x80;

/// The server's end of the pipe.
#[derive(Debug)]
struct Peer(DuplexStream);

/// A frame from the client, unmasked.
#[derive(Debug, PartialEq)]
struct Sent {
    first: u8,
    payload: Vec<u8>,
}

fn url() -> Url {
    Url::parse("ws://server:8000/prefix/sockets/x?after_seq=3").unwrap()
}

/// Returns a frame as a server sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(length as u8),
        length @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

impl Peer {
    /// Reads the upgrade request. Returns it with the matching accept key.
    async fn asked(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = accept_key(key.unwrap());
        (head, accept)
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads the next frame of the client, which must be masked. Returns `None` once the client has
    /// hung up.
    async fn hear(&mut self) -> Option<Sent> {
        let first = self.0.read_u8().await.ok()?;
        let second = self.0.read_u8().await.ok()?;
        assert_eq!(second & 0x80, 0x80, "an unmasked frame of a client");
        let length = match second & 0x7f {
            126 => self.0.read_u16().await.ok()?.into(),
            127 => self.0.read_u64().await.ok()?,
            length => length.into(),
        };
        let mut mask = [0; 4];
        self.0.read_exact(&mut mask).await.ok()?;
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
        Some(Sent { first, payload })
    }
}

/// Connects a client whose handshake gets the given response.
async fn answered(answer: impl FnOnce(String) -> String) -> Result<(Socket, Peer)> {
    let (ours, theirs) = duplex(1 << 16);
    let mut peer = Peer(theirs);
    let (url, headers) = (url(), HeaderMap::new());
    let (socket, peer) = tokio::join!(
        open(Stream::new(ours), &url, &headers, SocketLimits::default()),
        async {
            let (_, accept) = peer.asked().await;
            peer.say(answer(accept)).await;
            peer
        }
    );
    Ok((socket?, peer))
}

fn upgrade(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

async fn connected(limits: SocketLimits) -> (Socket, Peer) {
    let (ours, theirs) = duplex(1 << 16);
    let mut peer = Peer(theirs);
    let (url, headers) = (url(), HeaderMap::new());
    let (socket, peer) = tokio::join!(open(Stream::new(ours), &url, &headers, limits), async {
        let (_, accept) = peer.asked().await;
        peer.say(upgrade(&accept)).await;
        peer
    });
    (socket.unwrap(), peer)
}

fn text(text: &str) -> Message {
    Message::Text(Bytes::copy_from_slice(text.as_bytes()))
}

/// Returns what a client receives from these bytes, followed by the end of the connection.
async fn after(bytes: &[u8]) -> (Vec<Message>, Error) {
    let (mut socket, mut peer) = connected(SocketLimits::default()).await;
    let peer = async move {
        // The client may hang up before everything is written.
        let _ = peer.0.write_all(bytes).await;
        let _ = peer.0.shutdown().await;
        while peer.hear().await.is_some() {}
    };
    let client = async move {
        let mut messages = Vec::new();
        loop {
            match socket.recv().await {
                Ok(message) => messages.push(message),
                Err(error) => return (messages, error),
            }
        }
    };
    let (seen, ()) = timeout(Duration::from_secs(3600), async {
        tokio::join!(client, peer)
    })
    .await
    .unwrap();
    seen
}
