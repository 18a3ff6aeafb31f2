//! Scenarios about agent profiles.

use serde_json::{Value, json};

use super::side::Side;

const AGENTS: &str = "/api/agent-profiles";

pub(crate) async fn profiles(side: &mut Side) {
    let one = format!("{AGENTS}/worker");
    let missing = format!("{AGENTS}/none");
    side.check("GET", &one, Value::Null).await;
    for body in [
        json!({"llm_profile_ref": "of-agents", "more": 1}),
        json!({"agent_kind": "acp", "llm_profile_ref": "of-agents"}),
        json!({"agent_kind": "other"}),
        json!({}),
    ] {
        let (status, _) = side.ask("POST", &one, body).await;
        side.note(status.to_string());
    }
    let worker = json!({"llm_profile_ref": "of-agents", "mcp_server_refs": []});
    let draft = json!({"profile": {"llm_profile_ref": "of-agents"}});
    for name in ["a%20b", "-a", "%C3%A4", &"x".repeat(65)] {
        let target = format!("{AGENTS}/{name}");
        side.check("POST", &target, json!({"llm_profile_ref": "m"}))
            .await;
    }
    side.check("POST", &one, worker.clone()).await;
    let (_, stored) = side.ask("GET", &one, Value::Null).await;
    shown(side, &stored["profile"]);
    let id = stored["profile"]["id"].as_str().unwrap().to_owned();
    side.check("POST", &one, worker).await;
    let (_, stored) = side.ask("GET", &one, Value::Null).await;
    shown(side, &stored["profile"]);
    side.note((stored["profile"]["id"] == *id).to_string());

    // The model profile does not exist yet.
    let materialize = format!("{one}/materialize");
    report(side, &materialize, Value::Null).await;
    report(side, &format!("{missing}/materialize"), draft).await;
    side.check("POST", &format!("{missing}/materialize"), Value::Null)
        .await;
    started(side, &id).await;
    let llm = side.llm.clone();
    side.check("POST", "/api/profiles/of-agents", json!({"llm": llm}))
        .await;
    report(side, &materialize, Value::Null).await;
    let servers = json!({"llm_profile_ref": "of-agents", "mcp_server_refs": ["b", "none-a"]});
    report(side, &materialize, json!({"profile": servers})).await;
    started(side, &id).await;
    started(side, "11111111-1111-4111-8111-111111111111").await;

    for (name, new) in [("worker", "helper"), ("worker", "x"), ("helper", "helper")] {
        let target = format!("{AGENTS}/{name}/rename");
        side.check("POST", &target, json!({"new_name": new})).await;
    }
    let rename = format!("{AGENTS}/helper/rename");
    for body in [json!({}), json!({"new_name": "a b"})] {
        side.check("POST", &rename, body).await;
    }
    let acp = json!({"agent_kind": "acp", "acp_server": "codex"});
    side.check("POST", &format!("{AGENTS}/other"), acp).await;
    side.check("POST", &rename, json!({"new_name": "other"}))
        .await;

    let (_, answer) = side
        .ask("POST", &format!("{AGENTS}/{id}/activate"), Value::Null)
        .await;
    side.note(format!(
        "{} {}",
        answer["id"] == *id,
        answer["agent_settings_applied"]
    ));
    side.check("POST", &format!("{AGENTS}/none/activate"), Value::Null)
        .await;
    active(side, &id).await;
    // Other scenarios change the settings at the same time, but not these.
    for pointer in [
        json!("11111111-1111-4111-8111-111111111111"),
        json!(id),
        Value::Null,
    ] {
        let change = json!({"active_agent_profile_id": pointer});
        let (status, answer) = side.ask("PATCH", "/api/settings", change).await;
        let active = &answer["active_agent_profile_id"];
        side.note(format!("{status} {}", *active == pointer));
    }
    // A list without an active profile activates `default`.
    active(side, &id).await;
    let (status, _) = side
        .ask("POST", &format!("{AGENTS}/{id}/activate"), Value::Null)
        .await;
    side.note(status.to_string());
    for name in ["helper", "helper", "other"] {
        side.check("DELETE", &format!("{AGENTS}/{name}"), Value::Null)
            .await;
    }
    active(side, &id).await;
    side.check("DELETE", "/api/profiles/of-agents", Value::Null)
        .await;
}

/// Records the fields of a profile, without ids and without the defaults of other objects.
fn shown(side: &mut Side, profile: &Value) {
    for (name, value) in profile.as_object().unwrap() {
        match value {
            Value::Object(_) => side.note(name),
            _ if name == "id" => side.note(name),
            value => side.note(format!("{name}: {value}")),
        }
    }
}

/// Records the part of a report that does not depend on the machine.
async fn report(side: &mut Side, target: &str, body: Value) {
    let (status, report) = side.ask("POST", target, body).await;
    let mut line = status.to_string();
    for field in [
        "agent_kind",
        "valid",
        "errors",
        "llm_profile_ref",
        "llm_profile_resolved",
        "llm_api_key_set",
        "mcp_server_refs",
        "dangling_mcp_server_refs",
        "dangling_meta_profile_ref",
    ] {
        line.push_str(&format!(" {field}={}", report[field]));
    }
    let key = &report["resolved_settings"]["llm"]["api_key"];
    line.push_str(&format!(" {key}"));
    side.note(line);
}

/// Starts a conversation with a profile, and records what the server says about it.
async fn started(side: &mut Side, id: &str) {
    let body = json!({
        "workspace": {"working_dir": side.work},
        "agent_profile_id": id,
        "autotitle": false,
    });
    let (status, info) = side.ask("POST", "/api/conversations", body).await;
    let launched = &info["launched_agent_profile"];
    side.note(format!(
        "{status} {} {} {} {}",
        launched["agent_profile_id"] == *id,
        launched["revision"],
        info["agent"]["llm"]["model"],
        info["detail"]["message"],
    ));
}

/// Records which profile is active, and the names of the scenario's own profiles.
async fn active(side: &mut Side, id: &str) {
    let (status, list) = side.ask("GET", AGENTS, Value::Null).await;
    let all = list["profiles"].as_array().unwrap();
    let active = &list["active_agent_profile_id"];
    let known = all.iter().any(|info| info["id"] == *active);
    side.note(format!("{status} {} {known}", *active == id));
    for info in all {
        let mut info = info.clone();
        if info["name"] == "default" {
            info["llm_profile_ref"] = Value::Null;
        }
        info["id"] = Value::Null;
        side.note(info.to_string());
    }
}
