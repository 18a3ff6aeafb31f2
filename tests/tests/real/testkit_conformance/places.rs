//! The kit in other roles: as the model of the real server, as a proxy in front of it, and across a
//! kill.

use std::time::Duration;

use openhands::testkit::{Fault, Link, Proxy};
use serde_json::{Value, json};

use super::side::{Side, next, story};

/// Returns the kinds of the events in a log.
fn kinds(log: &[Value]) -> String {
    let lines = log.iter().filter(|event| event["key"] != "stats");
    let kinds: Vec<_> = lines
        .map(|event| match event["key"].as_str() {
            Some(key) => key.to_owned(),
            None => event["kind"].as_str().unwrap().to_owned(),
        })
        .collect();
    kinds.join(" ")
}

/// Checks a model that LiteLLM calls by `/responses`, plain and streaming.
pub(crate) async fn responses(side: &mut Side) {
    for stream in [false, true] {
        let mut llm = side.llm.clone();
        llm["model"] = json!("openai/gpt-5-codex");
        llm["stream"] = json!(stream);
        let agent =
            json!({"kind": "Agent", "llm": llm, "tools": [{"name": "terminal", "params": {}}]});
        let id = side.create(json!({"agent": agent})).await;
        side.say(&id, "go", true).await;
        side.until(&id, "finished").await;
        side.settled(&id).await;
        let log = side.log(&id).await;
        side.note(kinds(&log));
        let actions: Vec<_> = log
            .iter()
            .filter(|event| event["kind"] == "ActionEvent")
            .collect();
        let called: Vec<_> = actions
            .iter()
            .map(|event| event["tool_name"].to_string())
            .collect();
        side.note(called.join(" "));
        side.note(actions[0]["thought"][0]["text"].to_string());
        let path = format!("/api/conversations/{id}");
        let (_, info) = side.ask("GET", &path, Value::Null).await;
        let metrics = &info["stats"]["usage_to_metrics"]["default"];
        let tokens = &metrics["accumulated_token_usage"];
        // The cost is not compared: this model has its own price, and a streamed response loses the
        // header.
        side.note(format!(
            "stream={stream} in={} out={} cached={}",
            tokens["prompt_tokens"], tokens["completion_tokens"], tokens["cache_read_tokens"]
        ));
        side.check("GET", &format!("{path}/agent_final_response"), Value::Null)
            .await;
    }
}

/// Checks concurrent conversations with the same text, each with its own copy of the script.
pub(crate) async fn side_by_side(side: &mut Side) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(side.create(Value::Null).await);
    }
    for id in &ids {
        side.say(id, "the same words", true).await;
    }
    for id in &ids {
        side.until(id, "finished").await;
        side.settled(id).await;
        let log = side.log(id).await;
        side.note(kinds(&log));
    }
}

/// Checks a proxy that cuts the connection at an exact byte, and the recovery by cursor.
pub(crate) async fn proxied(side: &mut Side) {
    let id = side.create(Value::Null).await;
    for n in 0..30 {
        side.say(&id, &format!("{n} {}", "x".repeat(1000)), false)
            .await;
    }
    let total = side.log(&id).await.len() as u64;
    let address = side
        .url
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()
        .unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    // Each link carries more bytes than the previous one, and breaks within a frame.
    proxy.links(|number| Link::new().cut_after(20_000 + 7_777 * number));
    let client = openhands::transport::Client::builder(proxy.url())
        .session_api_key(side.key.as_str())
        .build()
        .unwrap();
    let mut seen = Vec::new();
    while (seen.len() as u64) < total {
        let after = seen
            .last()
            .map_or(-1, |seq: &u64| i64::try_from(*seq).unwrap());
        let path = format!("/sockets/session/{id}?after_seq={after}");
        let mut socket = client.socket(&path).await.unwrap();
        while let Ok(frame) = next(&mut socket).await {
            seen.extend(frame["seq"].as_u64());
            if seen.len() as u64 == total {
                break;
            }
        }
    }
    assert!(proxy.accepted() > 1, "the link held");
    side.note(format!(
        "once each, in order: {}",
        seen.into_iter().eq(0..total)
    ));

    // With faults for messages: the server's response arrives, or the one from the proxy.
    let faulty = Proxy::start(address).await.unwrap();
    faulty.inject(
        Fault::status(503)
            .retry_after(Duration::from_secs(7))
            .on("/count")
            .times(1),
    );
    faulty.inject(Fault::html(502).on("/count").after(1).times(1));
    faulty.inject(Fault::duplicate().after(2).times(1));
    faulty.inject(Fault::gap().after(5).times(1));
    faulty.inject(Fault::close(1013, "slow_consumer").after(10).times(1));
    let head = format!("X-Session-API-Key: {}\r\n", side.key);
    let count = format!("/api/conversations/{id}/events/count");
    for _ in 0..3 {
        let answer = super::raw::ask(&faulty.url(), "GET", &count, &head, b"").await;
        side.note(format!(
            "{} {:?} {:?} {}",
            answer.status,
            answer.header("content-type"),
            answer.header("retry-after"),
            answer.text()
        ));
    }
    let client = openhands::transport::Client::builder(faulty.url())
        .session_api_key(side.key.as_str())
        .build()
        .unwrap();
    let path = format!("/sockets/session/{id}?after_seq=-1");
    let mut socket = client.socket(&path).await.unwrap();
    let mut seen = Vec::new();
    let end = loop {
        match next(&mut socket).await {
            Ok(frame) => seen.extend(frame["seq"].as_u64()),
            Err(end) => break end,
        }
    };
    side.note(format!("{seen:?} {end}"));
}

/// Prepares for a kill: a tool is running and a policy has been changed.
pub(crate) async fn before_a_kill(side: &mut Side) -> String {
    let id = side.create(Value::Null).await;
    side.say(&id, "sleep", true).await;
    side.logged(&id, "ActionEvent", 1).await;
    side.settled(&id).await;
    id
}

/// Checks the state after a kill: the kept data, the report about the tool, and a new run.
pub(crate) async fn after_a_kill(side: &mut Side, id: &str) {
    let path = format!("/api/conversations/{id}");
    side.until(id, "error").await;
    side.settled(id).await;
    let log = side.log(id).await;
    side.note(story(&log).join("\n"));
    let (_, info) = side.ask("GET", &path, Value::Null).await;
    side.note(info["confirmation_policy"].to_string());
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    side.until(id, "finished").await;
}

/// Checks that a policy or analyzer set during a conversation is lost with the process.
pub(crate) async fn policies(side: &mut Side, id: &str) {
    let (_, info) = side
        .ask("GET", &format!("/api/conversations/{id}"), Value::Null)
        .await;
    side.note(format!(
        "{} {} {}",
        info["execution_status"], info["confirmation_policy"], info["security_analyzer"]
    ));
    // Until it is used, the conversation shows its last settings; then its initial ones.
    side.say(id, "hello", false).await;
    side.settled(id).await;
    let (_, info) = side
        .ask("GET", &format!("/api/conversations/{id}"), Value::Null)
        .await;
    side.note(format!(
        "{} {}",
        info["confirmation_policy"], info["security_analyzer"]
    ));
}

/// Checks that the fake server has each path of the real one, with the same methods.
pub(crate) async fn routes(fake: &Side, id: &str, description: &Value) -> String {
    let mut report = String::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        let target: Vec<_> = path
            .split('/')
            .map(|part| match part {
                "{conversation_id}" | "{runtime_conversation_id}" => id,
                part if part.starts_with('{') => "x",
                part => part,
            })
            .collect();
        let head = format!("X-Session-API-Key: {}\r\n", fake.key);
        let answer = super::raw::ask(&fake.url, "TRACE", &target.join("/"), &head, b"").await;
        // The header also lists methods of patterns that match: `count` could be an id.
        let allowed = answer.header("allow").unwrap_or_default();
        let wanted = methods
            .as_object()
            .unwrap()
            .keys()
            .map(|method| method.to_uppercase());
        for method in wanted.filter(|method| !allowed.split(", ").any(|known| known == method)) {
            report += &format!("\n{method} {path}: only {allowed:?}");
        }
    }
    report
}

/// The part of the server's OpenAPI document that `cargo xtask api` generates calls from.
pub(crate) const DOCUMENT: &str = include_str!("../../../../xtask/api/openapi.json");

/// Collects the places where a part of a document differs from the whole. The part has no texts for
/// people, but all properties of its types.
pub(crate) fn changes(part: &Value, whole: &Value, at: &str, changed: &mut Vec<String>) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            if at.ends_with("/properties") {
                let new = whole.keys().filter(|name| !part.contains_key(*name));
                changed.extend(new.map(|name| format!("{at}/{name} is new")));
            }
            for (name, value) in part {
                let other = whole.get(name).unwrap_or(&Value::Null);
                changes(value, other, &format!("{at}/{name}"), changed);
            }
        }
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => {
            for (index, (value, other)) in part.iter().zip(whole).enumerate() {
                changes(value, other, &format!("{at}/{index}"), changed);
            }
        }
        (part, whole) if part == whole => {}
        (part, whole) => changed.push(format!("{at}: {part} has become {whole}")),
    }
}

#[test]
fn a_changed_document_is_noticed() {
    let whole = |type_: &str| serde_json::json!({"a": {"description": "A.", "properties": {"b": {"type": type_}}}});
    let part = serde_json::json!({"a": {"properties": {"b": {"type": "string"}}}});
    let differences = |part: &Value, whole: &Value| {
        let mut changed = Vec::new();
        changes(part, whole, "", &mut changed);
        changed.len()
    };
    assert_eq!(differences(&part, &whole("string")), 0);
    assert_eq!(differences(&part, &whole("integer")), 1);
    let less = serde_json::json!({"a": {"properties": {}}});
    assert_eq!(differences(&less, &whole("string")), 1);
}
