//! The lifecycle of servers: killed and restarted, dormant and activated, two on one directory.
//! Played on the fake server and on real ones.

use std::time::Duration;

use openhands::{
    LocalServer,
    testkit::{FakeServer, Gate, Script, ScriptedModel, Step, fake::Observation},
    transport::Client,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{
    agree::differences,
    held, places,
    raw::{self, Frames},
    side::{Side, next, story},
};

/// The key for the activation, which also encrypts secrets on the disk.
const SECRET: &str = "the-key-of-the-warm-pool";
/// The session key that the activation sets.
const FRESH: &str = "the-key-of-the-next-user";

fn side(url: &str, key: &str, work: String, llm: Value) -> Side {
    let client = Client::builder(url).session_api_key(key).build().unwrap();
    Side {
        client,
        url: url.trim_end_matches('/').to_owned(),
        key: key.to_owned(),
        work,
        llm,
        asked: Gate::new(),
        seen: String::new(),
    }
}

pub(super) fn fake_side(server: &FakeServer) -> Side {
    let llm = json!({"model": ScriptedModel::MODEL, "api_key": "k"});
    side(
        &server.url(),
        server.session_api_key(),
        "/project".into(),
        llm,
    )
}

pub(super) fn real_side(server: &LocalServer, work: String, llm: Value) -> Side {
    let key = server.session_api_key().expose_secret();
    side(server.url().as_str(), key, work, llm)
}

/// Checks the responses of a server before its activation, and to invalid activations. `own` is
/// part of the activation.
async fn dormant(side: &mut Side, own: Value) {
    let key = format!("X-Session-API-Key: {}\r\n", side.key);
    for path in ["/ready", "/alive", "/health", "/server_info", "/api/init"] {
        side.check("GET", path, Value::Null).await;
    }
    for (path, head) in [
        ("/api/conversations/count", key.as_str()),
        ("/api/conversations/count", ""),
        ("/api/bash/bash_events/search", &key),
        ("/v1/models", &key),
        ("/api/nothing", &key),
    ] {
        let answer = raw::ask(&side.url, "GET", path, head, b"").await;
        side.note(format!(
            "dormant {path} {} {}",
            answer.status,
            answer.text()
        ));
    }
    for path in [
        "/sockets/session/00000000-0000-4000-8000-000000000000",
        "/sockets/events/00000000-0000-4000-8000-000000000000",
        "/sockets/bash-events",
    ] {
        let opened = Frames::open(&side.url, path, "").await;
        side.note(format!("dormant {path} {:?}", opened.err()));
    }
    let mut right = json!({"session_api_keys": [FRESH], "max_concurrent_runs": 2});
    if let (Value::Object(right), Value::Object(own)) = (&mut right, own) {
        right.extend(own);
    }
    for (init, body) in [
        ("", right.clone()),
        ("wrong", right.clone()),
        ("wrong", json!({"nothing": 1})),
        (SECRET, json!({"nothing": 1})),
        (SECRET, json!({"max_concurrent_runs": 0})),
        (SECRET, json!({"session_api_keys": [""]})),
        (SECRET, right.clone()),
        (SECRET, right),
        (SECRET, json!({"session_api_keys": [""]})),
    ] {
        let head = format!("X-Init-API-Key: {init}\r\nContent-Type: application/json\r\n");
        let body = body.to_string();
        let answer = raw::ask(&side.url, "POST", "/api/init", &head, body.as_bytes()).await;
        let answered: Value = serde_json::from_slice(&answer.body).unwrap();
        // Only the kind and location of a validation error are compared.
        let shown = match answered["detail"].as_array() {
            Some(problems) => format!("{} {}", problems[0]["type"], problems[0]["loc"]),
            None => answered.to_string(),
        };
        side.note(format!("activated {} {shown}", answer.status));
    }
    let old = raw::ask(&side.url, "GET", "/api/conversations/count", &key, b"").await;
    side.note(format!("the key of before {}", old.status));
    side.client = Client::builder(side.url.as_str())
        .session_api_key(FRESH)
        .build()
        .unwrap();
    side.key = FRESH.to_owned();
    side.check("GET", "/api/init", Value::Null).await;
}

/// Checks the responses about a conversation that another server holds.
async fn leased(side: &mut Side, id: &str) {
    let path = format!("/api/conversations/{id}");
    let info = side.check("GET", &path, Value::Null).await;
    side.note(info["execution_status"].to_string());
    side.check("GET", "/api/conversations/count", Value::Null)
        .await;
    let (_, batch) = side
        .ask("GET", &format!("/api/conversations?ids={id}"), Value::Null)
        .await;
    side.note(format!("batch {}", batch[0]["execution_status"]));
    let said = json!({"content": [{"type": "text", "text": "hello"}]});
    for (method, rest, body) in [
        ("GET", "/events/search", Value::Null),
        ("GET", "/events/count", Value::Null),
        ("GET", "/events/x", Value::Null),
        ("GET", "/events", json!(["x"])),
        ("POST", "/events", said.clone()),
        (
            "POST",
            "/events/respond_to_confirmation",
            json!({"accept": true}),
        ),
        ("POST", "/run", Value::Null),
        ("POST", "/pause", Value::Null),
        ("POST", "/interrupt", Value::Null),
        ("PATCH", "", json!({"title": "Mine"})),
        ("POST", "/goal", json!({"objective": "x"})),
        ("POST", "/children", json!({"task": "x"})),
        ("POST", "/fork", json!({})),
        ("POST", "/navigate", json!({"event_id": null})),
        ("POST", "/condense", Value::Null),
        ("POST", "/ask_agent", json!({"question": "x"})),
        ("GET", "/agent_final_response", Value::Null),
        (
            "POST",
            "/confirmation_policy",
            json!({"policy": {"kind": "NeverConfirm"}}),
        ),
        ("POST", "/secrets", json!({"secrets": {}})),
        ("GET", "/workspace/x", Value::Null),
        ("GET", "/bash/bash_events/search", Value::Null),
        ("GET", "/git/changes?path=.", Value::Null),
        ("GET", "/runtime", Value::Null),
        ("DELETE", "", Value::Null),
    ] {
        side.check(method, &format!("{path}{rest}"), body).await;
    }
    for kind in ["session", "events"] {
        let mut socket = side.socket(&format!("/sockets/{kind}/{id}")).await;
        let line = format!("{kind} {:?}", next(&mut socket).await);
        side.note(line);
    }
}

/// Checks that after the lease is free, the kept data is there and can be used.
async fn free(side: &mut Side, id: &str) {
    let path = format!("/api/conversations/{id}");
    let said = json!({"content": [{"type": "text", "text": "hello again"}]});
    side.check("POST", &format!("{path}/events"), said).await;
    let words = format!("{path}/events/count?kind=MessageEvent");
    side.check("GET", &words, Value::Null).await;
    let mut socket = side.socket(&format!("/sockets/session/{id}")).await;
    let sync = next(&mut socket).await.unwrap();
    side.note(sync["type"].to_string());
    side.settled(id).await;
    let log = side.log(id).await;
    side.note(story(&log).join("\n"));
}

/// Returns hooks for the start and end of a session, which is that of a conversation on a server.
fn hooked() -> Value {
    let hook = json!([{"hooks": [{"command": "true"}]}]);
    json!({"hook_config": {"SessionStart": hook, "SessionEnd": hook}})
}

#[tokio::test]
async fn the_fake_server_agrees_on_dormancy_and_leases() {
    let script = || {
        let late = Step::text("late").delay(Duration::from_secs(600));
        Script::new().each_conversation().step(late)
    };
    let fake = FakeServer::builder()
        .script(script())
        .deferred_init(SECRET)
        .start()
        .await
        .unwrap();
    let mut on_the_fake = fake_side(&fake);
    dormant(&mut on_the_fake, json!({})).await;
    assert_eq!(fake.session_api_key(), FRESH);
    let id = on_the_fake.create(hooked()).await;
    on_the_fake.say(&id, "hello", false).await;
    let conversation = fake.conversation(&id).unwrap();
    conversation.lease_away();
    leased(&mut on_the_fake, &id).await;
    // A shutdown of the owner releases the lease.
    fake.shut_down();
    fake.come_back();
    conversation.lease_back();
    free(&mut on_the_fake, &id).await;
    held::runs(&mut on_the_fake, 2).await;

    let home = openhands_tests::home();
    let state = home.path().join("state");
    let work = home.path().join("work").to_str().unwrap().to_owned();
    let model = ScriptedModel::start(script()).await.unwrap();
    let owner = openhands_tests::server(&home)
        .secret_key(SECRET)
        .state_dir(&state);
    let second = openhands_tests::server(&home)
        .secret_key(SECRET)
        .deferred_init(true);
    let (owner, second) = tokio::join!(owner.start(), second.start());
    let (owner, second) = (owner.unwrap(), second.unwrap());
    let mut first = real_side(&owner, work.clone(), model.llm());
    let id = first.create(hooked()).await;
    first.say(&id, "hello", false).await;
    let mut on_the_real = real_side(&second, work, model.llm());
    let shared = json!({"conversations_path": state.join("conversations")});
    dormant(&mut on_the_real, shared).await;
    leased(&mut on_the_real, &id).await;
    owner.shutdown(Duration::from_secs(10)).await.unwrap();
    free(&mut on_the_real, &id).await;
    held::runs(&mut on_the_real, 2).await;

    let differences = differences(&on_the_fake.seen, &on_the_real.seen);
    assert!(
        differences.is_empty(),
        "the two servers disagree:{differences}"
    );
    second.shutdown(Duration::from_secs(10)).await.unwrap();
}

/// Kills both servers while a tool is running, and checks what they restore.
#[tokio::test]
async fn the_fake_server_agrees_on_deaths_and_restarts() {
    let script = |_: &str| {
        Script::new()
            .call("terminal", json!({"command": "sleep 300"}))
            .text("Well then.")
    };
    let always = json!({"policy": {"kind": "AlwaysConfirm"}});
    let fake = FakeServer::builder()
        .script(script(""))
        .tool("terminal", |_| {
            Observation::text("").after(Duration::from_secs(300))
        })
        .start()
        .await
        .unwrap();
    let mut on_the_fake = fake_side(&fake);
    let home = openhands_tests::home();
    let policy = openhands::process::RestartPolicy::on_failure(3);
    let server = openhands_tests::server(&home)
        .restart(policy)
        .start()
        .await
        .unwrap();
    let model = ScriptedModel::start(script("")).await.unwrap();
    let work = home.path().join("work").to_str().unwrap().to_owned();
    let mut on_the_real = real_side(&server, work, model.llm());
    let mut ids = Vec::new();
    for side in [&mut on_the_fake, &mut on_the_real] {
        let quiet = side.create(Value::Null).await;
        let path = format!("/api/conversations/{quiet}/confirmation_policy");
        side.check("POST", &path, always.clone()).await;
        let path = format!("/api/conversations/{quiet}/security_analyzer");
        let analyzer = json!({"security_analyzer": {"kind": "LLMSecurityAnalyzer"}});
        side.check("POST", &path, analyzer).await;
        ids.push((quiet, places::before_a_kill(side).await));
    }
    fake.kill();
    let pid = server.pid();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert!(
        tokio::net::TcpStream::connect(fake.address())
            .await
            .is_err()
    );
    fake.come_back();
    let mut status = server.status();
    let ready = |status: &openhands::process::Status| {
        *status == openhands::process::Status::Ready && server.pid() != pid
    };
    let back = status.wait_for(ready);
    tokio::time::timeout(Duration::from_secs(120), back)
        .await
        .unwrap()
        .unwrap();
    let sides = [&mut on_the_fake, &mut on_the_real];
    for (side, (quiet, busy)) in sides.into_iter().zip(&ids) {
        places::policies(side, quiet).await;
        places::after_a_kill(side, busy).await;
    }
    let differences = differences(&on_the_fake.seen, &on_the_real.seen);
    assert!(
        differences.is_empty(),
        "the two servers disagree:{differences}"
    );
    fake.verify().unwrap();
    server.shutdown(Duration::from_secs(10)).await.unwrap();
}
