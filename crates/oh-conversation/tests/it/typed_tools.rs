//! Client tools with typed arguments, on the fake server.

use std::sync::{Arc, Mutex};

use oh_conversation::{ClientTool, Conversation, ErrorKind, RunStatus};
use oh_protocol::config::{Agent, Llm};
use oh_testkit::{FakeServer, Script, Step};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::refused::Place;

/// The arguments of a deployment.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
struct Deploy {
    branch: String,
    #[serde(default)]
    instances: u8,
    kind: Option<Kind>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Test,
    Live,
}

#[tokio::test]
async fn a_typed_tool_decodes_its_arguments_and_reports_invalid_ones_to_the_agent() {
    let script = Script::new()
        .step(
            Step::call("deploy", json!({"branch": "main", "kind": "live"}))
                .and_call("deploy", json!({"branch": "b", "kind": "lve"}))
                .and_call("deploy", json!({"branch": "b", "instances": -1}))
                .and_call("deploy", json!({"instances": 1}))
                .and_call("deploy", json!({"branch": "b", "other": 1})),
        )
        .forever(|s| s.text("Done."));
    let server = FakeServer::builder().script(script).start().await.unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let handled = calls.clone();
    let tool = ClientTool::typed::<Deploy>("deploy", "Deploys.", move |deploy, call| {
        let given = (call.id().to_owned(), deploy.clone());
        handled.lock().unwrap().push(given);
        async move { Ok(format!("{} is live", deploy.branch)) }
    });
    let place = Place(server.client().unwrap());
    let conversation = Conversation::builder(&place, Agent::new(Llm::new("m")))
        .client_tool(tool)
        .start()
        .await
        .unwrap();
    let id = conversation.id();
    conversation.send("Deploy.").await.unwrap();
    let run = conversation.run().await.unwrap();
    assert_eq!(run.status(), RunStatus::Finished);

    let log = server.conversation(id).unwrap().events();
    let of_kind = |kind: &'static str| log.iter().filter(move |event| event.kind() == kind);
    let calls = calls.lock().unwrap();
    let expected = Deploy {
        branch: "main".to_owned(),
        instances: 0,
        kind: Some(Kind::Live),
    };
    let first = of_kind("ActionEvent").next().unwrap();
    assert_eq!(*calls, [(first.id().to_owned(), expected)]);
    assert!(first.as_json().contains("ClientAction_deploy"));

    let mut results: Vec<_> = of_kind("MessageEvent")
        .map(|event| event.as_json().to_owned())
        .filter(|event| event.contains("[Result of the client tool `deploy`"))
        .collect();
    results.sort();
    assert_eq!(results.len(), 3, "{results:#?}");
    for reason in [
        "main is live",
        "It failed: invalid arguments: kind: unknown variant `lve`, expected `test` or `live`",
        "It failed: invalid arguments: instances: invalid value: integer `-1`, expected u8",
    ] {
        let with_reason = |result: &&String| result.contains(reason);
        assert_eq!(
            results.iter().filter(with_reason).count(),
            1,
            "{reason}: {results:#?}"
        );
    }
    // The server itself rejects a call without a required argument, or with an unknown one.
    assert_eq!(of_kind("AgentErrorEvent").count(), 2);
    let prompt = of_kind("SystemPromptEvent").next().unwrap();
    for words in [
        "\"client_tool_name\":\"deploy\"",
        "The arguments of a deployment.",
    ] {
        assert!(prompt.as_json().contains(words), "{}", prompt.as_json());
    }
}

#[tokio::test]
async fn arguments_that_the_server_can_never_accept_are_rejected_before_anything_is_sent() {
    let server = FakeServer::start().await.unwrap();
    let place = Place(server.client().unwrap());
    let tool = ClientTool::typed::<Kind>("deploy", "Deploys.", |_, _| async { Ok(()) });
    let error = Conversation::builder(&place, Agent::new(Llm::new("m")))
        .client_tool(tool)
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let message = error.to_string();
    assert!(
        message.starts_with("client_tools: `deploy`: the arguments must be a struct"),
        "{message}"
    );
    assert!(server.requests().is_empty());
}
