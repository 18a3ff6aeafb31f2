//! All conversations of a server are closed, as before a pause of the sandbox around it, and the
//! routes of conversations in containers on a server that has none. Played on both servers.

use std::time::Duration;

use openhands::testkit::{FakeServer, Gate, Script, ScriptedModel, Step};
use serde_json::{Value, json};

use super::{
    agree::differences,
    lifecycle::{fake_side, real_side},
    places,
    side::{Side, next, story},
};

const PREPARE: &str = "/api/conversations/prepare-for-sandbox-pause";

/// Closes two conversations: one that has an open socket and a changed policy, and one that runs.
async fn closed(side: &mut Side, asked: &Gate) {
    let quiet = side.create(Value::Null).await;
    let path = format!("/api/conversations/{quiet}/confirmation_policy");
    let always = json!({"policy": {"kind": "AlwaysConfirm"}});
    side.check("POST", &path, always).await;
    let busy = side.create(Value::Null).await;
    side.say(&busy, "hello", true).await;
    asked.arrived(1).await;
    let mut socket = side.socket(&format!("/sockets/session/{quiet}")).await;
    let sync = next(&mut socket).await.unwrap();
    side.note(sync["type"].to_string());
    for _ in 0..2 {
        side.check("POST", PREPARE, Value::Null).await;
    }
    let path = format!("/api/conversations/{busy}");
    let (_, info) = side.ask("GET", &path, Value::Null).await;
    side.note(info["execution_status"].to_string());
    places::policies(side, &quiet).await;
    side.say(&quiet, "still here", false).await;
    side.settled(&quiet).await;
    // The old socket belongs to the closed conversation.
    while let Ok(heard) = tokio::time::timeout(Duration::from_secs(1), next(&mut socket)).await {
        let Ok(frame) = heard else {
            side.note(format!("{heard:?}"));
            break;
        };
        let event = &frame["event"];
        side.note(format!(
            "{} {} {}",
            frame["type"], event["kind"], event["key"]
        ));
    }
    for id in [quiet, busy] {
        let mut log = side.log(&id).await;
        // Logged if the cancelled run ends before the log is closed.
        log.retain(|event| event["kind"] != "InterruptEvent");
        side.note(story(&log).join("\n"));
    }
}

/// Checks the responses to requests about containers and bound credentials.
async fn without_containers(side: &mut Side) {
    let id = side.create(Value::Null).await;
    for id in [id.as_str(), "00000000-0000-4000-8000-000000000000"] {
        let path = format!("/api/conversations/{id}");
        for (method, rest, body) in [
            ("DELETE", "runtime", Value::Null),
            ("POST", "runtime/credentials", Value::Null),
            (
                "PUT",
                "credential-bindings/OTHER",
                json!({"url": "http://h"}),
            ),
            ("PUT", "credential-bindings/OTHER", json!({})),
            ("PUT", "credential-bindings/CODEX_AUTH_JSON", json!({})),
        ] {
            side.check(method, &format!("{path}/{rest}"), body).await;
        }
    }
    let docker = json!({"workspace": {"working_dir": side.work}, "conversation_runtime": "docker",
        "agent": {"kind": "Agent", "llm": side.llm, "tools": []}});
    side.check("POST", "/api/conversations", docker).await;
}

#[tokio::test]
async fn the_fake_server_agrees_on_a_pause_of_its_sandbox() {
    let script = |asked: &Gate| Script::new().step(Step::text("late").hold(asked));
    let asked = Gate::new();
    let fake = FakeServer::builder().script(script(&asked)).start().await;
    let fake = fake.unwrap();
    let mut on_the_fake = fake_side(&fake);
    closed(&mut on_the_fake, &asked).await;
    without_containers(&mut on_the_fake).await;

    let asked = Gate::new();
    let model = ScriptedModel::start(script(&asked)).await.unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let work = home.path().join("work").to_str().unwrap().to_owned();
    let mut on_the_real = real_side(&server, work, model.llm());
    closed(&mut on_the_real, &asked).await;
    without_containers(&mut on_the_real).await;
    let differences = differences(&on_the_fake.seen, &on_the_real.seen);
    assert!(
        differences.is_empty(),
        "the two servers disagree:{differences}"
    );
    server.shutdown(Duration::from_secs(10)).await.unwrap();
}
