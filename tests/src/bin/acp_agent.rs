//! A tiny agent that speaks the Agent Client Protocol on its standard streams. It answers each
//! prompt with the name of its model, and fails once in the middle of an answer when the prompt
//! asks it to stumble. The only models are `small` and `large`. With a login in `CODEX_HOME`, it
//! answers with the account and the directory, and writes a new token where the prompt asks for it.

use std::{
    env, fs,
    io::{Write as _, stdin, stdout},
    path::Path,
};

use serde_json::{Value, json};

fn main() {
    let mut model = "small".to_owned();
    let mut stumbled = false;
    for line in stdin().lines() {
        let Ok(request) = line
            .map_err(drop)
            .and_then(|line| serde_json::from_str::<Value>(&line).map_err(drop))
        else {
            break;
        };
        let asked = &request["params"];
        let mut answer = json!({"jsonrpc": "2.0", "id": request["id"]});
        match request["method"].as_str().unwrap_or_default() {
            "initialize" => {
                answer["result"] = json!({
                    "protocolVersion": 1,
                    "agentInfo": {"name": "parrot", "version": "1.0.0"},
                });
            }
            "session/new" => {
                answer["result"] = json!({
                    "sessionId": "only",
                    "configOptions": options(&model),
                });
            }
            "session/set_config_option" => match asked["value"].as_str() {
                Some(known @ ("small" | "large")) => {
                    known.clone_into(&mut model);
                    answer["result"] = json!({"configOptions": options(&model)});
                }
                _ => answer["error"] = json!({"code": -32602, "message": "no such model"}),
            },
            "session/prompt" => {
                update(text("I am "));
                if !stumbled && asked["prompt"].to_string().contains("stumble") {
                    stumbled = true;
                    answer["error"] = json!({"code": -32603, "message": "stumbled"});
                } else {
                    update(text(&format!("{model}.")));
                    if let Ok(home) = env::var("CODEX_HOME") {
                        let prompt = asked["prompt"].to_string();
                        update(text(&logged_in(&home, prompt.contains("new token"))));
                    }
                    // The server waits for this after each answer, for a limited time.
                    update(json!({"sessionUpdate": "usage_update", "used": 10, "size": 1000}));
                    answer["result"] = json!({"stopReason": "end_turn"});
                }
            }
            _ => answer["result"] = json!({}),
        }
        // A message without an id is a notification and gets no response.
        if !request["id"].is_null() {
            tell(&answer);
        }
    }
}

/// Says which account the login is of, and where it is. Replaces its token on request.
fn logged_in(home: &str, renew: bool) -> String {
    let file = Path::new(home).join("auth.json");
    let read = fs::read(&file).ok();
    let Some(mut login) = read.and_then(|login| serde_json::from_slice::<Value>(&login).ok())
    else {
        return format!(" Nobody is logged in at {home}");
    };
    if renew {
        let token = &mut login["tokens"]["refresh_token"];
        *token = json!(format!("{}, renewed", token.as_str().unwrap_or_default()));
        // The server reads the file at any time.
        let new = file.with_extension("new");
        let written = fs::write(&new, login.to_string()).and_then(|()| fs::rename(&new, &file));
        if let Err(error) = written {
            return format!(" {error} at {home}");
        }
    }
    let account = login["account"].as_str().unwrap_or_default();
    format!(" I work for {account} at {home}")
}

/// Returns the options of a session: the model.
fn options(model: &str) -> Value {
    json!([{
        "id": "model",
        "name": "Model",
        "category": "model",
        "type": "select",
        "currentValue": model,
        "options": [{"value": "small", "name": "Small"}, {"value": "large", "name": "Large"}],
    }])
}

fn text(text: &str) -> Value {
    json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}})
}

/// Sends an update of the only session.
fn update(update: Value) {
    let params = json!({"sessionId": "only", "update": update});
    tell(&json!({"jsonrpc": "2.0", "method": "session/update", "params": params}));
}

fn tell(message: &Value) {
    let mut out = stdout().lock();
    // If the reader is gone, the next read returns the end of the input.
    let _ = writeln!(out, "{message}").and_then(|()| out.flush());
}
