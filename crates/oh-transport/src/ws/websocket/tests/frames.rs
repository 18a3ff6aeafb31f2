//! Tests for frames: whole, fragmented, too long, and invalid.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

use super::*;

#[tokio::test(start_paused = true)]
async fn invalid_frames_end_the_socket_with_their_reason() {
    let masked = [&[TEXT, 0x82, 1, 2, 3, 4][..], b"hi"].concat();
    let cases: [(&str, Vec<u8>, &str); 13] = [
        ("masked", masked, "masked"),
        (
            "reserved bit 1",
            frame(TEXT | 0x40, b"x"),
            "invalid WebSocket data",
        ),
        (
            "reserved bit 3",
            frame(TEXT | 0x10, b"x"),
            "invalid WebSocket data",
        ),
        (
            "reserved opcode",
            frame(0x83, b"x"),
            "invalid WebSocket data",
        ),
        (
            "reserved control",
            frame(0x8b, b""),
            "invalid WebSocket data",
        ),
        ("ping in parts", frame(0x09, b"x"), "invalid WebSocket data"),
        ("close in parts", frame(0x08, b""), "invalid WebSocket data"),
        ("long ping", frame(PING, &[0; 126]), "control frame"),
        ("long pong", frame(PONG, &[0; 126]), "control frame"),
        ("long close", frame(CLOSE, &[0; 126]), "control frame"),
        ("part of nothing", frame(GOES_ON_ENDS, b"x"), "out of order"),
        (
            "text in text",
            [frame(TEXT_BEGINS, b"a"), frame(TEXT, b"b")].concat(),
            "out of order",
        ),
        (
            "not UTF-8",
            frame(TEXT, b"\xff\xfe"),
            "invalid WebSocket data",
        ),
    ];
    for (name, bytes, says) in cases {
        let before = frame(TEXT, b"before");
        let (messages, error) = after(&[before, bytes, frame(TEXT, b"after")].concat()).await;
        assert_eq!(messages, [text("before")], "{name}");
        assert_eq!(error.kind(), ErrorKind::Decode, "{name}: {error}");
        let shown = format!("{error}: {error:?}");
        assert!(shown.contains(says), "{name}: {shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn parts_are_joined_around_pings_and_pings_are_answered() {
    let (mut socket, mut peer) = connected(SocketLimits::default()).await;
    peer.say(frame(TEXT_BEGINS, b"one ")).await;
    peer.say(frame(PING, b"are you there")).await;
    peer.say(frame(GOES_ON, b"two ")).await;
    peer.say(frame(PONG, b"")).await;
    peer.say(frame(GOES_ON_ENDS, b"three")).await;
    assert_eq!(socket.recv().await.unwrap(), text("one two three"));
    let pong = peer.hear().await.unwrap();
    assert_eq!((pong.first, &*pong.payload), (PONG, &b"are you there"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_character_may_be_split_between_parts_but_must_be_complete() {
    let euro = "€".as_bytes();
    let whole = [
        frame(TEXT_BEGINS, &euro[..1]),
        frame(GOES_ON_ENDS, &euro[1..]),
    ]
    .concat();
    assert_eq!(after(&whole).await.0, [text("€")]);
    let torn = [
        frame(TEXT_BEGINS, &euro[..1]),
        frame(GOES_ON_ENDS, &euro[..1]),
    ]
    .concat();
    let (messages, error) = after(&torn).await;
    assert!(messages.is_empty());
    assert_eq!(error.kind(), ErrorKind::Decode);
    let binary = after(&frame(BINARY, b"\xff")).await.0;
    assert_eq!(binary, [Message::Binary(Bytes::from_static(b"\xff"))]);
}

#[tokio::test(start_paused = true)]
async fn frames_in_single_bytes_are_decoded() {
    let (mut socket, mut peer) = connected(SocketLimits::default()).await;
    let long = "x".repeat(300);
    let close = frame(CLOSE, &4004u16.to_be_bytes());
    let bytes = [frame(TEXT, b""), frame(TEXT, long.as_bytes()), close].concat();
    let slowly = async {
        for byte in bytes {
            peer.say([byte]).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        peer.hear().await
    };
    let reading = async {
        assert_eq!(socket.recv().await.unwrap(), text(""));
        assert_eq!(socket.recv().await.unwrap(), text(&long));
        assert_eq!(socket.recv().await.unwrap_err().close_code(), Some(4004));
    };
    let (answer, ()) = tokio::join!(slowly, reading);
    assert_eq!(answer.unwrap().first, CLOSE);
}

#[tokio::test(start_paused = true)]
async fn the_limit_applies_to_messages_in_one_frame_or_many() {
    let limits = SocketLimits::default().with_message(1000);
    let over = frame(TEXT, &[b'x'; 1001]);
    // Only the length is sent: the limit must apply before the payload arrives.
    let announced = vec![TEXT, 127, 0, 0, 1, 0, 0, 0, 0, 0];
    let mut parts = frame(TEXT_BEGINS, &[b'x'; 600]);
    parts.extend(frame(GOES_ON, &[b'x'; 401]));
    for bytes in [over, announced, parts] {
        let (mut socket, mut peer) = connected(limits).await;
        peer.say(frame(TEXT, &[b'x'; 1000])).await;
        peer.say(bytes).await;
        assert_eq!(socket.recv().await.unwrap(), text(&"x".repeat(1000)));
        let error = socket.recv().await.unwrap_err();
        assert!(
            error.to_string().contains("above the limit of 1000 bytes"),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn pitfall_05_an_event_above_one_mebibyte_arrives() {
    let (mut socket, mut peer) = connected(SocketLimits::default()).await;
    let event = "e".repeat(5 << 20);
    let bytes = frame(TEXT, event.as_bytes());
    let (received, ()) = tokio::join!(socket.recv(), peer.say(bytes));
    assert_eq!(received.unwrap(), text(&event));
}

#[tokio::test(start_paused = true)]
async fn an_excessive_limit_is_reduced() {
    let limits = SocketLimits::default().with_message(usize::MAX);
    let (mut socket, mut peer) = connected(limits).await;
    peer.say([TEXT, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
        .await;
    assert_eq!(socket.recv().await.unwrap_err().kind(), ErrorKind::Decode);
}

#[tokio::test(start_paused = true)]
async fn sent_messages_arrive_masked_and_complete() {
    let (socket, mut peer) = connected(SocketLimits::default()).await;
    for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        let sent = "m".repeat(length);
        let (result, heard) = tokio::join!(socket.send(text(&sent)), peer.hear());
        result.unwrap();
        let heard = heard.unwrap();
        assert_eq!((heard.first, heard.payload.len()), (TEXT, length));
        assert!(heard.payload == sent.as_bytes());
    }
}

/// A stream that returns its bytes in chunks of these lengths, repeatedly.
struct Torn {
    bytes: Vec<u8>,
    at: usize,
    lengths: std::iter::Cycle<std::vec::IntoIter<usize>>,
}

impl AsyncRead for Torn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.lengths.next().unwrap_or(1).min(buffer.remaining());
        let end = self.bytes.len().min(self.at + length);
        buffer.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

/// Generates the payloads of the fragments of a message.
fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let length = prop_oneof![
        4 => 0..300_usize,
        2 => 65_500..65_600_usize,
        1 => 0..300_000_usize,
    ];
    let part = (any::<u8>(), length).prop_map(|(byte, length)| vec![byte & 0x7F; length]);
    prop::collection::vec(part, 1..4)
}

/// Returns frames as a server writes them, encoded by fastwebsockets.
async fn written(messages: &[(bool, Vec<Vec<u8>>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (_, mut writer) = after_handshake_split(tokio::io::empty(), &mut bytes, Role::Server);
    for (is_text, parts) in messages {
        for (at, part) in parts.iter().enumerate() {
            let code = match (at, is_text) {
                (0, true) => OpCode::Text,
                (0, false) => OpCode::Binary,
                _ => OpCode::Continuation,
            };
            let last = at + 1 == parts.len();
            let frame = Frame::new(last, code, None, Payload::Borrowed(part));
            writer.write_frame(frame).await.unwrap();
            let ping = Frame::new(true, OpCode::Ping, None, Payload::Borrowed(b"ping"));
            writer.write_frame(ping).await.unwrap();
        }
    }
    writer
        .write_frame(Frame::close(1012, b"restart"))
        .await
        .unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn frames_of_another_implementation_are_read_at_any_split(
        messages in prop::collection::vec((any::<bool>(), parts()), 0..6),
        lengths in prop::collection::vec(prop_oneof![1..20_usize, 1..100_000_usize], 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (arrived, ending) = runtime.block_on(async {
            let bytes = written(&messages).await;
            let lengths = lengths.into_iter().cycle();
            let mut reader = Frames::new(Torn { bytes, at: 0, lengths }, Vec::new(), MESSAGE_LIMIT);
            let mut arrived = Arrived::default();
            loop {
                if let Err(ending) = reader.read(&mut arrived).await {
                    break (arrived, ending);
                }
            }
        });
        prop_assert_eq!(ending.error.close_code(), Some(1012));
        prop_assert_eq!(arrived.ping.is_some(), !messages.is_empty());
        let read: Vec<Message> = arrived.messages.into_iter().map(Result::unwrap).collect();
        let expected: Vec<Message> = messages
            .into_iter()
            .map(|(is_text, parts)| match is_text {
                true => Message::Text(parts.concat().into()),
                false => Message::Binary(parts.concat().into()),
            })
            .collect();
        prop_assert!(read == expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Checks that a client neither panics nor hangs on any bytes that it receives.
    #[test]
    fn any_bytes_lead_to_a_typed_ending(
        bytes in prop::collection::vec(
            prop_oneof![
                3 => any::<u8>().prop_map(|byte| vec![byte]),
                2 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..20))
                    .prop_map(|(first, payload)| frame(first & 0x8f, &payload)),
                2 => prop::collection::vec(any::<char>(), 0..10).prop_map(|text| {
                    frame(TEXT, text.into_iter().collect::<String>().as_bytes())
                }),
            ],
            0..40,
        )
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(after(&bytes.concat()));
    }
}
