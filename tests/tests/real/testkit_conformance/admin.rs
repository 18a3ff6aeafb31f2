//! Scenarios about models, connections and profiles.

use serde_json::{Value, json};

use super::side::{Side, keys};

const CONNECTIONS: &str = "/api/llm/provider-connections";

pub(crate) async fn models_and_keys(side: &mut Side) {
    // The real server has far more models.
    for (target, list) in [
        ("/api/llm/providers", "providers"),
        ("/api/llm/models", "models"),
        ("/api/llm/models?provider=anthropic", "models"),
        ("/api/llm/models/verified", "models"),
    ] {
        let (status, body) = side.ask("GET", target, Value::Null).await;
        let known = body[list].to_string();
        let known =
            ["anthropic", "openai", "gpt-5.6", "claude-opus-5"].map(|name| known.contains(name));
        // The names of models may include the provider.
        let known = match target.ends_with("models") {
            true => &known[2..],
            false => &known[..],
        };
        side.note(format!("{target} {status} {} {known:?}", keys(&body)));
    }
    side.check("GET", "/api/llm/models?provider=nobody", Value::Null)
        .await;

    side.check("GET", CONNECTIONS, Value::Null).await;
    for body in [
        json!({}),
        json!({"display_name": "Team"}),
        json!({"display_name": "", "api_key": "canary"}),
        json!({"display_name": "Team", "api_key": " "}),
        json!({"display_name": "Team", "api_key": "**********"}),
        json!({"display_name": "Team", "api_key": "canary", "more": 1}),
        json!({"display_name": 1, "api_key": "canary"}),
    ] {
        side.check("POST", CONNECTIONS, body).await;
    }
    let team = json!({"display_name": "Team", "api_key": "canary", "base_url": "http://x"});
    let made = side.check("POST", CONNECTIONS, team).await;
    shown(side, &made);
    let id = made["id"].as_str().unwrap().to_owned();
    let one = format!("{CONNECTIONS}/{id}");
    for body in [
        json!({}),
        json!({"provider": null}),
        json!({"api_key": ""}),
        json!({"more": 1}),
        json!({"base_url": null, "provider": "openai"}),
    ] {
        let (status, changed) = side.ask("PATCH", &one, body).await;
        side.note(status.to_string());
        shown(side, &changed);
    }
    side.check(
        "PATCH",
        &format!("{CONNECTIONS}/none"),
        json!({"provider": "x"}),
    )
    .await;

    let llm = json!({"model": "openai/m", "provider_connection_id": id});
    side.check("POST", "/api/profiles/linked", json!({"llm": llm}))
        .await;
    summary(side).await;
    side.check("DELETE", &one, Value::Null).await;
    side.check("POST", "/api/profiles/linked/rename", json!({}))
        .await;
    for (old, new) in [("linked", "moved"), ("linked", "more"), ("moved", "moved")] {
        let target = format!("/api/profiles/{old}/rename");
        side.check("POST", &target, json!({"new_name": new})).await;
    }
    let other = json!({"llm": {"model": "openai/m"}});
    side.check("POST", "/api/profiles/other", other).await;
    side.check(
        "POST",
        "/api/profiles/other/rename",
        json!({"new_name": "moved"}),
    )
    .await;
    side.check("DELETE", "/api/profiles/moved", Value::Null)
        .await;
    let (status, deleted) = side.ask("DELETE", &one, Value::Null).await;
    side.note(format!(
        "{status} {} {}",
        deleted["display_name"], deleted["api_key_set"]
    ));
    side.check("DELETE", &format!("{CONNECTIONS}/none"), Value::Null)
        .await;
    side.check("GET", CONNECTIONS, Value::Null).await;

    side.check("POST", "/api/profiles/any/validate", json!({}))
        .await;
    let broken = json!({"llm": {"model": "openai/m", "provider_connection_id": "none"}});
    let (status, _) = side.ask("POST", "/api/profiles/any/validate", broken).await;
    side.note(status.to_string());
}

pub(crate) async fn subscription(side: &mut Side) {
    let at = |rest: &str| format!("/api/llm/subscription/openai/{rest}");
    let (status, body) = side.ask("GET", &at("models"), Value::Null).await;
    let known = body["models"].to_string().contains("gpt-5.6-sol");
    side.note(format!("{status} {} {known}", keys(&body)));
    side.check("GET", &at("status"), Value::Null).await;
    side.check("POST", &at("device/poll"), json!({})).await;
    side.check("POST", &at("device/poll"), json!({"device_code": "none"}))
        .await;
    side.check("POST", &at("logout"), Value::Null).await;
}

/// Records a connection without its id and times.
fn shown(side: &mut Side, connection: &Value) {
    let parts = ["display_name", "provider", "base_url", "api_key_set"];
    side.note(parts.map(|part| connection[part].to_string()).join(" "));
}

/// Records the profiles without ids.
async fn summary(side: &mut Side) {
    let (_, list) = side.ask("GET", "/api/profiles", Value::Null).await;
    for info in list["profiles"].as_array().unwrap() {
        let linked = info["provider_connection_id"].is_string();
        let parts = ["name", "model", "provider_connection_broken", "api_key_set"];
        let parts = parts.map(|part| info[part].to_string()).join(" ");
        side.note(format!("{parts} {linked}"));
    }
}

pub(crate) async fn mcp_stored(side: &mut Side) {
    let one = "/api/settings/mcp/local";
    let server = json!({"command": "true", "env": {"TOKEN": "canary"}});
    for (method, body) in [
        ("PATCH", json!({"enabled": false})),
        ("DELETE", Value::Null),
        ("POST", json!({"command": "true", "more": 1})),
        ("POST", server.clone()),
        ("POST", server),
        ("PATCH", json!({"more": 1})),
        (
            "PATCH",
            json!({"enabled": false, "env": {"TOKEN": null, "OTHER": "canary"}}),
        ),
        ("PATCH", json!({"cwd": "/", "enabled": null})),
    ] {
        let answer = side.check(method, one, body).await;
        let stored = &answer["agent_settings"]["mcp_config"]["local"];
        let parts = ["command", "env", "cwd"];
        side.note(parts.map(|part| stored[part].to_string()).join(" "));
    }
    let answer = side.check("DELETE", one, Value::Null).await;
    // Other scenarios of the shared server store servers too.
    side.note(answer["agent_settings"]["mcp_config"]["local"].to_string());
    side.check("DELETE", one, Value::Null).await;
}

pub(crate) async fn saved(side: &mut Side) {
    let meta = "/api/meta-profiles";
    let one = format!("{meta}/routes");
    let classes = json!([{"description": "easy", "model": "fast"}]);
    side.check("GET", meta, Value::Null).await;
    side.check("GET", &one, Value::Null).await;
    for body in [
        json!({}),
        json!({"classifier_model": "c"}),
        json!({"classifier_model": "c", "classes": [{"model": "fast"}]}),
        json!({"classifier_model": "c", "prompt_template": "x"}),
        json!({"classifier_model": "c", "prompt_template": "{{ instance_text }}", "classes": classes}),
        json!({"classifier_model": "c", "classes": classes, "more": 1}),
    ] {
        side.check("POST", &one, body).await;
    }
    let direct = json!({"classifier_model": "c", "prompt_template": "{{ instance_text }}"});
    side.check("POST", &format!("{meta}/a%20b"), direct.clone())
        .await;
    side.check("POST", &format!("{meta}/direct"), direct).await;
    for name in ["routes", "direct"] {
        let (_, read) = side
            .ask("GET", &format!("{meta}/{name}"), Value::Null)
            .await;
        side.note(read.to_string());
    }
    for name in ["routes", "none"] {
        side.check("POST", &format!("{meta}/{name}/activate"), Value::Null)
            .await;
    }
    for pointer in [json!("none"), json!("direct")] {
        let change = json!({"active_meta_profile": pointer});
        let (status, answer) = side.ask("PATCH", "/api/settings", change).await;
        side.note(format!("{status} {}", answer["active_meta_profile"]));
    }
    side.check("GET", meta, Value::Null).await;
    for name in ["routes", "direct", "direct"] {
        side.check("DELETE", &format!("{meta}/{name}"), Value::Null)
            .await;
    }
    side.check("GET", meta, Value::Null).await;

    let saved = "/api/workspaces";
    let parents = "/api/workspaces/parents";
    let item = json!({"id": "1", "name": "One", "path": "/srv/one"});
    let more = json!({"id": "2", "name": "Two", "path": "/srv/two", "parentPath": "/srv"});
    side.check("GET", saved, Value::Null).await;
    for (route, field) in [(saved, "workspaces"), (parents, "parents")] {
        for items in [
            json!([{"id": "1"}]),
            json!([{"id": "", "name": "n", "path": "/p"}]),
            json!([{"id": "1", "name": "x".repeat(257), "path": "/p"}]),
            json!([item, item]),
        ] {
            side.check("POST", route, json!({ field: items })).await;
        }
        side.check("POST", route, json!({})).await;
    }
    side.check("POST", saved, json!({"workspaces": [item, more]}))
        .await;
    for path in [saved, parents] {
        side.check("DELETE", path, Value::Null).await;
        for _ in 0..2 {
            side.check("DELETE", &format!("{path}?path=/srv/one"), Value::Null)
                .await;
        }
    }
    side.check("DELETE", &format!("{saved}?path=%2Fsrv%2Ftwo"), Value::Null)
        .await;
    side.check("GET", saved, Value::Null).await;
}
