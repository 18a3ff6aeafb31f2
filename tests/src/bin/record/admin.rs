//! Responses of the administration's routes, each with its operation and status.

use openhands::{LocalServer, protocol::Request, testkit::ScriptedModel, transport::Body};
use serde_json::{Value, json};

use crate::sockets::Outcome;

/// Sends a request of each operation, and returns the responses, one JSON object each.
pub(crate) async fn all(server: &LocalServer) -> Outcome<Vec<String>> {
    let model = ScriptedModel::builder().start().await?;
    let llm = json!({
        "model": ScriptedModel::MODEL, "base_url": model.base_url(), "api_key": "scripted",
    });
    let nowhere = json!({"model": "openai/m", "base_url": "http://127.0.0.1:9", "api_key": "k"});
    let mut played = Played {
        server,
        lines: Vec::new(),
    };
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
    Ok(played.lines)
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

struct Played<'a> {
    server: &'a LocalServer,
    lines: Vec<String>,
}

impl Played<'_> {
    async fn get(&mut self, target: &str) -> Outcome<Value> {
        self.send("GET", target, "", Value::Null).await
    }

    /// Sends a request, and keeps the response. `value` replaces the part of the route in braces.
    async fn send(
        &mut self,
        method: &str,
        route: &str,
        value: &str,
        body: Value,
    ) -> Outcome<Value> {
        let target = match route.split_once('{') {
            Some((before, rest)) => {
                let rest = rest.split_once('}').map_or("", |(_, rest)| rest);
                format!("{before}{}{rest}", value.replace(' ', "%20"))
            }
            None => route.to_owned(),
        };
        let mut request = Request::new(method.parse()?, target);
        let mut sent = Body::empty();
        if !body.is_null() {
            request = request.json(&body)?;
            sent = Body::from(request.body.take().unwrap_or_default());
            let json = http::HeaderValue::from_static("application/json");
            request.headers.insert(http::header::CONTENT_TYPE, json);
        }
        let answer = self.server.client().stream(request, sent).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect(1 << 24).await?;
        let body: Value = serde_json::from_slice(&body)?;
        let route = route.split('?').next().unwrap_or(route);
        let line =
            json!({"operation": format!("{method} {route}"), "status": status, "body": body});
        self.lines.push(line.to_string());
        Ok(body)
    }
}
