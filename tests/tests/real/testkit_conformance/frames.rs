//! Sockets at frame level: keys in unusual places, invalid first frames, floods, limits.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    raw::{self, Frames, Line},
    side::Side,
};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;
const PONG: u8 = 10;

impl Side {
    fn auth(&self) -> String {
        json!({"type": "auth", "session_api_key": self.key}).to_string()
    }

    async fn frames(&self, target: &str) -> Frames {
        let mut frames = Frames::open(&self.url, target, "").await.unwrap();
        frames.send(TEXT, self.auth().as_bytes()).await;
        frames
    }
}

/// Returns the next text frame, decoded from JSON.
async fn text(frames: &mut Frames) -> Value {
    loop {
        match frames.next().await {
            Some((TEXT, payload)) => return serde_json::from_slice(&payload).unwrap(),
            Some((opcode, payload)) if opcode < 8 => panic!("{opcode} {payload:?}"),
            Some((8, payload)) => return json!({"closed": format!("{payload:?}")}),
            Some(_) => {}
            None => return json!("gone"),
        }
    }
}

/// Formats a frame without the values that always differ.
fn outline(frame: &Value) -> String {
    format!(
        "{} {} {} {}",
        frame["type"], frame["kind"], frame["event"]["key"], frame["code"]
    )
}

pub(crate) async fn first_frames(side: &mut Side) {
    let id = side.create(Value::Null).await;
    for kind in ["session", "events"] {
        let target = format!("/sockets/{kind}/{id}");
        for (name, opcode, payload) in [
            ("no JSON", TEXT, "nonsense".to_owned()),
            ("no key", TEXT, r#"{"type":"auth"}"#.to_owned()),
            ("no object", TEXT, "[]".to_owned()),
            ("wrong type", TEXT, side.auth().replace("auth", "login")),
            ("binary", BINARY, side.auth()),
        ] {
            let mut frames = Frames::open(&side.url, &target, "").await.unwrap();
            frames.send(opcode, payload.as_bytes()).await;
            let end = frames.end().await;
            side.note(format!("{kind} first {name}: {end}"));
        }
        // Old ways to send the key, and which takes precedence.
        let key = side.key.clone();
        let header = format!("X-Session-API-Key: {key}\r\n");
        for (name, target, head) in [
            ("header", target.clone(), header.as_str()),
            ("query", format!("{target}?session_api_key={key}"), ""),
            (
                "query before header",
                format!("{target}?session_api_key=wrong"),
                &header,
            ),
            (
                "wrong header",
                target.clone(),
                "X-Session-API-Key: wrong\r\n",
            ),
        ] {
            match Frames::open(&side.url, &target, head).await {
                Err(status) => side.note(format!("{kind} {name}: refused {status}")),
                Ok(mut frames) => {
                    let first = text(&mut frames).await;
                    side.note(format!("{kind} {name}: {}", outline(&first)));
                    // A second key has no effect.
                    frames.send(TEXT, side.auth().as_bytes()).await;
                    frames.send(PING, b"there?").await;
                    let pong = loop {
                        match frames.next().await.unwrap() {
                            (PONG, payload) => break payload,
                            (8, payload) => panic!("{payload:?}"),
                            _ => {}
                        }
                    };
                    side.note(format!("pong {}", String::from_utf8_lossy(&pong)));
                }
            }
        }
    }
    let mut frames = side.frames("/sockets/bash-events").await;
    frames.send(TEXT, b"nonsense").await;
    let sent = text(&mut frames).await;
    side.note(format!("bash nonsense: {}", sent["kind"]));
}

/// Sends valid and invalid messages by socket.
pub(crate) async fn said_by_socket(side: &mut Side) {
    let id = side.create(Value::Null).await;
    side.say(&id, "first", false).await;
    for (count, kind) in (1..).zip(["session", "events"]) {
        let mut frames = side.frames(&format!("/sockets/{kind}/{id}")).await;
        // Skip the frames of the subscription itself.
        while text(&mut frames).await.pointer("/event/key").is_none() && kind == "session" {}
        for bad in ["nonsense", "{}", r#"{"role":"user","content":7}"#] {
            frames.send(TEXT, bad.as_bytes()).await;
            let mut sent = text(&mut frames).await;
            while sent["key"] == "full_state" {
                sent = text(&mut frames).await;
            }
            side.note(format!("{kind} {bad}: {}", outline(&sent)));
        }
        let good = json!({"role": "user", "content": [{"type": "text", "text": "hello"}]});
        frames.send(TEXT, good.to_string().as_bytes()).await;
        side.answers(&id, count).await;
    }
    let (_, count) = side
        .ask(
            "GET",
            &format!("/api/conversations/{id}/events/count?kind=MessageEvent&source=user"),
            Value::Null,
        )
        .await;
    side.note(format!("messages {count}"));
}

/// Checks too many messages, too large ones, and messages after the end.
pub(crate) async fn limits(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let target = format!("/sockets/session/{id}?after_seq=-1");
    let mut open = Vec::new();
    let end = loop {
        let mut frames = side.frames(&target).await;
        match text(&mut frames).await {
            first if first["type"] == "sync" => open.push(frames),
            closed => break closed,
        }
    };
    side.note(format!("{} sockets, then {end}", open.len()));
    drop(open);

    // Larger than a frame: the log keeps the event, but the session socket cannot send it.
    let body = json!({"content": [{"type": "text", "text": "x".repeat(5_000_000)}]});
    let (status, _) = side
        .ask("POST", &format!("/api/conversations/{id}/events"), body)
        .await;
    side.note(format!("large {status}"));
    let mut frames = side.frames(&target).await;
    let end = frames.end().await;
    side.note(format!("session {end}"));
    let log = side.log(&id).await;
    let large = log
        .iter()
        .position(|event| event.to_string().len() > 4_000_000)
        .unwrap();
    let mut frames = side
        .frames(&format!("/sockets/session/{id}?after_seq={large}"))
        .await;
    let first = text(&mut frames).await;
    side.note(format!(
        "past it {} through the end: {}",
        first["type"],
        first["through_seq"] == log.len() - 1
    ));
    let mut legacy = side
        .frames(&format!("/sockets/events/{id}?resend_mode=all"))
        .await;
    let sent = loop {
        let event = text(&mut legacy).await;
        if event["kind"] == "MessageEvent" {
            break event.to_string().len() > 4_000_000;
        }
    };
    side.note(format!("legacy socket has it: {sent}"));

    // Larger than any message that a server accepts.
    let mut frames = side.frames(&format!("/sockets/session/{id}")).await;
    text(&mut frames).await;
    frames.send(TEXT, &vec![b'x'; 17 * 1024 * 1024]).await;
    let end = frames.end().await;
    side.note(format!("inbound {}", end.split(' ').next().unwrap()));

    // Deleted while a socket is open: the socket stays open and silent.
    let other = side.create(Value::Null).await;
    let mut frames = side
        .frames(&format!("/sockets/session/{other}?after_seq=-1"))
        .await;
    for _ in 0..2 {
        text(&mut frames).await;
    }
    side.check(
        "DELETE",
        &format!("/api/conversations/{other}"),
        Value::Null,
    )
    .await;
    let silent = tokio::time::timeout(Duration::from_millis(500), frames.next())
        .await
        .is_err();
    side.note(format!("silent after its end: {silent}"));
}

/// Checks which connections are kept, and the effect of an internal server error.
pub(crate) async fn connections(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let head = format!(
        "X-Session-API-Key: {}\r\nContent-Type: application/json\r\n",
        side.key
    );
    let mut line = Line::open(&side.url).await;
    let fine = line.ask("GET", "/ready", "", b"").await;
    side.note(format!(
        "{} {:?} {:?}",
        fine.status,
        fine.header("content-type"),
        fine.header("connection")
    ));
    let target = format!("/api/conversations/{id}/events");
    let body = br#"{"role":"assistant","content":[]}"#;
    let failed = line.ask("POST", &target, &head, body).await;
    side.note(format!(
        "{} {:?} {:?}",
        failed.status,
        failed.header("content-type"),
        failed.header("connection")
    ));
    // Less than the time after which an idle connection ends.
    let ended = line.ends_within(Duration::from_secs(4)).await;
    side.note(format!("ended at once, unannounced: {ended}"));
    let mut line = Line::open(&side.url).await;
    line.ask("GET", "/ready", "", b"").await;
    let early = line.ends_within(Duration::from_secs(3)).await;
    let late = line.ends_within(Duration::from_secs(60)).await;
    side.note(format!(
        "an idle one ends within 3 s: {early}, within 63 s: {late}"
    ));
    let unknown = raw::ask(&side.url, "GET", "/nothing", "", b"").await;
    side.note(format!(
        "{} {:?}",
        unknown.status,
        unknown.header("content-type")
    ));
    let refused = raw::ask(&side.url, "POST", &target, "X-Session-API-Key: no\r\n", b"").await;
    side.note(format!("{} {}", refused.status, refused.text()));
    let bearer = format!("Authorization: Bearer {}\r\n", side.key);
    let refused = raw::ask(&side.url, "GET", "/api/conversations/count", &bearer, b"").await;
    side.note(format!("bearer {}", refused.status));
    let nonsense = raw::ask(&side.url, "POST", "/api/conversations", &head, b"{nonsense").await;
    let nonsense: Value = serde_json::from_slice(&nonsense.body).unwrap();
    side.note(format!(
        "nonsense {} {}",
        nonsense["detail"][0]["type"], nonsense["detail"][0]["loc"][0]
    ));
    let wrong = raw::ask(
        &side.url,
        "PUT",
        &format!("/api/conversations/{id}"),
        &head,
        b"{}",
    )
    .await;
    side.note(format!(
        "wrong method {} {:?}",
        wrong.status,
        wrong.header("allow").is_some()
    ));
}
