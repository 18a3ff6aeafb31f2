//! Tests that deviations are printed to stderr if a test does not call `verify`. Each test runs
//! itself again as a child process that does not call it.

use std::process::{Command, Stdio};

use oh_testkit::{FakeServer, Mock, Script, ScriptedModel};
use serde_json::json;

use crate::{fake::create, support};

/// Set in the child process.
const FORGETS: &str = "OH_TESTKIT_FORGETS";

/// Runs the test again and returns its stderr. Returns `None` in the child process.
fn stderr_of(test: &str) -> Option<String> {
    if std::env::var_os(FORGETS).is_some() {
        return None;
    }
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FORGETS, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // Deviations are only printed: a failure could hide the original failure.
    assert!(again.status.success(), "{again:?}");
    Some(String::from_utf8(again.stderr).unwrap())
}

async fn ask(model: &ScriptedModel) -> u16 {
    let address = model.base_url();
    let address = address.trim_start_matches("http://").split('/').next();
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hello?"}]});
    let target = "/v1/chat/completions";
    let address = address.unwrap().parse().unwrap();
    support::request(address, "POST", target, &body.to_string())
        .await
        .status
}

#[tokio::test]
async fn an_unverified_scripted_model_is_reported() {
    if let Some(reported) = stderr_of("unread::an_unverified_scripted_model_is_reported") {
        assert!(
            reported.contains("the requests did not follow the script:\n- request 1"),
            "{reported}"
        );
        assert!(
            reported.contains("Hello?") && !reported.contains("read already"),
            "{reported}"
        );
        return;
    }
    let unread = ScriptedModel::start(Script::new()).await.unwrap();
    assert_eq!(ask(&unread).await, 400);
    drop(unread);
    // Nothing is printed after a call of `verify`.
    let read = ScriptedModel::start(Script::new().text("read already"))
        .await
        .unwrap();
    ask(&read).await;
    ask(&read).await;
    read.verify().unwrap_err();
}

#[tokio::test]
async fn an_unverified_fake_server_is_reported() {
    if let Some(reported) = stderr_of("unread::an_unverified_fake_server_is_reported") {
        assert!(
            reported.contains("the requests did not follow the script:\n- request 1"),
            "{reported}"
        );
        assert_eq!(reported.matches("did not follow").count(), 1, "{reported}");
        return;
    }
    for asks in [false, true] {
        let server = FakeServer::start().await.unwrap();
        let id = create(&server, json!({})).await;
        let conversation = server.conversation(&id).unwrap();
        conversation.say("Hello?");
        conversation.idle().await;
        if asks {
            server.verify().unwrap_err();
        }
    }
}

#[tokio::test]
async fn an_unverified_mock_is_reported() {
    if let Some(reported) = stderr_of("unread::an_unverified_mock_is_reported") {
        assert!(
            reported.contains("- GET /api/forgotten") && !reported.contains("/api/asked"),
            "{reported}"
        );
        return;
    }
    let forgotten = Mock::new();
    forgotten.expect("GET", "/api/forgotten");
    let client = forgotten.client();
    drop(forgotten);
    // The client holds a clone of the mock.
    drop(client);
    let asked = Mock::new();
    asked.expect("GET", "/api/asked");
    asked.verify().unwrap_err();
}
