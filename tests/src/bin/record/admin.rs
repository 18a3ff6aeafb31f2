//! Responses of the administration's routes, each with its operation and status.

use std::path::Path;

use openhands::{LocalServer, testkit::ScriptedModel};
use serde_json::{Value, json};

use crate::{played::Played, sockets::Outcome, stored};

/// Sends a request of each operation, and returns the responses, one JSON object each. `base` is
/// the directory of the recording.
pub(crate) async fn all(server: &LocalServer, base: &Path) -> Outcome<Vec<String>> {
    let model = ScriptedModel::builder().start().await?;
    let llm = json!({
        "model": ScriptedModel::MODEL, "base_url": model.base_url(), "api_key": "scripted",
    });
    let nowhere = json!({"model": "openai/m", "base_url": "http://127.0.0.1:9", "api_key": "k"});
    let mut played = Played::on(server);
    played.get("/api/llm/providers").await?;
    played.get("/api/llm/models?provider=anthropic").await?;
    played.get("/api/llm/models/verified").await?;
    let subscription = |rest: &str| format!("/api/llm/subscription/openai/{rest}");
    played.get(&subscription("models")).await?;
    played.get(&subscription("status")).await?;
    played
        .send("POST", &subscription("logout"), "", Value::Null)
        .await?;
    let connection = json!({"display_name": "Team", "api_key": "scripted"});
    let made = played.send("POST", CONNECTIONS, "", connection).await?;
    let id = made["id"].as_str().unwrap_or_default().to_owned();
    played.get(CONNECTIONS).await?;
    let linked = json!({"model": "openai/m", "provider_connection_id": id});
    played
        .send(
            "POST",
            "/api/profiles/{name}",
            "linked",
            json!({"llm": linked}),
        )
        .await?;
    played.send("DELETE", CONNECTION, &id, Value::Null).await?;
    played
        .send("DELETE", "/api/profiles/{name}", "linked", Value::Null)
        .await?;
    played
        .send("PATCH", CONNECTION, &id, json!({"provider": "openai"}))
        .await?;
    played.send("DELETE", CONNECTION, &id, Value::Null).await?;
    played.send("DELETE", CONNECTION, &id, Value::Null).await?;
    played
        .send("POST", "/api/profiles/{name}", "old", json!({"llm": llm}))
        .await?;
    played
        .send("POST", "/api/profiles/{name}", "a b", json!({"llm": llm}))
        .await?;
    played.get("/api/profiles").await?;
    played
        .send("GET", "/api/profiles/{name}", "old", Value::Null)
        .await?;
    let rename = json!({"new_name": "new"});
    played
        .send("POST", "/api/profiles/{name}/rename", "old", rename.clone())
        .await?;
    played
        .send("POST", "/api/profiles/{name}/rename", "old", rename)
        .await?;
    played
        .send("POST", "/api/profiles/{name}/activate", "new", Value::Null)
        .await?;
    let draft = json!({"llm": nowhere});
    played
        .send("POST", "/api/profiles/{name}/validate", "new", draft)
        .await?;
    played
        .send("DELETE", "/api/profiles/{name}", "new", Value::Null)
        .await?;
    settings(&mut played).await?;
    stored::all(&mut played, base).await?;
    Ok(played.into_lines())
}

const CONNECTIONS: &str = "/api/llm/provider-connections";
const CONNECTION: &str = "/api/llm/provider-connections/{connection_id}";

async fn settings(played: &mut Played<'_>) -> Outcome {
    let secret = json!({"name": "TOKEN", "value": "t", "description": "A token"});
    played
        .send("PUT", "/api/settings/secrets", "", secret)
        .await?;
    played.get("/api/settings/secrets").await?;
    played
        .send(
            "DELETE",
            "/api/settings/secrets/{name}",
            "TOKEN",
            Value::Null,
        )
        .await?;
    played
        .send(
            "DELETE",
            "/api/settings/secrets/{name}",
            "TOKEN",
            Value::Null,
        )
        .await?;
    let server = json!({"command": "true", "env": {"TOKEN": "t"}});
    played.send("POST", STORED, "local", server.clone()).await?;
    played.send("POST", STORED, "local", server).await?;
    played
        .send("PATCH", STORED, "local", json!({"enabled": false}))
        .await?;
    let change = json!({"conversation_settings_diff": {"max_iterations": 77}});
    played.send("PATCH", "/api/settings", "", change).await?;
    played.get("/api/settings").await?;
    played.send("DELETE", STORED, "local", Value::Null).await?;
    played.get("/api/settings/agent-schema").await?;
    played.get("/api/settings/conversation-schema").await?;
    let broken = json!({"server": {"command": "/no/such/program"}});
    played
        .send("POST", "/api/mcp/test", "", broken.clone())
        .await?;
    played
        .send("POST", "/api/mcp/oauth/start", "", broken)
        .await?;
    let nowhere = json!({"url": "http://127.0.0.1:9/mcp", "auth": {"strategy": "oauth2"}});
    let started = json!({"server": nowhere});
    let started = played
        .send("POST", "/api/mcp/oauth/start", "", started)
        .await?;
    let job = started["job_id"].as_str().unwrap_or_default();
    played
        .send("GET", "/api/mcp/oauth/status/{job_id}", job, Value::Null)
        .await?;
    Ok(())
}

const STORED: &str = "/api/settings/mcp/{settings_key}";
