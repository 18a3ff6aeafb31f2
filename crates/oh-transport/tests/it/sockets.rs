//! Tests for sockets over a network: how the key is sent, and which handshakes are rejected.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oh_transport::{ErrorKind, Message};
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use crate::common::{Act, CANARY, Raw, client, head, shown, watch};

/// Accepts an upgrade. Returns the head of the request and the client's first frame.
pub(crate) async fn accept(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> (String, String) {
    let head = head(stream).await.unwrap();
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap();
    let key = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(Sha1::digest(key));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut start = [0; 6];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(start[0], 0x81);
    let mut text = vec![0; usize::from(start[1] & 0x7f)];
    stream.read_exact(&mut text).await.unwrap();
    for (index, byte) in text.iter_mut().enumerate() {
        *byte ^= start[2 + index % 4];
    }
    (head, String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn pitfall_25_the_key_is_in_the_first_frame_and_never_in_the_url() {
    let _watch = watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let seen = accept(&mut stream).await;
        stream
            .write_all(b"\x81\x02hi\x88\x02\x0f\xa1")
            .await
            .unwrap();
        seen
    });
    let client = client(address).header("x-gateway", "pass").build().unwrap();
    let mut socket = client
        .socket("/sockets/session/7?after_seq=-1")
        .await
        .unwrap();
    assert_eq!(socket.recv().await.unwrap(), Message::Text("hi".into()));
    let error = socket.recv().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.close_code()),
        (ErrorKind::Unauthorized, Some(4001))
    );
    shown(&error);
    let (head, first) = server.await.unwrap();
    assert!(
        head.starts_with("GET /sockets/session/7?after_seq=-1 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(!head.contains(CANARY), "{head}");
    assert!(head.contains("x-gateway: pass\r\n"), "{head}");
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(
        first,
        serde_json::json!({"type": "auth", "session_api_key": CANARY})
    );
}

#[tokio::test]
async fn a_rejected_handshake_names_its_path_and_status() {
    let _watch = watch();
    let server = Raw::start(|_, _| {
        Act::Last(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec())
    })
    .await;
    let client = client(server.address).build().unwrap();
    let error = client.socket("/sockets/none?x=1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
    assert_eq!(
        error.to_string(),
        "the server returned 403 Forbidden (/sockets/none); check the path, the gateway in front of \
         the server, and whether the server is dormant"
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_close_arrives_although_messages_are_left_unread() {
    let _watch = watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        accept(&mut stream).await;
        let (mut read, mut write) = stream.split();
        // The frame is larger than all buffers, and the client never reads it.
        let writing = async {
            let frame = [&b"\x82\x7f\0\0\0\0\0\x01\0\0"[..], &[0; 1 << 16]].concat();
            while write.write_all(&frame).await.is_ok() {}
        };
        let mut head = [0; 8];
        tokio::select! {
            () = writing => panic!("the connection was reset before the close frame was read"),
            read = read.read_exact(&mut head) => read.unwrap(),
        };
        let unmasked = [head[6] ^ head[2], head[7] ^ head[3]];
        (head[0], u16::from_be_bytes(unmasked))
    });
    let client = client(address).build().unwrap();
    let mut socket = client.socket("/sockets/x").await.unwrap();
    socket.recv().await.unwrap();
    socket.close(4321, "").await;
    assert_eq!(server.await.unwrap(), (0x88, 4321));
}
