//! Limited resources of a server: places for runs and for sockets. Played on both servers.

use openhands::transport::Message;
use serde_json::{Value, json};

use super::side::{Side, next, story};

impl Side {
    /// Creates a conversation whose agent has no tools. With a message it runs at once.
    async fn plain(&self, more: Value) -> (u16, Value) {
        let mut body = json!({
            "workspace": {"working_dir": self.work},
            "autotitle": false,
            "agent": {"kind": "Agent", "llm": self.llm, "tools": []},
        });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        self.ask("POST", "/api/conversations", body).await
    }
}

fn message() -> Value {
    json!({"role": "user", "content": [{"type": "text", "text": "take your time"}]})
}

/// Fills all places for runs: what is then rejected, what is kept, and what still works. `most` is
/// the number of runs that may start.
pub(crate) async fn runs(side: &mut Side, most: usize) {
    let (_, spare) = side.plain(Value::Null).await;
    let spare = spare["id"].as_str().unwrap().to_owned();
    let path = format!("/api/conversations/{spare}");
    let mut busy = Vec::new();
    for _ in 0..most {
        let mut first = message();
        first["run"] = json!(true);
        let (status, info) = side.plain(json!({"initial_message": first})).await;
        assert_eq!(status, 201, "{info}");
        busy.push(info["id"].as_str().unwrap().to_owned());
    }
    for id in &busy {
        side.until(id, "running").await;
    }
    let (status, refused) = side.plain(Value::Null).await;
    side.note(format!("one more: {status} {refused}"));
    let (status, _) = side.plain(json!({"conversation_id": busy[0]})).await;
    side.note(format!("the same again: {status}"));
    side.check(
        "POST",
        &format!("/api/conversations/{}/run", busy[0]),
        Value::Null,
    )
    .await;
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    let mut said = message();
    said["run"] = json!(true);
    side.check("POST", &format!("{path}/events"), said).await;
    side.check("POST", &format!("{path}/events"), message())
        .await;
    for (what, body) in [
        ("goal", json!({"objective": "rest"})),
        ("children", json!({"task": "rest"})),
        ("events/respond_to_confirmation", json!({"accept": true})),
        ("events/respond_to_confirmation", json!({"accept": false})),
    ] {
        side.check("POST", &format!("{path}/{what}"), body).await;
    }
    let (status, _) = side.ask("POST", &format!("{path}/fork"), json!({})).await;
    side.note(format!("a fork: {status}"));
    for kind in ["session", "events"] {
        let mut socket = side.socket(&format!("/sockets/{kind}/{spare}")).await;
        let said = message().to_string().into_bytes();
        socket.send(Message::Text(said.into())).await.unwrap();
        let refused = loop {
            let frame = next(&mut socket).await.unwrap();
            if frame["code"].is_string() {
                break frame;
            }
        };
        side.note(format!("{kind}: {}", refused["code"]));
    }
    side.settled(&spare).await;
    let log = side.log(&spare).await;
    side.note(story(&log).join("\n"));
    let (_, info) = side.ask("GET", &path, Value::Null).await;
    side.note(info["execution_status"].to_string());

    // One run ends, and its place is free.
    let interrupt = format!("/api/conversations/{}/interrupt", busy[0]);
    side.check("POST", &interrupt, Value::Null).await;
    side.until(&busy[0], "paused").await;
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    side.until(&spare, "running").await;
    side.check(
        "POST",
        &format!("/api/conversations/{}/run", busy[0]),
        Value::Null,
    )
    .await;
    for id in busy.iter().chain([&spare]) {
        let interrupt = format!("/api/conversations/{id}/interrupt");
        side.ask("POST", &interrupt, Value::Null).await;
    }
}

/// Fills all places for sockets: of a conversation, with both kinds together, and of commands.
pub(crate) async fn sockets(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let of_conversation = |n: usize| match n % 2 {
        0 => format!("/sockets/events/{id}"),
        _ => format!("/sockets/session/{id}"),
    };
    let of_commands = |_| "/sockets/bash-events".to_owned();
    let paths: [(&str, &(dyn Fn(usize) -> String + Sync)); 2] = [
        ("conversation", &of_conversation),
        ("commands", &of_commands),
    ];
    for (what, path) in paths {
        let mut open = Vec::new();
        let end = loop {
            assert!(open.len() < 200, "no end of sockets");
            let mut socket = side.socket(&path(open.len())).await;
            // The sockets for commands receive a command; the others receive the state.
            let first = match what {
                "commands" => side.subscribed(&mut socket).await,
                _ => next(&mut socket).await.map(drop),
            };
            match first {
                Ok(()) => open.push(socket),
                Err(end) => break end,
            }
        };
        side.note(format!("{what}: {} sockets, then {end}", open.len()));
    }
}
