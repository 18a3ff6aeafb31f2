//! Settings of a conversation and stored data of a server: changed and read on both servers.

use serde_json::{Value, json};

use super::side::{Side, story};

const GHOST: &str = "00000000-0000-4000-8000-000000000000";

pub(crate) async fn changes(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let path = format!("/api/conversations/{id}");
    let llm = side.llm.clone();
    for (what, body) in [
        (
            "confirmation_policy",
            json!({"policy": {"kind": "AlwaysConfirm"}}),
        ),
        (
            "confirmation_policy",
            json!({"policy": {"kind": "AlwaysConfirm"}}),
        ),
        (
            "confirmation_policy",
            json!({"policy": {"kind": "ConfirmRisky"}}),
        ),
        ("confirmation_policy", json!({})),
        (
            "security_analyzer",
            json!({"security_analyzer": {"kind": "LLMSecurityAnalyzer"}}),
        ),
        ("security_analyzer", json!({"security_analyzer": null})),
        (
            "secrets",
            json!({"secrets": {"A_KEY": "canary", "B": {"value": "canary"}}}),
        ),
        ("secrets", json!({})),
        ("switch_llm", json!({"llm": llm})),
        ("switch_llm", json!({})),
        ("switch_profile", json!({"profile_name": "no_such_profile"})),
        ("switch_profile", json!({})),
        ("switch_acp_model", json!({})),
        ("load_plugin", json!({})),
        ("ask_agent", json!({})),
        ("ask_agent", json!({"question": "How do you do?"})),
        ("condense", Value::Null),
    ] {
        side.check("POST", &format!("{path}/{what}"), body).await;
    }
    for (what, body) in [
        ("switch_acp_model", json!({"model": "x"})),
        ("load_plugin", json!({"plugin_ref": "nothing"})),
    ] {
        let (status, _) = side.ask("POST", &format!("{path}/{what}"), body).await;
        side.note(format!("{what} {status}"));
    }
    let (_, info) = side.ask("GET", &path, Value::Null).await;
    side.note(format!(
        "{} {}",
        info["confirmation_policy"], info["security_analyzer"]
    ));
    assert!(!info.to_string().contains("canary"), "{info}");
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
    for what in [
        "confirmation_policy",
        "security_analyzer",
        "secrets",
        "switch_llm",
        "switch_profile",
        "switch_acp_model",
        "load_plugin",
        "ask_agent",
        "condense",
    ] {
        let body = json!({
            "policy": {"kind": "NeverConfirm"}, "secrets": {}, "llm": llm, "profile_name": "x",
            "model": "x", "plugin_ref": "x", "question": "x",
        });
        let target = format!("/api/conversations/{GHOST}/{what}");
        side.check("POST", &target, body).await;
    }
}

pub(crate) async fn stored(side: &mut Side) {
    let secrets = "/api/settings/secrets";
    side.check("GET", secrets, Value::Null).await;
    for body in [
        json!({"name": "TOKEN", "value": "one", "description": "A token"}),
        json!({"name": "TOKEN", "value": "two"}),
        json!({"name": "1BAD", "value": "x"}),
        json!({"name": "OK", "value": ""}),
        json!({"name": "OK", "value": "**********"}),
        json!({"name": "OK"}),
        json!({"value": "x"}),
    ] {
        side.check("PUT", secrets, body).await;
    }
    side.check("GET", secrets, Value::Null).await;
    let head = format!("X-Session-API-Key: {}\r\n", side.key);
    let raw = super::raw::ask(&side.url, "GET", &format!("{secrets}/TOKEN"), &head, b"").await;
    side.note(format!(
        "{} {:?} {}",
        raw.status,
        raw.header("content-type"),
        raw.text()
    ));
    for (method, name) in [
        ("GET", "NONE"),
        ("GET", "1BAD"),
        ("DELETE", "TOKEN"),
        ("DELETE", "TOKEN"),
    ] {
        side.check(method, &format!("{secrets}/{name}"), Value::Null)
            .await;
    }

    let profile =
        json!({"llm": {"model": "openai/scripted", "api_key": "canary", "base_url": "http://x"}});
    side.check("POST", "/api/profiles/fast", profile).await;
    side.check("POST", "/api/profiles/none", json!({})).await;
    for expose in ["", "plaintext", "encrypted", "nonsense"] {
        let head = format!("{head}X-Expose-Secrets: {expose}\r\n");
        let raw = super::raw::ask(&side.url, "GET", "/api/profiles/fast", &head, b"").await;
        let body: Value = serde_json::from_slice(&raw.body).unwrap();
        let config = &body["config"];
        let key = match config["api_key"].as_str() {
            Some("canary") => "plain",
            Some(_) => "hidden",
            None => "none",
        };
        side.note(format!(
            "{expose} {} {} {} {key} {}",
            raw.status, config["model"], config["base_url"], body["api_key_set"]
        ));
    }
    side.check("GET", "/api/profiles/unknown", Value::Null)
        .await;
    side.check("POST", "/api/profiles/unknown/activate", Value::Null)
        .await;
    let (status, active) = side
        .ask("POST", "/api/profiles/fast/activate", Value::Null)
        .await;
    side.note(format!("{status} {}", active["name"]));

    for (expose, shown) in [("", "hidden"), ("plaintext", "canary")] {
        let head = format!("{head}X-Expose-Secrets: {expose}\r\n");
        let raw = super::raw::ask(&side.url, "GET", "/api/settings", &head, b"").await;
        let body: Value = serde_json::from_slice(&raw.body).unwrap();
        let llm = &body["agent_settings"]["llm"];
        side.note(format!(
            "settings {} {} {} {} {}",
            raw.status,
            llm["model"],
            llm["api_key"],
            body["llm_api_key_is_set"],
            body["active_profile"]
        ));
        assert_eq!(llm["api_key"] == "canary", shown == "canary");
    }
    let servers = json!({"mcp_config": {"time": {"command": "true"}, "gone": {"command": "true"}}});
    for body in [
        json!({}),
        json!({"agent_settings_diff": servers}),
        json!({"agent_settings_diff": {"mcp_config": {"gone": null}}}),
        json!({"misc_settings_diff": {"a": {"b": 1}}}),
        json!({"active_profile": "unknown"}),
    ] {
        let (status, answer) = side.ask("PATCH", "/api/settings", body).await;
        let servers = answer["agent_settings"]["mcp_config"].as_object();
        let servers: Vec<_> = servers
            .into_iter()
            .flat_map(|servers| servers.keys())
            .collect();
        side.note(format!("{status} {servers:?} {}", answer["misc_settings"]));
    }
    side.check("DELETE", "/api/profiles/fast", Value::Null)
        .await;
    let (_, profiles) = side.ask("GET", "/api/profiles", Value::Null).await;
    side.note(format!("{}", profiles["active_profile"]));
}
