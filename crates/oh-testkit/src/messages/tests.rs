//! Messages through a proxy, piece by piece.

use tokio::io::{DuplexStream, duplex};

use super::*;

/// Plays a server that sends `answers`, and returns what both sides received.
async fn through(asked: &[&str], answers: &[&str], traffic: &Traffic) -> (String, String) {
    let (client, near) = duplex(1 << 20);
    let (far, server) = duplex(1 << 20);
    let say = async |end: &mut DuplexStream, pieces: &[&str]| {
        for piece in pieces {
            // Fails if the peer has closed its end.
            let _ = end.write_all(piece.as_bytes()).await;
            // Lets the peer read each piece separately.
            tokio::task::yield_now().await;
        }
    };
    let ask = async |mut end: DuplexStream| {
        say(&mut end, asked).await;
        let mut got = String::new();
        end.read_to_string(&mut got).await.unwrap();
        got
    };
    let answer = async |mut end: DuplexStream| {
        let mut got = vec![0; asked.concat().len()];
        if end.read_exact(&mut got).await.is_ok() {
            say(&mut end, answers).await;
        }
        String::from_utf8(got).unwrap()
    };
    let proxy = async {
        converse(near, far, traffic).await;
    };
    let (to_client, to_server, ()) = tokio::join!(ask(client), answer(server), proxy);
    (to_client, to_server)
}

#[tokio::test]
async fn bodies_of_each_kind_are_passed_unchanged() {
    let traffic = Traffic::new(0);
    let post = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (asked, answers) in [
        (
            vec![post, "5;x=y\r\nhel", "lo\r\n0\r\nT: v\r\n\r", "\n"],
            vec!["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"],
        ),
        (
            vec!["POST /b HTTP/1.1\r\ncontent-length: 3\r\n\r\nab", "c"],
            vec![
                "HTTP/1.1 100 Continue\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
                "k",
            ],
        ),
        (
            vec!["HEAD /c HTTP/1.1\r\n\r\n"],
            vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"],
        ),
        (
            vec!["GET /d HTTP/1.1\r\n\r\n"],
            vec!["HTTP/1.1 200 OK\r\n\r\nto the ", "end"],
        ),
        (
            vec!["GET /e HTTP/1.1\r\n\r\n"],
            vec!["HTTP/1.1 204 No Content\r\n\r\n"],
        ),
    ] {
        let (to_client, to_server) = through(&asked, &answers, &traffic).await;
        assert_eq!(to_client, answers.concat());
        assert_eq!(to_server, asked.concat());
    }
    let bodies: Vec<_> = traffic.seen.all().into_iter().map(|it| it.body).collect();
    assert_eq!(bodies, ["", "abc", "", "", ""]);
}

#[tokio::test]
async fn invalid_input_ends_the_connection() {
    let traffic = Traffic::new(0);
    let chunks = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    let endless = "x".repeat(MAX_HEAD + 1);
    for asked in [vec![endless.as_str()], vec![chunks, "xyz\r\n"]] {
        let (to_client, _) = through(&asked, &[], &traffic).await;
        assert_eq!(to_client, "");
    }
}

#[test]
fn kinds_of_frames_are_distinguished() {
    assert_eq!(frame(&[0x81]), None);
    assert_eq!(frame(&[0x81, 2, b'{']), None);
    assert_eq!(frame(&[0x81, 2, b'{', b'}', 0x89]), Some(4));
    let long = text_frame(&[b' '; 70_000]);
    assert_eq!(frame(&long), Some(long.len()));
    for (text, event) in [
        (r#"{"kind":"PauseEvent"}"#, true),
        (r#"{"type":"durable","seq":1}"#, true),
        (r#"{"type":"sync"}"#, false),
        ("nonsense", false),
    ] {
        assert_eq!(is_event(&text_frame(text.as_bytes())), event, "{text}");
    }
}
