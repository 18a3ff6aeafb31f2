//! Tests for hand-written bytes that are split at every position.

use std::task::Waker;

use super::*;

const LAST: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = LAST | 0x8;
const PING: u8 = LAST | 0x9;
const PONG: u8 = LAST | 0xA;

/// Returns a frame whose length is encoded in 0, 2 or 8 extra bytes.
fn frame(first: u8, length_bytes: usize, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_be_bytes();
    let mut bytes = vec![first];
    match length_bytes {
        0 => bytes.push(length[7]),
        2 => bytes.push(126),
        _ => bytes.push(127),
    }
    bytes.extend(&length[8 - length_bytes..]);
    bytes.extend(payload);
    bytes
}

fn text(text: &str) -> Message {
    Message::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn taken(decoder: &mut Decoder, bytes: &[u8], arrived: &mut Arrived) -> Option<Error> {
    decoder
        .take(bytes, arrived)
        .err()
        .map(|ending| ending.error)
}

/// Decodes these chunks.
fn read<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Message>, Option<Bytes>, Option<Error>) {
    let (mut decoder, mut arrived) = (Decoder::new(1000), Arrived::default());
    let ending = chunks
        .into_iter()
        .find_map(|chunk| taken(&mut decoder, chunk, &mut arrived));
    let messages = arrived.messages.into_iter().map(Result::unwrap);
    (messages.collect(), arrived.ping, ending)
}

#[test]
fn messages_are_the_same_at_any_split() {
    let long = "€".repeat(100);
    let bytes = [
        frame(LAST | TEXT, 0, b""),
        frame(LAST | TEXT, 0, b"short"),
        frame(LAST | TEXT, 2, long.as_bytes()),
        frame(LAST | BINARY, 8, b"\xff"),
        frame(PING, 0, b"first"),
        frame(TEXT, 2, &long.as_bytes()[..100]),
        frame(PING, 0, b"second"),
        frame(0, 0, b""),
        frame(PONG, 0, b"none asked"),
        frame(LAST, 8, &long.as_bytes()[100..]),
        frame(BINARY, 0, b""),
        frame(LAST, 0, b""),
        frame(CLOSE, 0, b"\x0f\xa4Conversation not found"),
    ]
    .concat();
    let messages = [
        text(""),
        text("short"),
        text(&long),
        Message::Binary(Bytes::from_static(b"\xff")),
        text(&long),
        Message::Binary(Bytes::new()),
    ];
    let check = |(seen, ping, ending): (Vec<Message>, Option<Bytes>, Option<Error>), torn: &str| {
        assert_eq!(seen, messages, "{torn}");
        assert_eq!(ping.as_deref(), Some(&b"second"[..]), "{torn}");
        let ending = ending.expect(torn);
        assert_eq!(ending.close_code(), Some(4004), "{torn}");
        let reason = ending.close_reason();
        assert_eq!(reason, Some("Conversation not found"), "{torn}");
    };
    for at in 0..bytes.len() {
        let (before, after) = bytes.split_at(at);
        check(read([before, after]), &format!("torn at {at}"));
    }
    for length in 1..20 {
        check(read(bytes.chunks(length)), &format!("by {length}"));
    }
}

#[test]
fn a_fault_is_reported_at_once_after_all_valid_messages() {
    // A protocol violation, and after how many of its bytes it is detected.
    let cases: [(&str, Vec<u8>, usize, &str); 17] = [
        ("bit 1", vec![LAST | TEXT | 0x40], 1, "extension"),
        ("bit 2", vec![LAST | TEXT | 0x20], 1, "extension"),
        ("bit 3", vec![LAST | TEXT | 0x10], 1, "extension"),
        ("data", vec![LAST | 0x3], 1, "unknown frame type"),
        ("control", vec![LAST | 0xB], 1, "unknown frame type"),
        ("ping in parts", vec![0x9], 1, "fragmented"),
        ("close in parts", vec![0x8], 1, "fragmented"),
        ("masked", vec![LAST | TEXT, 0x81], 2, "masked"),
        ("long ping", vec![PING, 126], 2, "too long"),
        ("long pong", vec![PONG, 127], 2, "too long"),
        ("long close", vec![CLOSE, 126], 2, "too long"),
        ("part of nothing", vec![LAST, 0], 2, "out of order"),
        (
            "text in text",
            [frame(TEXT, 0, b"a"), vec![TEXT, 0]].concat(),
            5,
            "out of order",
        ),
        (
            "binary in text",
            [frame(TEXT, 0, b""), vec![LAST | BINARY, 5]].concat(),
            4,
            "out of order",
        ),
        ("above", vec![BINARY, 126, 3, 0xE9], 4, "limit of 1000"),
        (
            "above in parts",
            [frame(TEXT, 2, &[b'x'; 999]), vec![LAST, 2]].concat(),
            1005,
            "limit of 1000",
        ),
        (
            "no length",
            [&[LAST | TEXT, 127][..], &[0xFF; 8]].concat(),
            10,
            "limit of 1000",
        ),
    ];
    for (name, breach, shows, says) in cases {
        let before = frame(LAST | TEXT, 0, b"before");
        let bytes = [before.clone(), breach].concat();
        let end = before.len() + shows;
        for at in 0..end {
            let (messages, _, ending) = read([&bytes[..at], &bytes[at..end - 1]]);
            assert_eq!(messages, [text("before")][..messages.len()], "{name}");
            assert!(ending.is_none(), "{name}: {ending:?}");
            let (messages, _, ending) = read([&bytes[..at], &bytes[at..end]]);
            assert_eq!(messages, [text("before")], "{name} at {at}");
            let ending = ending.expect(name);
            assert_eq!(ending.kind(), ErrorKind::Decode, "{name}");
            assert!(ending.to_string().contains(says), "{name}: {ending}");
        }
    }
}

#[test]
fn a_whole_text_must_be_utf8() {
    for (parts, right) in [
        (&["€".as_bytes()][..], true),
        (&[b"\xe2", b"\x82", b"\xac"], true),
        (&[b"\xe2", b"", b"\x82"], false),
        (&[b"\xe2\x82"], false),
        (&[b"fine", b"\xff"], false),
        // A surrogate, and a code point above the maximum.
        (&[b"\xed\xa0\x80"], false),
        (&[b"\xf4\x90\x80\x80"], false),
    ] {
        let mut bytes = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let first = if at == 0 { TEXT } else { 0 };
            let last = if at + 1 == parts.len() { LAST } else { 0 };
            bytes.extend(frame(first | last, 0, part));
        }
        let (messages, _, ending) = read([&bytes[..]]);
        assert_eq!(messages.len(), usize::from(right), "{parts:?}");
        let kind = ending.map(|ending| ending.kind());
        assert_eq!(kind, (!right).then_some(ErrorKind::Decode), "{parts:?}");
    }
}

#[test]
fn a_message_at_the_limit_is_accepted() {
    let whole = frame(LAST | BINARY, 2, &[0; 1000]);
    let parts = [
        frame(BINARY, 2, &[0; 999]),
        frame(0, 0, b""),
        frame(LAST, 0, b"\0"),
    ];
    let (messages, _, ending) = read([&[whole, parts.concat()].concat()[..]]);
    assert!(ending.is_none(), "{ending:?}");
    let expected = Message::Binary(Bytes::from(vec![0; 1000]));
    assert_eq!(messages, [expected.clone(), expected]);
}

#[test]
fn messages_hold_only_their_own_memory() {
    let mut decoder = Decoder::new(1 << 20);
    let mut arrived = Arrived::default();
    let mut many_parts = frame(TEXT, 0, b"begin");
    for _ in 0..1000 {
        many_parts.extend(frame(0, 0, b"part"));
    }
    many_parts.extend(frame(LAST, 0, b"end"));
    for bytes in [
        frame(LAST | TEXT, 2, &[b'x'; 700]),
        frame(PING, 0, b"ping"),
        frame(PONG, 0, b"pong"),
        many_parts,
    ] {
        for chunk in bytes.chunks(333) {
            decoder.take(chunk, &mut arrived).unwrap();
        }
        assert_eq!(decoder.message.capacity(), 0);
        assert_eq!(decoder.control.capacity(), 0);
    }
    assert_eq!(arrived.messages.len(), 2);
    for message in arrived.messages {
        let Ok(Message::Text(text)) = message else {
            panic!("{message:?}");
        };
        let length = text.len();
        assert_eq!(Vec::from(text).capacity(), length);
    }
}

/// A stream that returns its chunks one by one and is pending before each.
struct Torn<'a> {
    chunks: VecDeque<&'a [u8]>,
    ready: bool,
    reads: usize,
}

impl AsyncRead for Torn<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.ready = !self.ready;
        if !self.ready {
            return Poll::Pending;
        }
        if let Some(chunk) = self.chunks.pop_front() {
            let (now, later) = chunk.split_at(chunk.len().min(buffer.remaining()));
            buffer.put_slice(now);
            if !later.is_empty() {
                self.chunks.push_front(later);
            }
        }
        self.reads += 1;
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_dropped_read_loses_nothing_and_a_long_payload_is_read_in_place() {
    let long = vec![b'l'; 10 * CHUNK];
    let bytes = [
        frame(LAST | TEXT, 0, b"before"),
        frame(LAST | TEXT, 8, &long),
        frame(LAST | TEXT, 0, b"after"),
    ]
    .concat();
    for chunk in [bytes.len(), CHUNK, CHUNK + 7, 1 << 10, 7001] {
        let stream = Torn {
            chunks: bytes.chunks(chunk).collect(),
            ready: true,
            reads: 0,
        };
        let mut frames = Frames::new(stream, Vec::new(), 1 << 20);
        let mut arrived = Arrived::default();
        let ending = loop {
            // Poll once and drop the future, regardless of the result.
            let once =
                pin!(frames.read(&mut arrived)).poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(Err(ending)) = once {
                break ending;
            }
        };
        assert_eq!(ending.error.kind(), ErrorKind::Interrupted);
        let messages: Vec<Message> = arrived.messages.into_iter().map(Result::unwrap).collect();
        let expected = [
            text("before"),
            Message::Text(Bytes::from(long.clone())),
            text("after"),
        ];
        assert!(messages == expected, "by {chunk}");
        // The first read, the rest of the long payload, the data after it, and the end.
        if chunk == bytes.len() {
            assert_eq!(frames.stream.reads, 4);
        }
    }
}
