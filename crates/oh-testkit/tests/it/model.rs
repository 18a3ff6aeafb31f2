//! Tests of the scripted model over a real socket.

use std::time::Duration;

use crate::support::{Raw, request, request_with};
use oh_testkit::{ErrorKind, Script, ScriptedModel, Step, model::ModelRequest};
use serde_json::{Value, json};

async fn ask(model: &ScriptedModel, body: Value) -> Raw {
    request(
        model.address(),
        "POST",
        "/v1/chat/completions",
        &body.to_string(),
    )
    .await
}

fn chat(words: &str) -> Value {
    json!({
        "model": "scripted",
        "messages": [{"role": "user", "content": words}],
        "tools": [{"type": "function", "function": {"name": "terminal"}}],
    })
}

fn streamed(raw: &Raw) -> Vec<Value> {
    raw.body
        .split("\n\n")
        .filter_map(|event| event.split_once("data: "))
        .map(|(_, data)| data)
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test]
async fn the_model_plays_its_steps_in_order_and_logs_requests() {
    let model = ScriptedModel::start(
        Script::new()
            .step(
                Step::call("terminal", json!({"command": "ls"}))
                    .and_call("think", json!({"thought": "hm"}))
                    .say("Looking.")
                    .think("What is there?")
                    .usage(7, 3)
                    .cached_tokens(5)
                    .cost(0.25),
            )
            .text("Done."),
    )
    .await
    .unwrap();

    let first = ask(&model, chat("begin")).await;
    assert_eq!(first.status, 200);
    assert!(first.head.contains("x-litellm-response-cost: 0.25"));
    let first = first.json();
    let choice = &first["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "Looking.");
    assert_eq!(choice["message"]["reasoning_content"], "What is there?");
    let calls = &choice["message"]["tool_calls"];
    assert_eq!(calls[0]["function"]["arguments"], r#"{"command":"ls"}"#);
    assert_eq!(calls[1]["function"]["name"], "think");
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    assert_eq!(first["usage"]["total_tokens"], 10);
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 5);

    let half = model.verify().unwrap_err();
    assert_eq!(half.kind(), ErrorKind::Unmet);
    assert!(half.to_string().contains("stopped after 1 of 2 step(s)"));

    let second = ask(&model, chat("go on")).await.json();
    assert_eq!(second["choices"][0]["message"]["content"], "Done.");
    assert_eq!(second["choices"][0]["finish_reason"], "stop");
    model.verify().unwrap();

    let log = model.requests();
    assert_eq!(log.len(), 2);
    assert_eq!(log[0].last_text(), "begin");
    assert_eq!(log[1].tools(), ["terminal"]);
}

#[tokio::test]
async fn a_stream_joins_to_the_plain_response() {
    let long = "héllo wörld ".repeat(20);
    let step = Step::call("terminal", json!({"command": long.clone()}))
        .say(long.clone())
        .think("Slowly now, piece by piece.");
    let model = ScriptedModel::start(Script::new().step(step))
        .await
        .unwrap();
    let mut body = chat("stream");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let raw = ask(&model, body).await;
    assert!(
        raw.whole && raw.body.ends_with("data: [DONE]\n\n"),
        "{raw:?}"
    );
    let chunks = streamed(&raw);
    let join = |pointer: &str| -> String {
        chunks
            .iter()
            .filter_map(|chunk| chunk.pointer(pointer)?.as_str())
            .collect()
    };
    assert!(chunks.len() > 20, "{} chunks", chunks.len());
    assert_eq!(join("/choices/0/delta/content"), long);
    assert_eq!(
        join("/choices/0/delta/reasoning_content"),
        "Slowly now, piece by piece."
    );
    let arguments = join("/choices/0/delta/tool_calls/0/function/arguments");
    assert_eq!(arguments, json!({"command": long}).to_string());
    assert_eq!(
        join("/choices/0/delta/tool_calls/0/function/name"),
        "terminal"
    );
    assert_eq!(join("/choices/0/finish_reason"), "tool_calls");
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 120);
}

#[tokio::test]
async fn the_responses_api_streams_typed_events_and_the_plain_response() {
    let script = Script::new().repeat(2, |s| {
        s.step(
            Step::call("terminal", json!({"command": "ls -la /somewhere/far/away"}))
                .say("Let me look around first, then.")
                .think("Where am I?"),
        )
    });
    let model = ScriptedModel::start(script).await.unwrap();
    let mut body = json!({"model": "scripted", "input": "go", "instructions": "Be brief."});
    let send = |body: Value| {
        let body = body.to_string();
        let address = model.address();
        async move { request(address, "POST", "/v1/responses", &body).await }
    };
    let plain = send(body.clone()).await.json();
    let kinds = |output: &Value| -> Vec<String> {
        let output = output.as_array().unwrap();
        let kinds = output.iter().map(|item| item["type"].as_str().unwrap());
        kinds.map(str::to_owned).collect()
    };
    assert_eq!(
        kinds(&plain["output"]),
        ["reasoning", "message", "function_call"]
    );
    body["stream"] = json!(true);
    let events = streamed(&send(body).await);
    let numbers: Vec<_> = events
        .iter()
        .map(|event| event["sequence_number"].as_u64())
        .collect();
    assert_eq!(
        numbers,
        (0..events.len() as u64).map(Some).collect::<Vec<_>>()
    );
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(kinds(&last["response"]["output"]), kinds(&plain["output"]));
    let joined = |kind: &str| -> String {
        events
            .iter()
            .filter(|event| event["type"] == kind)
            .filter_map(|event| event["delta"].as_str())
            .collect()
    };
    let output = &last["response"]["output"];
    assert_eq!(
        joined("response.function_call_arguments.delta"),
        output[2]["arguments"].as_str().unwrap()
    );
    assert_eq!(
        joined("response.output_text.delta"),
        output[1]["content"][0]["text"].as_str().unwrap()
    );
    assert_eq!(model.requests()[0].last_text(), "go");
}

#[tokio::test]
async fn an_exhausted_script_is_reported_to_both_sides() {
    let model = ScriptedModel::start(Script::new().text("once"))
        .await
        .unwrap();
    assert_eq!(ask(&model, chat("a")).await.status, 200);
    let dry = ask(&model, chat("b")).await;
    assert_eq!(dry.status, 400, "a 5xx would be retried for minutes");
    let message = dry.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("request 2 found no step left in script `script`"),
        "{message}"
    );
    let report = model.verify().unwrap_err().to_string();
    assert!(report.contains(&message), "{report}");
}

#[tokio::test]
async fn a_failing_check_fails_the_request_and_the_verdict() {
    let model = ScriptedModel::start(Script::new().step(Step::text("ok").expect("please")))
        .await
        .unwrap();
    let refused = ask(&model, chat("do it")).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("fails a check of step 1"),
        "{}",
        refused.body
    );
    assert!(model.verify().is_err());

    let model = ScriptedModel::start(Script::new().step(Step::text("ok").expect("please")))
        .await
        .unwrap();
    assert_eq!(ask(&model, chat("please do it")).await.status, 200);
    model.verify().unwrap();
}

#[tokio::test]
async fn failures_carry_status_message_and_retry_after() {
    let model = ScriptedModel::start(
        Script::new()
            .step(Step::fail(429, "slow down").retry_after(Duration::from_secs(7)))
            .fail(401, "who are you?"),
    )
    .await
    .unwrap();
    let limited = ask(&model, chat("a")).await;
    assert_eq!(limited.status, 429);
    assert!(limited.head.contains("retry-after: 7"), "{}", limited.head);
    assert_eq!(limited.json()["error"]["message"], "slow down");
    assert_eq!(ask(&model, chat("a")).await.status, 401);
    model.verify().unwrap();
}

#[tokio::test]
async fn a_response_can_be_cut_plain_and_streaming() {
    let model = ScriptedModel::start(
        Script::new()
            .step(Step::text("never").cut_after(0))
            .step(Step::text("some of it, but not all of it").cut_after(2)),
    )
    .await
    .unwrap();
    let plain = ask(&model, chat("a")).await;
    assert!(!plain.whole && plain.body.is_empty(), "{plain:?}");
    let mut body = chat("b");
    body["stream"] = json!(true);
    let cut = ask(&model, body).await;
    assert!(!cut.whole, "{cut:?}");
    assert!(streamed(&cut).len() <= 2, "{cut:?}");
}

#[tokio::test]
async fn titles_and_other_models_have_separate_tracks() {
    let model = ScriptedModel::builder()
        .script(Script::new().text("main"))
        .model("critic", Script::new().text("seven of ten"))
        .start()
        .await
        .unwrap();
    let title = json!({"model": "scripted", "messages": [
        {"role": "system", "content": "You generate concise titles."},
        {"role": "user", "content": "main work"},
    ]});
    for _ in 0..3 {
        let answer = ask(&model, title.clone()).await.json();
        assert_eq!(
            answer["choices"][0]["message"]["content"],
            ScriptedModel::TITLE
        );
    }
    let mut critic = chat("judge");
    critic["model"] = json!("critic");
    let critic = ask(&model, critic).await.json();
    assert_eq!(critic["choices"][0]["message"]["content"], "seven of ten");
    let main = ask(&model, chat("work")).await.json();
    assert_eq!(main["choices"][0]["message"]["content"], "main");
    model.verify().unwrap();
}

#[tokio::test]
async fn interleaved_conversations_have_separate_scripts() {
    let step = |n: usize| {
        Step::with(move |request: &ModelRequest| {
            Step::text(format!("{n} for {}", request.first_text("user").unwrap()))
        })
    };
    let mut script = Script::new().each_conversation();
    for n in 0..5 {
        script = script.step(step(n).delay(Duration::from_millis(1)));
    }
    let model = ScriptedModel::start(script).await.unwrap();
    let conversation = async |name: usize| {
        for n in 0..5 {
            let mut body = chat(&format!("conversation {name}"));
            // The conversation grows, but its first message stays the same.
            let messages = body["messages"].as_array_mut().unwrap();
            messages.extend((0..n).map(|_| json!({"role": "assistant", "content": "…"})));
            let answer = ask(&model, body).await.json();
            assert_eq!(
                answer["choices"][0]["message"]["content"],
                format!("{n} for conversation {name}")
            );
        }
    };
    futures_util::future::join_all((0..20).map(conversation)).await;
    assert_eq!(model.requests().len(), 100);
    model.verify().unwrap();
}

#[tokio::test]
async fn a_loop_never_ends() {
    let model = ScriptedModel::start(
        Script::new()
            .text("first")
            .forever(|s| s.text("tick").text("tock")),
    )
    .await
    .unwrap();
    let mut said = Vec::new();
    for _ in 0..5 {
        let answer = ask(&model, chat("x")).await.json();
        let text = &answer["choices"][0]["message"]["content"];
        said.push(text.as_str().unwrap().to_owned());
    }
    assert_eq!(said, ["first", "tick", "tock", "tick", "tock"]);
    model.verify().unwrap();
}

#[tokio::test]
async fn unsupported_requests_are_rejected_and_reported() {
    let model = ScriptedModel::start(Script::new()).await.unwrap();
    let address = model.address();
    assert_eq!(request(address, "GET", "/v1/models", "").await.status, 200);
    model.verify().unwrap();
    assert_eq!(
        request(address, "POST", "/v1/embeddings", "{}")
            .await
            .status,
        404
    );
    assert_eq!(
        request(address, "POST", "/v1/chat/completions", "nonsense")
            .await
            .status,
        400
    );
    let report = model.verify().unwrap_err().to_string();
    assert!(
        report.contains("POST /v1/embeddings") && report.contains("not JSON"),
        "{report}"
    );
}

#[tokio::test]
async fn keys_are_in_no_log_but_can_be_queried() {
    let model = ScriptedModel::start(Script::new().text("ok"))
        .await
        .unwrap();
    let body = chat("hush").to_string();
    let key = "Authorization: Bearer canary-key\r\n";
    request_with(model.address(), "POST", "/v1/chat/completions", key, &body).await;
    let log = model.requests();
    assert_eq!(log[0].header("authorization"), Some("Bearer canary-key"));
    let shown = format!("{log:?} {model:?}");
    assert!(
        !shown.contains("canary") && !shown.contains("hush"),
        "{shown}"
    );
}

#[tokio::test]
async fn dropping_the_model_closes_the_port_and_open_responses() {
    let slow = Step::text("a long tale").drip(Duration::from_secs(3600));
    let model = ScriptedModel::start(Script::new().step(slow))
        .await
        .unwrap();
    let address = model.address();
    let mut body = chat("x");
    body["stream"] = json!(true);
    let body = body.to_string();
    let reading =
        tokio::spawn(async move { request(address, "POST", "/v1/chat/completions", &body).await });
    while model.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(model);
    let cut = tokio::time::timeout(Duration::from_secs(10), reading).await;
    assert!(!cut.unwrap().unwrap().whole);
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}
