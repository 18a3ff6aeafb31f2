//! What is stored on a server for agents, and who is told when work is done.

use std::time::Duration;

use oh_protocol::ConversationId;
use oh_testkit::Mock;
use oh_transport::{Client, ErrorKind as Theirs};
use oh_workspace::{CompletionCallback, ErrorKind, Workspace};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

fn workspace(mock: &Mock) -> Workspace {
    Workspace::new(&mock.client(), "/w")
}

fn settings(active: Value, agent: Value) -> Value {
    json!({"agent_settings": agent, "conversation_settings": {}, "llm_api_key_is_set": true,
        "active_profile": active, "new": 1})
}

#[tokio::test]
async fn the_active_profile_wins_over_settings_that_drifted() {
    let mock = Mock::new();
    let drifted = settings(json!("fast one"), json!({"llm": {"model": "drifted"}}));
    mock.expect("GET", "/api/settings").answer(200, drifted);
    let config = json!({"model": "openai/x", "api_key": "canary", "base_url": null,
        "num_retries": 2, "usage_id": "default", "extra_headers": {"X-Key": "canary"}});
    mock.expect("GET", "/api/profiles/fast%20one").answer(
        200,
        json!({"name": "fast one", "config": config, "api_key_set": true}),
    );
    let llm = workspace(&mock).llm().await.unwrap();
    let wire = serde_json::to_value(&llm).unwrap();
    let expected = json!({"model": "openai/x", "api_key": "canary", "num_retries": 2,
        "usage_id": "profile:fast one", "extra_headers": {"X-Key": "canary"}});
    assert_eq!(wire, expected);
    assert!(!format!("{llm:?}").contains("canary"), "{llm:?}");
    mock.verify().unwrap();
}

#[tokio::test]
async fn without_a_profile_the_settings_are_asked_again_with_their_secrets() {
    for nothing in [json!(null), json!("")] {
        let mock = Mock::new();
        let masked = json!({"llm": {"model": "m", "api_key": "**********"}});
        mock.expect("GET", "/api/settings")
            .answer(200, settings(nothing.clone(), masked));
        let plain = json!({"llm": {"model": "m", "api_key": "key"}});
        mock.expect("GET", "/api/settings")
            .answer(200, settings(nothing, plain));
        let llm = workspace(&mock).llm().await.unwrap();
        assert_eq!(
            serde_json::to_value(&llm).unwrap(),
            json!({"model": "m", "api_key": "key"})
        );
        mock.verify().unwrap();
    }
}

#[tokio::test]
async fn what_is_not_stored_is_not_found() {
    let mock = Mock::new();
    mock.expect("GET", "/api/profiles/none")
        .answer(404, json!({"detail": "no"}));
    let error = workspace(&mock).llm_profile("none").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = workspace(&mock).llm_profile("..").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for _ in 0..2 {
        mock.expect("GET", "/api/settings")
            .answer(200, settings(json!(null), json!({})));
    }
    let error = workspace(&mock).llm().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    mock.expect("GET", "/api/settings/secrets")
        .answer(200, json!({"secrets": []}));
    let error = workspace(&mock).secrets(&["GONE"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("GONE"));
    mock.verify().unwrap();
}

#[tokio::test]
async fn secrets_are_lookups_of_the_server_itself() {
    let stored = json!({"secrets": [{"name": "A", "description": "d"}, {"name": "B"}]});
    let mock = Mock::new();
    for _ in 0..2 {
        // Names alone are ever asked for.
        mock.expect("GET", "/api/settings/secrets")
            .answer(200, stored.clone());
    }
    let all = workspace(&mock).secrets(&[]).await.unwrap();
    let expected = json!({
        "A": {"kind": "LookupSecret", "url": "/api/settings/secrets/A", "description": "d"},
        "B": {"kind": "LookupSecret", "url": "/api/settings/secrets/B"},
    });
    assert_eq!(serde_json::to_value(&all).unwrap(), expected);
    let some = workspace(&mock).secrets(&["B"]).await.unwrap();
    assert_eq!(some.keys().collect::<Vec<_>>(), ["B"]);
    mock.verify().unwrap();
}

#[tokio::test]
async fn mcp_servers_come_as_they_are_stored() {
    let mock = Mock::new();
    let stored = json!({"mcp_config": {
        "local": {"command": "uvx", "args": ["x"], "env": {"K": "canary"}, "transport": "stdio",
            "timeout": null},
        "remote": {"url": "https://h/mcp", "transport": "sse", "headers": {"X": "canary"}},
    }});
    mock.expect("GET", "/api/settings")
        .answer(200, settings(json!(null), stored));
    let servers = workspace(&mock).mcp_config().await.unwrap();
    let expected = json!({
        "local": {"command": "uvx", "args": ["x"], "env": {"K": "canary"}, "transport": "stdio"},
        "remote": {"url": "https://h/mcp", "transport": "sse", "headers": {"X": "canary"}},
    });
    assert_eq!(serde_json::to_value(&servers).unwrap(), expected);
    assert!(!format!("{servers:?}").contains("canary"));
    for nothing in [json!({}), json!({"mcp_config": null})] {
        mock.expect("GET", "/api/settings")
            .answer(200, settings(json!(null), nothing));
        assert!(workspace(&mock).mcp_config().await.unwrap().is_empty());
    }
    let odd = json!({"mcp_config": {"odd": {"socket": "/x"}}});
    mock.expect("GET", "/api/settings")
        .answer(200, settings(json!(null), odd));
    let error = workspace(&mock).mcp_config().await.unwrap_err();
    assert!(error.to_string().contains("odd"), "{error}");
}

#[tokio::test]
async fn skills_keep_their_flags_and_are_not_loaded_twice() {
    let mock = Mock::new();
    let skill = json!({"name": "s", "type": "agentskills", "content": "c", "triggers": ["t"],
        "source": "/w/s", "description": "d", "is_agentskills_format": true,
        "disable_model_invocation": true});
    mock.expect("POST", "/api/skills")
        .with(
            json!({"load_public": false, "load_user": true, "load_project": true,
            "load_org": false, "project_dir": "/w"}),
        )
        .answer(200, json!({"skills": [skill], "sources": {"project": 1}}));
    let context = workspace(&mock).agent_context().await.unwrap();
    let context = serde_json::to_value(&context).unwrap();
    assert_eq!(context["load_user_skills"], false);
    assert_eq!(context["load_project_skills"], false);
    let skill = &context["skills"][0];
    let flags = [
        &skill["is_agentskills_format"],
        &skill["disable_model_invocation"],
    ];
    assert_eq!(flags, [true, true]);
    assert_eq!(
        skill["trigger"],
        json!({"type": "keyword", "keywords": ["t"]})
    );
    assert_eq!(
        (&skill["source"], &skill["description"]),
        (&json!("/w/s"), &json!("d"))
    );
    mock.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn alive_is_yes_or_no() {
    for (answer, expected) in [(200, true), (204, true), (401, false), (404, false)] {
        let mock = Mock::new();
        mock.expect("GET", "/alive")
            .answer(answer, json!({"status": "ok"}));
        assert_eq!(workspace(&mock).alive().await, expected, "{answer}");
    }
    let mock = Mock::new();
    for _ in 0..20 {
        mock.expect("GET", "/alive").fail(Theirs::Connect);
    }
    assert!(!workspace(&mock).alive().await);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let client = Client::builder(url).build().unwrap();
    let begun = tokio::time::Instant::now();
    assert!(!Workspace::new(&client, "/w").alive().await);
    assert!(begun.elapsed() <= Duration::from_secs(6));
}

/// Answers one request with a status, and gives what it was.
async fn once(status: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/hook/done?t=canary",
        listener.local_addr().unwrap()
    );
    let answered = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut request, mut buffer) = (String::new(), [0; 4096]);
        while !request.ends_with('}') {
            let count = stream.read(&mut buffer).await.unwrap();
            request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        request
    });
    (url, answered)
}

fn body(request: &str) -> Value {
    serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[tokio::test]
async fn those_who_asked_are_told_that_the_work_is_done() {
    let (url, asked) = once("202 Accepted").await;
    let id = ConversationId::random();
    let callback = CompletionCallback::new(&url).unwrap();
    let callback = callback
        .api_key("canary")
        .run_id("r")
        .conversation(id)
        .cost(0.5);
    assert!(!format!("{callback:?}").contains("canary"), "{callback:?}");
    callback.completed().await.unwrap();
    let request = asked.await.unwrap();
    assert!(
        request.starts_with("POST /hook/done?t=canary HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("authorization: Bearer canary\r\n"),
        "{request}"
    );
    let expected = json!({"status": "COMPLETED", "run_id": "r", "cost": 0.5,
        "conversation_id": id.to_string()});
    assert_eq!(body(&request), expected);

    let (url, asked) = once("200 OK").await;
    let callback = CompletionCallback::new(&url).unwrap();
    callback.failed("io_error", "no space").await.unwrap();
    let request = asked.await.unwrap();
    assert!(!request.contains("authorization"), "{request}");
    let body = body(&request);
    // What is not known is left out, not zero.
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    assert_eq!(
        (&body["status"], &body["error"]["code"]),
        (&json!("FAILED"), &json!("io_error"))
    );
    assert_eq!(body["error"]["classification"]["kind"], "unknown");
}

#[tokio::test]
async fn a_failing_run_is_told_with_its_own_event() {
    let (url, asked) = once("200 OK").await;
    let event = json!({"kind": "ConversationErrorEvent", "id": "e", "timestamp": "t",
        "source": "environment", "code": "X", "detail": "d", "new": [1]});
    let event = oh_protocol::Event::from_json(event.to_string()).unwrap();
    CompletionCallback::new(&url)
        .unwrap()
        .failed_with(&event)
        .await
        .unwrap();
    let body = body(&asked.await.unwrap());
    assert_eq!(
        body["error"],
        serde_json::from_slice::<Value>(event.raw()).unwrap()
    );
}

#[tokio::test]
async fn a_callback_that_fails_says_so_without_its_secrets() {
    let (url, _asked) = once("500 Oh").await;
    let callback = CompletionCallback::new(&url).unwrap().api_key("canary");
    let error = callback.completed().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transport);
    assert!(
        !format!("{error} {error:?}").contains("canary"),
        "{error:?}"
    );
    for url in ["", "nowhere", "ftp://h/x", "http://"] {
        let error = CompletionCallback::new(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
    }
    let key = CompletionCallback::new("http://127.0.0.1:9/x")
        .unwrap()
        .api_key("a\nb");
    assert_eq!(
        key.completed().await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}
