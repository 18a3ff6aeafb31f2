//! The kit in its other places: behind the real server as its model, before it as a proxy, and
//! across a kill.

use openhands::testkit::{Fault, Link, Proxy};
use serde_json::{Value, json};

use crate::side::{Side, next, story};

/// What happened, kind by kind.
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

/// A model that LiteLLM asks by `/responses`, plain and streaming.
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
        // Not the cost: this model has a price of its own, and a streamed answer loses the header.
        side.note(format!(
            "stream={stream} in={} out={} cached={}",
            tokens["prompt_tokens"], tokens["completion_tokens"], tokens["cache_read_tokens"]
        ));
        side.check("GET", &format!("{path}/agent_final_response"), Value::Null)
            .await;
    }
}

/// Conversations with the same words at the same time, each with the script to itself.
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

/// A proxy before the server cuts the connection, to the byte; the cursor mends it.
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
    // Each link carries a little more than the one before, and breaks within a frame.
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

    // And with faults of messages: what the server said arrives, or what the proxy says instead.
    let faulty = Proxy::start(address).await.unwrap();
    faulty.inject(Fault::status(503).retry_after(7).on("/count").times(1));
    faulty.inject(Fault::html(502).on("/count").after(1).times(1));
    faulty.inject(Fault::duplicate().after(2).times(1));
    faulty.inject(Fault::gap().after(5).times(1));
    faulty.inject(Fault::close(1013, "slow_consumer").after(10).times(1));
    let head = format!("X-Session-API-Key: {}\r\n", side.key);
    let count = format!("/api/conversations/{id}/events/count");
    for _ in 0..3 {
        let answer = crate::raw::ask(&faulty.url(), "GET", &count, &head, b"").await;
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

/// Before the server is killed: a tool at work, and a policy set since.
pub(crate) async fn before_a_kill(side: &mut Side) -> String {
    let id = side.create(Value::Null).await;
    side.say(&id, "sleep", true).await;
    side.logged(&id, "ActionEvent", 1).await;
    side.settled(&id).await;
    id
}

/// After it: what was kept, what was said of the tool, and on it goes.
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

/// A policy or analyzer set while a conversation lives is forgotten with the process.
pub(crate) async fn policies(side: &mut Side, id: &str) {
    let (_, info) = side
        .ask("GET", &format!("/api/conversations/{id}"), Value::Null)
        .await;
    side.note(format!(
        "{} {} {}",
        info["execution_status"], info["confirmation_policy"], info["security_analyzer"]
    ));
    // Looked at only, it is as it was left; used, it is as it was made.
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

/// The fake knows each path of the real server, and the methods it has there.
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
        let answer = crate::raw::ask(&fake.url, "TRACE", &target.join("/"), &head, b"").await;
        // More is allowed where the path fits a pattern, too: `count` could be an id.
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
