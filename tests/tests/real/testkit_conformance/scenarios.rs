//! The scenarios, which are the same for both servers.

use openhands::transport::Client;
use serde_json::{Value, json};

use super::side::{Side, keys, next, run_frames, story};

pub(crate) async fn refusals(side: &mut Side) {
    let ghost = "00000000-0000-4000-8000-000000000000";
    let id = side.create(Value::Null).await;
    let conversation = format!("/api/conversations/{id}");
    let cases = [
        ("GET", "/alive".to_owned(), Value::Null),
        ("GET", "/health".to_owned(), Value::Null),
        ("GET", "/ready".to_owned(), Value::Null),
        ("GET", "/nothing".to_owned(), Value::Null),
        ("GET", "/api/nothing".to_owned(), Value::Null),
        ("DELETE", "/alive".to_owned(), Value::Null),
        ("PUT", "/api/settings".to_owned(), Value::Null),
        ("GET", "/api/conversations/nope".to_owned(), Value::Null),
        ("GET", format!("/api/conversations/{ghost}"), Value::Null),
        (
            "GET",
            format!("/api/conversations/{ghost}/events/search"),
            Value::Null,
        ),
        (
            "GET",
            format!("/api/conversations/{ghost}/events/count"),
            Value::Null,
        ),
        (
            "POST",
            format!("/api/conversations/{ghost}/events"),
            json!({"content": []}),
        ),
        (
            "POST",
            format!("/api/conversations/{ghost}/run"),
            Value::Null,
        ),
        (
            "POST",
            format!("/api/conversations/{ghost}/pause"),
            Value::Null,
        ),
        (
            "POST",
            format!("/api/conversations/{ghost}/interrupt"),
            Value::Null,
        ),
        ("DELETE", format!("/api/conversations/{ghost}"), Value::Null),
        (
            "PATCH",
            format!("/api/conversations/{ghost}"),
            json!({"title": "x"}),
        ),
        (
            "GET",
            format!("/api/conversations/{ghost}/agent_final_response"),
            Value::Null,
        ),
        ("POST", "/api/conversations".to_owned(), json!({})),
        (
            "POST",
            "/api/conversations".to_owned(),
            json!({"workspace": {}}),
        ),
        ("POST", format!("{conversation}/events"), json!({})),
        (
            "POST",
            format!("{conversation}/events"),
            json!({"content": "text"}),
        ),
        (
            "POST",
            format!("{conversation}/events/respond_to_confirmation"),
            json!({}),
        ),
        (
            "GET",
            format!("{conversation}/events/search?limit=101"),
            Value::Null,
        ),
        (
            "GET",
            format!("{conversation}/events/search?limit=0"),
            Value::Null,
        ),
        (
            "GET",
            format!("{conversation}/events/search?limit=x"),
            Value::Null,
        ),
        (
            "GET",
            format!("{conversation}/events/search?sort_order=x"),
            Value::Null,
        ),
        ("GET", format!("{conversation}/events/{ghost}"), Value::Null),
        (
            "GET",
            format!("/api/conversations?ids={ghost}"),
            Value::Null,
        ),
        ("GET", "/api/bash/bash_events/nope".to_owned(), Value::Null),
        (
            "POST",
            format!("/api/bash/bash_commands/{}/stop", ghost.replace('-', "")),
            Value::Null,
        ),
        ("POST", "/api/bash/start_bash_command".to_owned(), json!({})),
    ];
    for (method, path, body) in cases {
        side.check(method, &path, body).await;
    }
}

pub(crate) async fn sockets_refused(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let ghost = "00000000-0000-4000-8000-000000000000";
    for kind in ["session", "events"] {
        let mut socket = side.socket(&format!("/sockets/{kind}/{ghost}")).await;
        let line = format!("{kind} unknown {:?}", next(&mut socket).await);
        side.note(line);
        let wrong = Client::builder(side.url.as_str())
            .session_api_key("wrong")
            .build()
            .unwrap();
        let mut socket = wrong.socket(format!("/sockets/{kind}/{id}")).await.unwrap();
        let line = format!("{kind} wrong key {:?}", next(&mut socket).await);
        side.note(line);
        for path in [
            format!("/sockets/{kind}/nope"),
            format!("/sockets/{kind}/{id}?session_api_key=wrong"),
            format!("/sockets/{kind}"),
            format!("/sockets/{kind}/{id}?after_seq=x&resend_mode=x"),
        ] {
            let status = side
                .client
                .socket(&path)
                .await
                .err()
                .and_then(|e| e.status());
            side.note(format!("{kind} handshake {status:?}"));
        }
    }
}

pub(crate) async fn the_main_job(side: &mut Side) {
    let check = format!(
        "python3 -m py_compile {}/test_broken.py || exit 2",
        side.work
    );
    let hooks = json!({"Stop": [{"matcher": "*", "hooks": [{"command": check, "timeout": 30}]}]});
    let id = side.create(json!({"hook_config": hooks})).await;
    let mut socket = side
        .socket(&format!("/sockets/session/{id}?after_seq=-1"))
        .await;
    let mut legacy = side.socket(&format!("/sockets/events/{id}")).await;
    // The first snapshot belongs to the subscription; the log starts after it.
    let sync = next(&mut socket).await.unwrap();
    side.note(sync.to_string());
    let first = next(&mut socket).await.unwrap();
    side.note(story(&[first]).join("\n"));
    let first = next(&mut legacy).await.unwrap();
    side.note(story(&[first]).join("\n"));
    side.say(&id, "Create a broken test", true).await;
    let frames = run_frames(&mut socket).await;
    side.note(story(&frames).join("\n"));
    let seqs = frames.iter().filter_map(|frame| frame["seq"].as_u64());
    let dense = seqs.clone().eq(0..seqs.count() as u64);
    side.note(format!("dense: {dense}"));
    let frames = run_frames(&mut legacy).await;
    side.note("legacy");
    side.note(story(&frames).join("\n"));
    let log = side.log(&id).await;
    side.note("log");
    side.note(story(&log).join("\n"));
    let path = format!("/api/conversations/{id}");
    let info = side.check("GET", &path, Value::Null).await;
    side.note(format!(
        "{} {}",
        info["execution_status"],
        keys(&info["stats"]["usage_to_metrics"])
    ));
    side.note(info["stats"]["usage_to_metrics"]["default"]["accumulated_cost"].to_string());
    side.check("GET", &format!("{path}/agent_final_response"), Value::Null)
        .await;
    // Without a new message, a run only produces a snapshot.
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    let after = next(&mut socket).await.unwrap();
    side.note(story(&[after]).join("\n"));
}

pub(crate) async fn cursors_and_pages(side: &mut Side) {
    let id = side.create(Value::Null).await;
    for n in 0..12 {
        side.say(&id, &format!("message {n}"), false).await;
    }
    let log = side.log(&id).await;
    let path = format!("/api/conversations/{id}/events");
    let place = |event: &Value| log.iter().position(|other| other["id"] == event["id"]);
    for query in [
        "limit=5",
        "limit=5&sort_order=TIMESTAMP_DESC",
        "limit=100&kind=MessageEvent",
        "limit=4&source=user",
        "body=MESSAGE%201",
        "page_id=unknown&limit=3",
    ] {
        let mut target = format!("{path}/search?{query}");
        for _ in 0..3 {
            let (status, page) = side.ask("GET", &target, Value::Null).await;
            let places: Vec<_> = page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(place)
                .collect();
            let line = format!(
                "{query} {status} {places:?} more={}",
                page["next_page_id"].is_string()
            );
            side.note(line);
            match page["next_page_id"].as_str() {
                Some(next) => target = format!("{path}/search?{query}&page_id={next}"),
                None => break,
            }
        }
    }
    side.check("GET", &format!("{path}/count"), Value::Null)
        .await;
    side.check(
        "GET",
        &format!("{path}/count?kind=MessageEvent"),
        Value::Null,
    )
    .await;
    let ids = json!([log[3]["id"], "unknown", log[1]["id"]]);
    let (status, batch) = side.ask("GET", &path, ids).await;
    let batch: Vec<_> = batch.as_array().unwrap().iter().map(place).collect();
    side.note(format!("batch {status} {batch:?}"));
    let last = log.len() as i64 - 1;
    for after in [-1, 0, 5, last - 1, last, last + 7] {
        let mut socket = side
            .socket(&format!("/sockets/session/{id}?after_seq={after}"))
            .await;
        let sync = next(&mut socket).await.unwrap();
        side.note(sync.to_string());
        let mut seqs = Vec::new();
        loop {
            let frame = next(&mut socket).await.unwrap();
            match frame["seq"].as_u64() {
                Some(seq) => seqs.push(seq),
                None => break,
            }
        }
        side.note(format!("{seqs:?}, then a snapshot"));
    }
}

pub(crate) async fn steering(side: &mut Side) {
    let id = side.create(json!({"tags": {"a": "b"}})).await;
    let path = format!("/api/conversations/{id}");
    let mut socket = side
        .socket(&format!("/sockets/session/{id}?after_seq=-1"))
        .await;
    for _ in 0..2 {
        next(&mut socket).await.unwrap();
    }
    side.check("POST", &format!("{path}/pause"), Value::Null)
        .await;
    loop {
        let frame = next(&mut socket).await.unwrap();
        side.note(story(std::slice::from_ref(&frame)).join("\n"));
        if frame["event"]["key"] == "full_state" {
            break;
        }
    }
    side.check(
        "PATCH",
        &path,
        json!({"title": "A title", "tags": {"c": "d"}}),
    )
    .await;
    let info = side.check("GET", &path, Value::Null).await;
    side.note(format!("{} {}", info["title"], info["tags"]));
    let again = json!({"conversation_id": id, "workspace": {"working_dir": side.work}, "agent": {"llm": side.llm}});
    side.check("POST", "/api/conversations", again).await;
    side.say(&id, "go", true).await;
    side.until(&id, "finished").await;
    side.check("POST", &format!("{path}/interrupt"), Value::Null)
        .await;
    side.check("GET", &format!("{path}/agent_final_response"), Value::Null)
        .await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
    side.check("DELETE", &path, Value::Null).await;
    side.check("DELETE", &path, Value::Null).await;
    side.check("GET", &path, Value::Null).await;
}

pub(crate) async fn interrupting(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let path = format!("/api/conversations/{id}");
    side.say(&id, "take your time", false).await;
    let mut socket = side.socket(&format!("/sockets/session/{id}")).await;
    for _ in 0..2 {
        next(&mut socket).await.unwrap();
    }
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    let running = next(&mut socket).await.unwrap();
    side.note(story(&[running]).join("\n"));
    // The model request is in progress now.
    side.asked.arrived(1).await;
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    side.check("POST", &format!("{path}/interrupt"), Value::Null)
        .await;
    loop {
        let frame = next(&mut socket).await.unwrap();
        let over = frame["event"]["key"] == "full_state";
        side.note(story(&[frame]).join("\n"));
        if over {
            break;
        }
    }
    side.until(&id, "paused").await;
}

pub(crate) async fn approval(side: &mut Side) {
    let id = side
        .create(json!({"confirmation_policy": {"kind": "AlwaysConfirm"}}))
        .await;
    let path = format!("/api/conversations/{id}");
    let answer = format!("{path}/events/respond_to_confirmation");
    side.say(&id, "do it", true).await;
    side.until(&id, "waiting_for_confirmation").await;
    side.check("POST", &answer, json!({"accept": false, "reason": "no"}))
        .await;
    side.until(&id, "idle").await;
    side.check("POST", &answer, json!({"accept": false})).await;
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    side.until(&id, "waiting_for_confirmation").await;
    side.check("POST", &answer, json!({"accept": true})).await;
    side.until(&id, "finished").await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
}

pub(crate) async fn failures(side: &mut Side) {
    let id = side.create(Value::Null).await;
    side.say(&id, "try", true).await;
    side.until(&id, "error").await;
    side.check("POST", &format!("/api/conversations/{id}/run"), Value::Null)
        .await;
    side.until(&id, "finished").await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
}

/// Checks commands. On the fake server the test provides the output that `sh` produces on the real
/// one.
pub(crate) async fn commands(side: &mut Side) {
    let mut socket = side.socket("/sockets/bash-events").await;
    side.subscribed(&mut socket).await.unwrap();
    for line in [
        "echo out; echo err >&2; exit 3",
        "true",
        "echo out; sleep 300",
    ] {
        let run = "/api/bash/execute_bash_command";
        let timeout = if line.contains("sleep") { 1 } else { 20 };
        let output = side
            .check("POST", run, json!({"command": line, "timeout": timeout}))
            .await;
        side.note(format!(
            "{} {} {}",
            output["exit_code"], output["stdout"], output["stderr"]
        ));
        for _ in 0..2 {
            let event = next(&mut socket).await.unwrap();
            side.note(format!("socket {} {}", event["kind"], event["exit_code"]));
        }
        let id = output["command_id"].as_str().unwrap().to_owned();
        let found = format!("/api/bash/bash_events/search?command_id__eq={id}&kind__eq=BashOutput");
        let (_, page) = side.ask("GET", &found, Value::Null).await;
        let count = page["items"].as_array().unwrap().len();
        side.note(format!("{count} found, {}", keys(&page["items"][0])));
        let (_, page) = side
            .ask("GET", &format!("{found}&order__gt=0"), Value::Null)
            .await;
        side.note(format!("after 0: {}", page["items"]));
    }
    let start = "/api/bash/start_bash_command";
    let command = side
        .check("POST", start, json!({"command": "sleep 300"}))
        .await;
    let id = command["id"].as_str().unwrap().to_owned();
    let dashed = id.contains('-');
    let (status, _) = side
        .ask(
            "POST",
            &format!("/api/bash/bash_commands/{id}/stop"),
            Value::Null,
        )
        .await;
    side.note(format!("dashed={dashed} stopped={status}"));
    for _ in 0..2 {
        let event = next(&mut socket).await.unwrap();
        side.note(format!("socket {} {}", event["kind"], event["exit_code"]));
    }
}
