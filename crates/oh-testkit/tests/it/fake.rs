//! Tests of the fake server with the real client.

use std::time::Duration;

use oh_protocol::{
    Event, SessionFrame,
    calls::{conversations, events},
};
use oh_testkit::{
    FakeServer, Fault, Script, Step,
    fake::{FakeServerBuilder, Observation, Verdict},
};
use oh_transport::{Client, ErrorKind, Message, Socket};
use serde_json::{Value, json};

use crate::support::{Raw, request_with};

const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn client(server: &FakeServer) -> Client {
    server.client().unwrap()
}

pub(super) async fn rest(server: &FakeServer, method: &str, target: &str, body: Value) -> Raw {
    let key = format!("X-Session-API-Key: {}\r\n", server.session_api_key());
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    request_with(server.address(), method, target, &key, &body).await
}

pub(super) async fn create(server: &FakeServer, more: Value) -> String {
    let mut body = json!({
        "workspace": {"working_dir": "/project"},
        "agent": {"llm": {"model": "openai/scripted", "api_key": "k"},
            "tools": [{"name": "terminal"}, {"name": "file_editor"}]},
    });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    let created = rest(server, "POST", "/api/conversations", body).await;
    assert_eq!(created.status, 201, "{created:?}");
    created.json()["id"].as_str().unwrap().to_owned()
}

pub(super) async fn next(socket: &mut Socket) -> Result<Value, oh_transport::Error> {
    match tokio::time::timeout(LIMIT, socket.recv())
        .await
        .expect("a frame in time")?
    {
        Message::Text(text) => Ok(serde_json::from_slice(&text).unwrap()),
        other => panic!("{other:?}"),
    }
}

/// Reads session frames up to the full state at the end of a run.
async fn until_run_ends(socket: &mut Socket) -> Vec<Value> {
    let mut frames = Vec::new();
    let mut ran = false;
    loop {
        let frame = next(socket).await.unwrap();
        let event = &frame["event"];
        ran |= event["key"] == "execution_status" && event["value"] == "running";
        let ended =
            ran && event["key"] == "full_state" && event["value"]["execution_status"] != "running";
        frames.push(frame);
        if ended {
            return frames;
        }
    }
}

fn outline(frames: &[Value]) -> Vec<String> {
    frames
        .iter()
        .filter(|frame| frame["event"].is_object())
        .map(|frame| {
            let event = &frame["event"];
            match event["key"].as_str() {
                Some("execution_status") => format!("status={}", event["value"].as_str().unwrap()),
                Some(key) => key.to_owned(),
                None => event["kind"].as_str().unwrap().to_owned(),
            }
        })
        .collect()
}

fn main_job() -> FakeServerBuilder {
    let denied = std::sync::atomic::AtomicBool::new(false);
    let create =
        json!({"command": "create", "path": "/project/test_broken.py", "file_text": "def ("});
    let fix =
        json!({"command": "str_replace", "path": "/project/test_broken.py", "old_str": "def ("});
    FakeServer::builder()
        .script(
            Script::new()
                .step(
                    Step::call("file_editor", create)
                        .think("Odd, but so be it.")
                        .cost(0.01),
                )
                .step(Step::finish("Created."))
                .step(Step::call("file_editor", fix).expect("[Stop hook feedback] invalid syntax"))
                .finish("Fixed."),
        )
        .hooks(move |hook| {
            assert_eq!(hook.command, "./check.sh");
            if denied.swap(true, std::sync::atomic::Ordering::SeqCst) {
                Verdict::allow()
            } else {
                Verdict::deny("invalid syntax")
            }
        })
}

fn stop_hook() -> Value {
    json!({"hook_config": {"Stop": [{"matcher": "*", "hooks": [{"command": "./check.sh"}]}]}})
}

#[tokio::test]
async fn plays_the_main_job_with_a_hook_that_denies_once() {
    let server = main_job().start().await.unwrap();
    let client = client(&server);
    let id = create(&server, stop_hook()).await;
    let mut socket = client
        .socket(format!("/sockets/session/{id}?after_seq=-1"))
        .await
        .unwrap();
    let sync = next(&mut socket).await.unwrap();
    assert_eq!(sync, json!({"type": "sync", "from_seq": -1}));
    let id = id.parse().unwrap();
    client
        .call(&events::SendMessage::new(id, vec!["Break it".into()]).run(true))
        .await
        .unwrap();
    let frames = until_run_ends(&mut socket).await;
    assert_eq!(
        outline(&frames),
        [
            "full_state",
            "hook_config",
            "SystemPromptEvent",
            "MessageEvent",
            "last_user_message_id",
            "status=running",
            "stats",
            "ActionEvent",
            "ObservationEvent",
            "stats",
            "ActionEvent",
            "ObservationEvent",
            "status=finished",
            "HookExecutionEvent",
            "MessageEvent",
            "status=running",
            "stats",
            "ActionEvent",
            "ObservationEvent",
            "stats",
            "ActionEvent",
            "ObservationEvent",
            "status=finished",
            "HookExecutionEvent",
            "full_state",
        ]
    );
    let seqs: Vec<_> = frames
        .iter()
        .filter_map(|frame| frame["seq"].as_u64())
        .collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
    for frame in &frames {
        let frame = SessionFrame::from_json(frame.to_string()).unwrap();
        if let SessionFrame::Durable { event, .. } | SessionFrame::Transient { event } = frame {
            let payload = format!("{:?}", event.payload());
            assert!(
                !payload.starts_with("Malformed") && !payload.starts_with("Unknown"),
                "{payload}"
            );
        }
    }
    server.verify().unwrap();
    let info = client.call(&conversations::Get::new(id)).await.unwrap();
    assert_eq!(info.execution_status().as_str(), "finished");
    let search = events::Search::new(id);
    let page = client.call(&search).await.unwrap();
    let ids = |events: &[Event]| events.iter().map(|e| e.id().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        ids(&page.items),
        ids(&server.conversation(id).unwrap().events())
    );
}

#[tokio::test]
async fn replays_from_any_cursor_and_goes_live_without_a_gap() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    let client = client(&server);
    conversation.fill(250, 500).await;
    for after in [-1_i64, 0, 99, 248, 249, 1000] {
        let path = format!("/sockets/session/{}?after_seq={after}", conversation.id());
        let mut socket = client.socket(&path).await.unwrap();
        let sync = next(&mut socket).await.unwrap();
        let through = sync["through_seq"].as_i64().unwrap();
        conversation.fill(3, 500).await;
        let mut expected = after + 1;
        while expected <= through + 3 {
            let frame = next(&mut socket).await.unwrap();
            if frame["type"] == "durable" {
                assert_eq!(frame["seq"].as_i64(), Some(expected), "after {after}");
                expected += 1;
            }
        }
    }
}

#[tokio::test]
async fn the_fake_server_rejects_like_the_real_one() {
    let server = FakeServer::start().await.unwrap();
    let ghost = uuid::Uuid::new_v4();
    let address = server.address();
    let bare = request_with(address, "GET", "/api/conversations/count", "", "").await;
    assert_eq!(
        (bare.status, bare.body.as_str()),
        (401, r#"{"detail":"Unauthorized"}"#)
    );
    let cases = [
        (
            "GET",
            format!("/api/conversations/{ghost}"),
            Value::Null,
            404,
        ),
        (
            "GET",
            format!("/api/conversations/{ghost}/events/search"),
            Value::Null,
            404,
        ),
        ("GET", "/api/conversations/nope".into(), Value::Null, 422),
        ("POST", "/api/conversations".into(), json!({}), 422),
        ("GET", "/nope".into(), Value::Null, 404),
        ("DELETE", "/alive".into(), Value::Null, 405),
        ("POST", "/api/skills/install".into(), json!({}), 501),
    ];
    for (method, path, body, status) in cases {
        let answer = rest(&server, method, &path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(!answer.json()["detail"].is_null(), "{answer:?}");
    }
    let client = client(&server);
    let mut socket = client
        .socket(format!("/sockets/session/{ghost}"))
        .await
        .unwrap();
    let closed = next(&mut socket).await.unwrap_err();
    assert_eq!(
        (closed.kind(), closed.close_code()),
        (ErrorKind::NotFound, Some(4004))
    );
    let wrong = Client::builder(server.url())
        .session_api_key("wrong")
        .build()
        .unwrap();
    let mut socket = wrong
        .socket(format!("/sockets/session/{ghost}"))
        .await
        .unwrap();
    let closed = next(&mut socket).await.unwrap_err();
    assert_eq!(
        (closed.kind(), closed.close_code()),
        (ErrorKind::Unauthorized, Some(4001))
    );
    let rejected = client.socket("/sockets/session/nope").await.unwrap_err();
    assert_eq!(rejected.status().map(|status| status.as_u16()), Some(403));
}

#[tokio::test]
async fn faults_of_responses_end_after_their_count() {
    let server = FakeServer::start().await.unwrap();
    let ready = async || rest(&server, "GET", "/ready", Value::Null).await;
    server.inject(
        Fault::status(503)
            .retry_after(Duration::from_secs(2))
            .on("/ready")
            .times(2),
    );
    for _ in 0..2 {
        let busy = ready().await;
        assert_eq!(busy.status, 503);
        assert!(busy.head.contains("retry-after: 2"), "{}", busy.head);
    }
    assert_eq!(ready().await.status, 200);
    server.inject(Fault::html(502));
    let page = ready().await;
    assert!(
        page.status == 502 && page.head.contains("text/html"),
        "{page:?}"
    );
    server.heal();
    server.inject(Fault::wrong_length().times(1));
    let torn = ready().await;
    assert!(torn.status == 200 && !torn.whole, "{torn:?}");
    let conversation = server.create();
    server.inject(Fault::lost_answer().on("/events").times(1));
    let path = format!("/api/conversations/{}/events", conversation.id());
    let lost = rest(
        &server,
        "POST",
        &path,
        json!({"content": [{"type": "text", "text": "hi"}]}),
    )
    .await;
    assert_eq!(lost.body, "");
    let kinds: Vec<_> = conversation
        .events()
        .iter()
        .map(|e| e.kind().to_owned())
        .collect();
    assert!(
        kinds.contains(&"MessageEvent".to_owned()),
        "it was carried out: {kinds:?}"
    );
    assert_eq!(ready().await.status, 200);
}

#[tokio::test]
async fn faults_act_on_sockets() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    conversation.fill(20, 500).await;
    let client = client(&server);
    let path = format!("/sockets/session/{}?after_seq=-1", conversation.id());
    // Returns the sequence numbers received and how the socket ended.
    let listen = async |count: usize| {
        let mut socket = client.socket(&path).await.unwrap();
        let mut seqs = Vec::new();
        while seqs.len() < count {
            match next(&mut socket).await {
                Ok(frame) if frame["type"] == "durable" => {
                    seqs.push(frame["seq"].as_u64().unwrap())
                }
                Ok(_) => {}
                Err(error) => return (seqs, Some(error)),
            }
        }
        (seqs, None)
    };
    server.inject(Fault::close(1013, "slow_consumer").after(5).times(1));
    let (seqs, end) = listen(20).await;
    let end = end.unwrap();
    assert_eq!(
        (seqs.len(), end.close_code(), end.close_reason()),
        (5, Some(1013), Some("slow_consumer"))
    );
    for fault in [Fault::cut(), Fault::tear()] {
        server.inject(fault.after(7).times(1));
        let (seqs, end) = listen(20).await;
        assert_eq!(
            (seqs.len(), end.unwrap().kind()),
            (7, ErrorKind::Interrupted)
        );
    }
    server.inject(Fault::duplicate().after(3).times(1));
    assert_eq!(listen(6).await.0, [0, 1, 2, 3, 3, 4]);
    server.inject(Fault::gap().after(3).times(1));
    assert_eq!(listen(5).await.0, [0, 1, 2, 4, 5]);
    server.inject(Fault::oversized(200_000).after(1).times(1));
    assert_eq!(listen(20).await.0.len(), 20);
    server.inject(Fault::drip(Duration::from_millis(1)).times(5));
    assert_eq!(listen(20).await.0.len(), 20);
    server.inject(Fault::cut().one_in(4));
    let first: Vec<_> = [listen(20).await.0.len(), listen(20).await.0.len()].to_vec();
    assert!(first.iter().any(|count| *count < 20), "{first:?}");
    server.heal();
    assert_eq!(listen(20).await.0.len(), 20);
    conversation.lose(4).unwrap();
    assert_eq!(listen(5).await.0, [0, 1, 2, 3, 5]);
}

#[tokio::test]
async fn the_fake_server_pauses_interrupts_and_deletes() {
    let slow = Step::text("late").delay(Duration::from_secs(3600));
    let server = FakeServer::builder()
        .script(Script::new().step(slow))
        .start()
        .await
        .unwrap();
    let client = client(&server);
    let id = create(&server, Value::Null).await;
    let mut socket = client
        .socket(format!("/sockets/session/{id}?after_seq=-1"))
        .await
        .unwrap();
    let uuid = id.parse().unwrap();
    client.call(&conversations::Run::new(uuid)).await.unwrap();
    let again = client
        .call(&conversations::Run::new(uuid))
        .await
        .unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    client
        .call(&conversations::Interrupt::new(uuid))
        .await
        .unwrap();
    let frames = until_run_ends(&mut socket).await;
    let outline = outline(&frames);
    assert!(
        outline.ends_with(&[
            "status=paused".into(),
            "InterruptEvent".into(),
            "full_state".into()
        ]),
        "{outline:?}"
    );
    client
        .call(&conversations::Delete::new(uuid))
        .await
        .unwrap();
    let gone = client
        .call(&conversations::Delete::new(uuid))
        .await
        .unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn the_fake_server_requests_approval_and_accepts_a_rejection() {
    let server = FakeServer::builder()
        .script(
            Script::new()
                .call("terminal", json!({"command": "rm -rf /"}))
                .finish("Never mind."),
        )
        .tool("terminal", |_| panic!("must not run"))
        .start()
        .await
        .unwrap();
    let id = create(
        &server,
        json!({"confirmation_policy": {"kind": "AlwaysConfirm"}}),
    )
    .await;
    let conversation = server.conversation(&id).unwrap();
    conversation.say("clean up");
    let status = async |wanted: &str| {
        while conversation.status() != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, status("waiting_for_confirmation"))
        .await
        .unwrap();
    let path = format!("/api/conversations/{id}/events/respond_to_confirmation");
    let no = rest(
        &server,
        "POST",
        &path,
        json!({"accept": false, "reason": "no!"}),
    )
    .await;
    assert_eq!(no.status, 200);
    assert_eq!(conversation.status(), "idle");
    let last = conversation.events();
    assert!(
        last.iter()
            .any(|event| event.kind() == "UserRejectObservation")
    );
    rest(
        &server,
        "POST",
        &format!("/api/conversations/{id}/run"),
        Value::Null,
    )
    .await;
    tokio::time::timeout(LIMIT, status("finished"))
        .await
        .unwrap();
    server.verify().unwrap();
}

#[tokio::test]
async fn the_fake_server_restarts_with_and_without_its_state() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    conversation.fill(3, 500).await;
    let client = client(&server);
    let path = format!("/sockets/session/{}", conversation.id());
    let mut socket = client.socket(&path).await.unwrap();
    next(&mut socket).await.unwrap();
    server.shut_down();
    let closed = loop {
        if let Err(error) = next(&mut socket).await {
            break error;
        }
    };
    assert_eq!(closed.close_code(), Some(1012));
    let down = tokio::net::TcpStream::connect(server.address()).await;
    assert_eq!(
        down.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    server.come_back();
    assert_eq!(server.conversation(conversation.id()).unwrap().len(), 3);
    server.kill();
    server.come_back_empty();
    assert!(server.conversation(conversation.id()).is_err());
}

#[tokio::test]
async fn the_legacy_socket_sends_bare_events() {
    let server = FakeServer::builder()
        .script(Script::new().text("Hello."))
        .tool("x", |_| Observation::text(""))
        .without_session_socket()
        .start()
        .await
        .unwrap();
    let client = client(&server);
    let id = create(&server, Value::Null).await;
    let none = client
        .socket(format!("/sockets/session/{id}"))
        .await
        .unwrap_err();
    assert_eq!(none.status().map(|status| status.as_u16()), Some(403));
    server.conversation(&id).unwrap().fill(150, 500).await;
    let mut socket = client
        .socket(format!("/sockets/events/{id}?resend_mode=all"))
        .await
        .unwrap();
    let first = next(&mut socket).await.unwrap();
    assert_eq!(first["key"], "full_state");
    for _ in 0..150 {
        assert_eq!(next(&mut socket).await.unwrap()["kind"], "MessageEvent");
    }
    server.conversation(&id).unwrap().say("Hi");
    let mut kinds = Vec::new();
    while kinds.last().map(String::as_str) != Some("full_state") {
        let event = next(&mut socket).await.unwrap();
        let name = event["key"].as_str().or(event["kind"].as_str()).unwrap();
        kinds.push(name.to_owned());
    }
    let expected = [
        "SystemPromptEvent",
        "MessageEvent",
        "last_user_message_id",
        "execution_status",
        "stats",
        "MessageEvent",
        "execution_status",
        "full_state",
    ];
    assert_eq!(kinds, expected);
}
