//! Settings that a server stores for agents, and the server's information about itself.

use std::time::Duration;

use oh_protocol::ConversationId;
use oh_testkit::Mock;
use oh_transport::{Client, ErrorKind as Theirs};
use oh_workspace::{ErrorKind, Workspace};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

fn workspace(mock: &Mock) -> Workspace {
    Workspace::new(&mock.client(), "/w")
}

fn settings(active: Value, agent: Value) -> Value {
    json!({"agent_settings": agent, "conversation_settings": {}, "llm_api_key_is_set": true,
        "active_profile": active, "new": 1})
}

#[tokio::test]
async fn the_active_profile_takes_precedence_over_stored_settings() {
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
async fn without_a_profile_the_settings_are_requested_with_their_secrets() {
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
async fn missing_settings_are_not_found() {
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
    for _ in 0..3 {
        // Only the names are requested.
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
    // Old servers do not authenticate their own lookups.
    let with_key = workspace(&mock).secrets_with_key(&["B"], "canary").await;
    let with_key = with_key.unwrap();
    assert!(!format!("{with_key:?}").contains("canary"));
    let expected = json!({"B": {"kind": "LookupSecret", "url": "/api/settings/secrets/B",
        "headers": {"X-Session-API-Key": "canary"}}});
    assert_eq!(serde_json::to_value(&with_key).unwrap(), expected);
    mock.verify().unwrap();
}

#[tokio::test]
async fn mcp_servers_are_returned_as_stored() {
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
async fn the_alive_check_returns_yes_or_no() {
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

#[tokio::test]
async fn a_vscode_url_is_a_secret() {
    let mock = Mock::new();
    let workspace = workspace(&mock);
    let url = "http://h/?tkn=canary&folder=/w";
    mock.expect(
        "GET",
        "/api/vscode/url?base_url=https%3A%2F%2Fh&workspace_dir=%2Fw",
    )
    .answer(200, json!({"url": url}));
    let found = workspace
        .vscode_url(Some("https://h"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.expose_secret(), url);
    assert!(!format!("{found:?}").contains("canary"));
    // An enabled VSCode that is not running has no URL.
    mock.expect("GET", "/api/vscode/url?workspace_dir=%2Fw")
        .answer(200, json!({"url": null}));
    assert!(workspace.vscode_url(None).await.unwrap().is_none());
    mock.expect("GET", "/api/vscode/status")
        .answer(200, json!({"running": true, "enabled": true}));
    assert!(workspace.vscode_status().await.unwrap().running);
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_handle_of_a_conversation_sends_requests_in_its_scope() {
    let mock = Mock::new();
    let id = ConversationId::random();
    let own = workspace(&mock).in_conversation(id);
    let base = format!("/api/conversations/{id}");
    mock.expect("GET", format!("{base}/vscode/url?workspace_dir=%2Fw"))
        .answer(200, json!({"url": "http://h"}));
    mock.expect("GET", format!("{base}/git/changes?path=%2Fw&ref=HEAD"))
        .answer(
            200,
            json!([{"status": "RENAMED", "path": "\"\\303\\244\""}]),
        );
    mock.expect("GET", format!("{base}/git/diff?path=%2Fw%2Ff&ref=HEAD"))
        .answer(200, json!({"original": "", "modified": "x"}));
    mock.expect("GET", format!("{base}/git/commits?path=%2Fw&limit=2"))
        .answer(200, json!({"commits": [{"sha": "abcd"}], "has_more": true}));
    mock.expect("GET", format!("{base}/git/commits/abcd/changes?path=%2Fw"))
        .answer(200, json!([{"status": "ADDED", "path": "f"}]));
    mock.expect(
        "POST",
        format!("{base}/file/create_directory?path=%2Fw%2Fd"),
    )
    .answer(200, json!({"success": true}));
    assert!(own.vscode_url(None).await.unwrap().is_some());
    let git = own.git();
    let changes = git.changes_against("HEAD").await.unwrap();
    // An unknown status of a newer server is kept.
    let found = (changes[0].path.as_str(), changes[0].status.as_str());
    assert_eq!(found, ("ä", "RENAMED"));
    git.diff_against("f", "HEAD").await.unwrap();
    assert!(git.commits(2).await.unwrap().has_more);
    git.commit_changes("abcd").await.unwrap();
    own.create_directory("d").await.unwrap();
    mock.verify().unwrap();
}

#[tokio::test]
async fn secrets_of_an_agent_profile_are_selected_by_the_server() {
    let mock = Mock::new();
    mock.expect("GET", "/api/settings/secrets?agent_profile_id=7")
        .answer(200, json!({"secrets": [{"name": "A"}]}));
    let found = workspace(&mock)
        .secrets_of_agent_profile("7")
        .await
        .unwrap();
    let expected = json!({"A": {"kind": "LookupSecret", "url": "/api/settings/secrets/A"}});
    assert_eq!(serde_json::to_value(&found).unwrap(), expected);
    let missing = json!({"detail": "Agent profile not found"});
    mock.expect("GET", "/api/settings/secrets?agent_profile_id=8")
        .answer(404, missing);
    let error = workspace(&mock).secrets_of_agent_profile("8").await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    mock.verify().unwrap();
}
