//! Tests of every script verb in both of OpenAI's formats, plain and streamed.

use std::time::{Duration, Instant};

use oh_testkit::{ErrorKind, Script, ScriptedModel, Step};
use serde_json::{Value, json};

use crate::support::{Raw, request_with};

#[derive(Debug, Clone, Copy)]
struct Way {
    responses: bool,
    stream: bool,
}

const WAYS: [Way; 4] = [
    Way {
        responses: false,
        stream: false,
    },
    Way {
        responses: false,
        stream: true,
    },
    Way {
        responses: true,
        stream: false,
    },
    Way {
        responses: true,
        stream: true,
    },
];

/// A decoded answer, in any format.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    /// Prompt, answer, cached and reasoning tokens.
    usage: [u64; 4],
}

impl Way {
    async fn ask(self, model: &ScriptedModel, words: &str, conversation: &str) -> Raw {
        let tool = json!({"type": "function", "function": {"name": "t"}, "name": "t"});
        let mut body = json!({"model": "scripted", "tools": [tool], "stream": self.stream});
        let path = match self.responses {
            true => {
                body["input"] = json!([{"role": "user", "content": words}]);
                "/v1/responses"
            }
            false => {
                body["messages"] = json!([{"role": "user", "content": words}]);
                body["stream_options"] = json!({"include_usage": true});
                "/v1/chat/completions"
            }
        };
        let head = format!("x-litellm-session-id: {conversation}\r\n");
        request_with(model.address(), "POST", path, &head, &body.to_string()).await
    }

    fn read(self, raw: &Raw) -> Said {
        assert!(raw.status == 200 && raw.whole, "{self:?} {raw:?}");
        let events: Vec<Value> = raw
            .body
            .split("\n\n")
            .filter_map(|event| event.split_once("data: "))
            .filter(|(_, data)| *data != "[DONE]")
            .map(|(_, data)| serde_json::from_str(data).unwrap())
            .collect();
        match (self.responses, self.stream) {
            (false, false) => chat(&raw.json()["choices"][0]["message"], &raw.json()["usage"]),
            (false, true) => deltas(&events),
            (true, false) => response(&raw.json()),
            (true, true) => response(&events.last().unwrap()["response"]),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn chat(message: &Value, usage: &Value) -> Said {
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    Said {
        text: text(&message["content"]),
        reasoning: text(&message["reasoning_content"]),
        calls: calls
            .map(|call| {
                (
                    text(&call["function"]["name"]),
                    text(&call["function"]["arguments"]),
                )
            })
            .collect(),
        usage: [
            usage["prompt_tokens"].as_u64().unwrap(),
            usage["completion_tokens"].as_u64().unwrap(),
            usage["prompt_tokens_details"]["cached_tokens"]
                .as_u64()
                .unwrap(),
            usage["completion_tokens_details"]["reasoning_tokens"]
                .as_u64()
                .unwrap(),
        ],
    }
}

/// Combines the pieces of a stream, like a client.
fn deltas(chunks: &[Value]) -> Said {
    let mut message = json!({"content": "", "reasoning_content": "", "tool_calls": []});
    for chunk in chunks {
        let delta = &chunk["choices"][0]["delta"];
        for field in ["content", "reasoning_content"] {
            message[field] = json!(text(&message[field]) + &text(&delta[field]));
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            let calls = message["tool_calls"].as_array_mut().unwrap();
            if index == calls.len() {
                calls.push(json!({"function": {"name": "", "arguments": ""}}));
            }
            for field in ["name", "arguments"] {
                let known = &mut calls[index]["function"][field];
                *known = json!(text(known) + &text(&call["function"][field]));
            }
        }
    }
    chat(&message, &chunks.last().unwrap()["usage"])
}

fn response(response: &Value) -> Said {
    let mut said = Said::default();
    for item in response["output"].as_array().unwrap() {
        match item["type"].as_str().unwrap() {
            "message" => said.text += &text(&item["content"][0]["text"]),
            "reasoning" => said.reasoning += &text(&item["summary"][0]["text"]),
            "function_call" => said
                .calls
                .push((text(&item["name"]), text(&item["arguments"]))),
            other => panic!("{other}"),
        }
    }
    let usage = &response["usage"];
    said.usage = [
        usage["input_tokens"].as_u64().unwrap(),
        usage["output_tokens"].as_u64().unwrap(),
        usage["input_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap(),
        usage["output_tokens_details"]["reasoning_tokens"]
            .as_u64()
            .unwrap(),
    ];
    said
}

/// Returns steps and the answers that a client decodes from them.
fn verbs() -> Vec<(Step, Said)> {
    let usage = [100, 20, 0, 0];
    let calls = |calls: &[(&str, &str)]| {
        let calls = calls
            .iter()
            .map(|(name, arguments)| (name.to_string(), arguments.to_string()));
        calls.collect::<Vec<_>>()
    };
    vec![
        (
            Step::text("Hello, wörld: a reply that is longer than one piece of a stream."),
            Said {
                text: "Hello, wörld: a reply that is longer than one piece of a stream.".into(),
                usage,
                ..Said::default()
            },
        ),
        (
            Step::call("t", json!({"a": 1})),
            Said {
                calls: calls(&[("t", r#"{"a":1}"#)]),
                usage,
                ..Said::default()
            },
        ),
        (
            Step::call("t", json!({"a": 1}))
                .and_call("u", json!({}))
                .and_call_raw("v", "{not json"),
            Said {
                calls: calls(&[("t", r#"{"a":1}"#), ("u", "{}"), ("v", "{not json")]),
                usage,
                ..Said::default()
            },
        ),
        (
            Step::finish("Done.").think("Was that all?").say("It was."),
            Said {
                text: "It was.".into(),
                reasoning: "Was that all?".into(),
                calls: calls(&[("finish", r#"{"message":"Done."}"#)]),
                usage,
            },
        ),
        (
            Step::text("Dear.")
                .usage(7, 3)
                .cached_tokens(5)
                .reasoning_tokens(2),
            Said {
                text: "Dear.".into(),
                usage: [7, 3, 5, 2],
                ..Said::default()
            },
        ),
        (
            Step::with(|request| Step::text(format!("You said {}.", request.last_text()))),
            Said {
                text: "You said go.".into(),
                usage,
                ..Said::default()
            },
        ),
    ]
}

#[tokio::test]
async fn a_text_is_the_same_in_every_way_of_scripting() {
    for way in WAYS {
        let steps = verbs()
            .into_iter()
            .fold(Script::new(), |script, (step, _)| script.step(step));
        let model = ScriptedModel::start(steps).await.unwrap();
        for (place, (_, expected)) in verbs().into_iter().enumerate() {
            let said = way.read(&way.ask(&model, "go", "").await);
            assert_eq!(said, expected, "{way:?}, verb {place}");
        }
        model.verify().unwrap();
    }
}

#[tokio::test]
async fn costs_delays_and_failures_work_in_every_way_of_scripting() {
    const DELAY: Duration = Duration::from_millis(60);
    for way in WAYS {
        let script = Script::new()
            .step(Step::text("a").cost(0.25))
            .step(Step::text("b").delay(DELAY))
            .step(Step::fail(429, "slow down").retry_after(Duration::from_secs(7)))
            .fail(503, "not now")
            .step(Step::text("c").drip(Duration::from_millis(10)));
        let model = ScriptedModel::start(script).await.unwrap();
        let dear = way.ask(&model, "go", "").await;
        assert!(
            dear.head.contains("x-litellm-response-cost: 0.25"),
            "{way:?} {dear:?}"
        );
        let begun = Instant::now();
        assert_eq!(way.read(&way.ask(&model, "go", "").await).text, "b");
        assert!(begun.elapsed() >= DELAY, "{way:?}");
        let limited = way.ask(&model, "go", "").await;
        assert_eq!(limited.status, 429, "{way:?}");
        assert!(
            limited.head.contains("retry-after: 7"),
            "{way:?} {limited:?}"
        );
        assert_eq!(limited.json()["error"]["message"], "slow down");
        assert_eq!(way.ask(&model, "go", "").await.status, 503);
        assert_eq!(way.read(&way.ask(&model, "go", "").await).text, "c");
        model.verify().unwrap();
    }
}

#[tokio::test]
async fn loops_work_in_every_way_of_scripting() {
    for way in WAYS {
        let script = Script::new()
            .repeat(2, |s| s.text("again"))
            .forever(|s| s.text("tick").text("tock"));
        let model = ScriptedModel::start(script).await.unwrap();
        let mut said = Vec::new();
        for _ in 0..6 {
            said.push(way.read(&way.ask(&model, "go", "").await).text);
        }
        assert_eq!(
            said,
            ["again", "again", "tick", "tock", "tick", "tock"],
            "{way:?}"
        );
        model.verify().unwrap();
    }
}

/// Checks that a report names the request, its conversation, the step and the problem.
#[tokio::test]
async fn contradictions_name_the_step_in_every_way() {
    for way in WAYS {
        let script = Script::new()
            .each_conversation()
            .step(Step::call("t", json!({"a": 1})).expect("please"))
            .step(Step::text("b").check(|request| {
                assert_eq!(request.tools(), ["nothing"]);
                Ok(())
            }));
        let model = ScriptedModel::start(script).await.unwrap();
        let impolite = way.ask(&model, "do it", "conversation-1").await;
        assert_eq!(
            impolite.status, 400,
            "{way:?}: a 5xx would be retried for minutes"
        );
        let message = text(&impolite.json()["error"]["message"]);
        assert_eq!(
            message,
            "request 1 of conversation \"conversation-1\" fails a check of step 1 of `script` \
             (call(t {\"a\":1})): the newest message should contain \"please\" but is \"do it\"",
        );
        let panicked = way.ask(&model, "please", "conversation-1").await;
        let message = text(&panicked.json()["error"]["message"]);
        assert!(
            message.contains(
                "fails a check of step 2 of `script` (text(\"b\")): the test's closure panicked: \
                 assertion"
            ),
            "{message}"
        );
        let dry = way.ask(&model, "please", "conversation-1").await;
        let message = text(&dry.json()["error"]["message"]);
        assert!(
            message.contains(
                "request 3 of conversation \"conversation-1\" found no step left in script `script`"
            ) && message.contains("2 step(s) were all played (last: text(\"b\"))"),
            "{message}"
        );
        let report = model.verify().unwrap_err();
        assert_eq!(report.kind(), ErrorKind::Unmet);
        assert_eq!(
            report.to_string().lines().count(),
            4 + message_lines(&panicked),
            "{report}"
        );
    }
}

/// Returns the number of extra lines from a panic message.
fn message_lines(raw: &Raw) -> usize {
    text(&raw.json()["error"]["message"]).lines().count() - 1
}

#[tokio::test]
async fn concurrent_conversations_with_equal_texts_have_separate_scripts() {
    const STEPS: usize = 4;
    let script = (0..STEPS).fold(Script::new().each_conversation(), |script, n| {
        let step = Step::with(move |request| {
            Step::text(format!("{n} for {}", request.conversation_id().unwrap()))
        });
        script.step(step.delay(Duration::from_millis(1)))
    });
    let model = ScriptedModel::start(script).await.unwrap();
    let conversation = async |name: usize| {
        let name = format!("conversation-{name}");
        for n in 0..STEPS {
            // Each request uses a different format, so neither format nor text distinguishes them.
            let way = WAYS[n % WAYS.len()];
            let said = way.read(&way.ask(&model, "the same words", &name).await);
            assert_eq!(said.text, format!("{n} for {name}"));
        }
    };
    futures_util::future::join_all((0..200).map(conversation)).await;
    assert_eq!(model.requests().len(), 200 * STEPS);
    let mine = |request: &oh_testkit::model::ModelRequest| {
        request.conversation_id() == Some("conversation-7")
    };
    assert_eq!(model.requests().into_iter().filter(mine).count(), STEPS);
    model.verify().unwrap();
}
