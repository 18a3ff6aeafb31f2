//! Tests for how sockets end: closed by either side, cut off, silent, or left unread.

use super::*;

#[tokio::test(start_paused = true)]
async fn pitfall_08_a_close_has_its_code_and_reason() {
    for (code, reason, kind) in [
        (1000, "", ErrorKind::SocketClosed),
        (1012, "", ErrorKind::SocketClosed),
        (1013, "frame_too_large", ErrorKind::SocketClosed),
        (4001, "Authentication failed", ErrorKind::Unauthorized),
        (4004, "Conversation not found", ErrorKind::NotFound),
        (4999, "new", ErrorKind::SocketClosed),
    ] {
        let (mut socket, mut peer) = connected(SocketLimits::default()).await;
        peer.say(frame(
            CLOSE,
            &[&u16::to_be_bytes(code), reason.as_bytes()].concat(),
        ))
        .await;
        // Data after the close frame is ignored.
        peer.say(frame(TEXT, b"too late")).await;
        let error = socket.recv().await.unwrap_err();
        assert_eq!((error.kind(), error.close_code()), (kind, Some(code)));
        assert_eq!(error.close_reason(), Some(reason));
        assert_eq!(error.detail().unwrap_or_default(), reason);
        let answer = peer.hear().await.unwrap();
        assert_eq!(
            (answer.first, &*answer.payload),
            (CLOSE, &u16::to_be_bytes(code)[..])
        );
        assert_eq!(peer.hear().await, None, "the connection stays open");
        assert_eq!(
            socket.recv().await.unwrap_err().kind(),
            ErrorKind::Interrupted
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_odd_close_is_a_close_and_never_echoed() {
    for (payload, code, answer) in [
        (&b""[..], 1005, 1000),
        (b"\x03", 1005, 1000),
        (b"\x03\xe8\xff\xff", 1000, 1000),
        (b"\x00\x00", 0, 1002),
        (b"\x03\xed", 1005, 1000),
        (b"\x03\xee", 1006, 1002),
        (b"\x03\xf7", 1015, 1002),
        (b"\xff\xff", 65535, 1002),
    ] {
        let (mut socket, mut peer) = connected(SocketLimits::default()).await;
        peer.say(frame(CLOSE, payload)).await;
        let error = socket.recv().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.close_code()),
            (ErrorKind::SocketClosed, Some(code))
        );
        assert_eq!(peer.hear().await.unwrap().payload, u16::to_be_bytes(answer));
    }
}

#[tokio::test(start_paused = true)]
async fn messages_before_the_end_are_not_lost() {
    let bytes = [
        frame(TEXT, b"1"),
        frame(TEXT, b"2"),
        frame(CLOSE, b"\x03\xf5again"),
    ]
    .concat();
    let (messages, error) = after(&bytes).await;
    assert_eq!(messages, [text("1"), text("2")]);
    assert_eq!(
        (error.close_code(), error.close_reason()),
        (Some(1013), Some("again"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_cut_anywhere_is_an_interruption() {
    let whole = [frame(TEXT, b"one"), frame(TEXT, &[b'x'; 200])].concat();
    for end in [0, 1, 3, 5, 6, 8, 50, whole.len() - 1] {
        let (_, error) = after(&whole[..end]).await;
        assert_eq!(error.kind(), ErrorKind::Interrupted, "cut at {end}");
        assert_eq!(error.close_code(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_socket_only_when_pings_stay_unanswered() {
    let (mut socket, mut peer) = connected(SocketLimits::default()).await;
    let begun = Instant::now();
    let error = socket.recv().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("not even a pong"), "{error}");
    let waited = begun.elapsed().as_secs();
    assert!((100..=120).contains(&waited), "{waited}");
    assert_eq!(peer.hear().await.unwrap().first, PING);

    let (mut socket, mut peer) = connected(SocketLimits::default()).await;
    let answering = tokio::spawn(async move {
        let mut pings = 0;
        while let Some(sent) = peer.hear().await {
            assert_eq!(sent.first, PING);
            peer.say(frame(PONG, &sent.payload)).await;
            pings += 1;
        }
        pings
    });
    let quiet = timeout(Duration::from_secs(3590), socket.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    drop(socket);
    assert_eq!(answering.await.unwrap(), 3590 / 20);
}

#[tokio::test(start_paused = true)]
async fn pongs_delayed_by_a_hook_for_more_than_a_minute_do_not_end_a_socket() {
    let (mut socket, mut peer) = connected(SocketLimits::default()).await;
    let frozen = tokio::spawn(async move {
        for _ in 0..10 {
            // The server's event loop is blocked; afterwards it responds to everything at once.
            tokio::time::sleep(Duration::from_secs(70)).await;
            let mut answered = 0;
            while let Ok(sent) = timeout(Duration::from_millis(1), peer.hear()).await {
                assert_eq!(sent.unwrap().first, PING);
                answered += 1;
                peer.say(frame(PONG, b"")).await;
            }
            assert!(answered > 2, "{answered}");
        }
        peer.say(frame(TEXT, b"thawed")).await;
        peer
    });
    assert_eq!(socket.recv().await.unwrap(), text("thawed"));
    drop(frozen.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_shorter_limit_for_silence_is_possible() {
    let limits = SocketLimits::default().with_silence(Duration::from_secs(1));
    let (mut socket, _peer) = connected(limits).await;
    let begun = Instant::now();
    assert_eq!(socket.recv().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn pitfall_21_a_slow_reader_slows_the_server_and_does_not_count_as_silence() {
    let (mut socket, mut peer) = connected(SocketLimits::default()).await;
    let message = vec![b'x'; 60_000];
    let whole = frame(TEXT, &message);
    let (mut sent, mut left) = (0, 0);
    // Write until all buffers are full.
    while let Ok(written) = timeout(Duration::from_secs(5), peer.0.write(&whole[left..])).await {
        left = (left + written.unwrap()) % whole.len();
        sent += usize::from(left == 0);
        assert!(sent < 200, "nothing holds the server back");
    }
    tokio::time::sleep(Duration::from_secs(1000)).await;
    for _ in 0..sent {
        assert_eq!(
            socket.recv().await.unwrap(),
            Message::Text(Bytes::from(message.clone()))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn pitfall_07_a_close_frame_is_sent_at_once() {
    let (socket, mut peer) = connected(SocketLimits::default()).await;
    let begun = Instant::now();
    socket.close(1000, "done").await;
    assert!(begun.elapsed() < Duration::from_millis(100));
    let goodbye = peer.hear().await.unwrap();
    assert_eq!(
        (goodbye.first, &*goodbye.payload),
        (CLOSE, &b"\x03\xe8done"[..])
    );
    assert_eq!(peer.hear().await, None);
}

#[tokio::test(start_paused = true)]
async fn pitfall_07_a_close_does_not_wait_for_a_peer_that_reads_nothing() {
    let (socket, peer) = connected(SocketLimits::default()).await;
    let stuck = socket.send(text(&"x".repeat(1 << 20)));
    assert!(
        timeout(Duration::from_secs(1), stuck).await.is_err(),
        "the pipe has no end"
    );
    let begun = Instant::now();
    socket.close(1000, "").await;
    assert!(begun.elapsed() < Duration::from_millis(100));
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_ends_the_socket() {
    let (mut socket, _peer) = connected(SocketLimits::default()).await;
    let error = socket.send(text(&"x".repeat(1 << 20))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let error = socket.recv().await.unwrap_err();
    assert!(
        error.to_string().contains("nothing could be sent"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn text_that_is_not_utf8_is_not_sent() {
    let (socket, mut peer) = connected(SocketLimits::default()).await;
    let bad = Message::Text(Bytes::from_static(b"\xff"));
    assert_eq!(
        socket.send(bad).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let (sent, heard) = tokio::join!(socket.send(text("fine")), peer.hear());
    sent.unwrap();
    assert_eq!(heard.unwrap().payload, b"fine");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_socket_cuts_its_connection() {
    let (socket, mut peer) = connected(SocketLimits::default()).await;
    drop(socket);
    assert_eq!(peer.hear().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_is_dropped_loses_nothing() {
    let (mut socket, mut peer) = connected(SocketLimits::default()).await;
    let mut seen = Vec::new();
    for byte in [frame(TEXT, b"first"), frame(TEXT, b"second")].concat() {
        if let Ok(message) = timeout(Duration::from_millis(1), socket.recv()).await {
            seen.push(message.unwrap());
        }
        peer.say([byte]).await;
    }
    seen.push(socket.recv().await.unwrap());
    assert_eq!(seen, [text("first"), text("second")]);
}

#[tokio::test(start_paused = true)]
async fn sending_on_an_ended_socket_is_an_error() {
    let (mut socket, peer) = connected(SocketLimits::default()).await;
    drop(peer);
    assert_eq!(
        socket.recv().await.unwrap_err().kind(),
        ErrorKind::Interrupted
    );
    assert_eq!(
        socket.send(text("x")).await.unwrap_err().kind(),
        ErrorKind::Interrupted
    );
}

#[tokio::test]
async fn a_waiting_socket_uses_little_memory() {
    let (ours, _theirs) = duplex(16);
    let (read, write) = tokio::io::split(Stream::new(ours));
    let (_, writer) = after_handshake_split(tokio::io::empty(), write, Role::Client);
    let (_socket, peer) = Socket::pair(1);
    let limits = SocketLimits::default();
    let reader = Frames::new(read, Vec::new(), limits.message);
    let bytes = size_of_val(&tend(peer, reader, writer, limits));
    assert!(bytes <= 1280, "{bytes} bytes");
}

#[tokio::test(start_paused = true)]
async fn sending_does_not_wait_once_the_socket_has_ended_while_its_reader_is_behind() {
    let (mut socket, mut peer) = connected(SocketLimits::default()).await;
    for _ in 0..100 {
        peer.say(frame(TEXT, b"small")).await;
    }
    drop(peer);
    // The call returns whether it starts before or after the end, even if nothing is read.
    let sending = async {
        while let Ok(()) = socket.send(text("x")).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(3600), sending)
        .await
        .expect("send waits for the reader");
    let ending = loop {
        match socket.recv().await {
            Ok(message) => assert_eq!(message, text("small")),
            Err(error) => break error,
        }
    };
    assert_eq!(ending.kind(), ErrorKind::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn a_pending_send_ends_with_its_socket() {
    let (socket, mut peer) = connected(SocketLimits::default()).await;
    for _ in 0..100 {
        peer.say(frame(TEXT, b"small")).await;
    }
    let long = "x".repeat(1 << 20);
    let (sent, ()) = tokio::join!(socket.send(text(&long)), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(peer);
    });
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn a_protocol_violation_is_answered_with_its_code() {
    let limits = SocketLimits::default().with_message(10);
    for (bytes, code) in [
        (frame(0x83, b"x"), 1002),
        (frame(GOES_ON_ENDS, b"x"), 1002),
        (frame(PING, &[0; 126]), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, &[b'x'; 11]), 1009),
    ] {
        let (mut socket, mut peer) = connected(limits).await;
        peer.say(bytes).await;
        let error = socket.recv().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.close_code()),
            (ErrorKind::Decode, None)
        );
        drop(socket);
        let answer = peer.hear().await.unwrap();
        assert_eq!(
            (answer.first, answer.payload),
            (CLOSE, u16::to_be_bytes(code).to_vec())
        );
        assert_eq!(peer.hear().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_frame_has_an_allowed_code_and_length() {
    let long = "ä".repeat(100);
    for (code, sent) in [
        (1000, 1000),
        (1001, 1001),
        (3000, 3000),
        (4999, 4999),
        (0, 1000),
        (999, 1000),
        (1004, 1000),
        (1005, 1000),
        (1006, 1000),
        (1015, 1000),
        (2999, 1000),
        (5000, 1000),
        (65535, 1000),
    ] {
        let (socket, mut peer) = connected(SocketLimits::default()).await;
        socket.close(code, &long).await;
        let goodbye = peer.hear().await.unwrap();
        assert_eq!(goodbye.payload[..2], u16::to_be_bytes(sent), "{code}");
        // The reason is cut at the last whole character below 123 bytes.
        assert_eq!(goodbye.payload[2..], *"ä".repeat(61).as_bytes());
    }
}
