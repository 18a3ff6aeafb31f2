//! What a conversation can be asked for besides running, each on the real server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, time::Duration};

use openhands::{
    Agent, Conversation, Event, Payload, RunOutcome, WorkspaceExt,
    conversation::ErrorKind,
    protocol::{
        calls::conversations::Isolation,
        config::{ConfirmationPolicy, Llm, SecretSource},
    },
    testkit::{Script, ScriptedModel, Step},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(120);

fn llm(model: &ScriptedModel) -> Llm {
    Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1)
}

fn agent(model: &ScriptedModel) -> Agent {
    Agent::default_preset(llm(model)).cli_mode(true)
}

async fn model(script: Script) -> ScriptedModel {
    ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap()
}

async fn finishes(conversation: &Conversation) {
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
}

fn messages(events: &[Event]) -> Vec<String> {
    let texts = events.iter().filter_map(|event| match event.payload() {
        Payload::Message(body) => Some(body.llm_message.text()),
        _ => None,
    });
    texts.collect()
}

// One server for all of them: it takes its time to start.
#[tokio::test]
async fn every_operation_does_what_it_says() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    branches_and_forks(&server).await;
    policies_and_pending_actions(&server).await;
    secrets_tags_titles_and_models(&server).await;
    condensing(&server).await;
    goals(&server).await;
    children(&server).await;
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}

async fn branches_and_forks(server: &openhands::LocalServer) {
    let model = model(Script::new().forever(|s| s.text("An answer."))).await;
    let workspace = server.workspace(server.workspace_dir());
    let conversation = Conversation::builder(&workspace, agent(&model))
        .start()
        .await
        .unwrap();
    conversation.send("First.").await.unwrap();
    finishes(&conversation).await;
    let head = conversation.branch().last().unwrap().clone();
    conversation.send("Second.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(conversation.final_response().await.unwrap(), "An answer.");
    assert_eq!(
        messages(&conversation.branch()),
        ["First.", "An answer.", "Second.", "An answer."]
    );

    conversation.navigate(head.id()).await.unwrap();
    conversation.send("Third.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(
        messages(&conversation.branch()),
        ["First.", "An answer.", "Third.", "An answer."]
    );
    // What was left is still in the log.
    assert!(messages(&Vec::from_iter(conversation.events())).contains(&"Second.".to_owned()));

    let fork = conversation
        .fork()
        .title("A copy")
        .from_event(head.id())
        .await
        .unwrap();
    assert_ne!(fork.id(), conversation.id());
    assert_eq!(messages(&fork.branch()), ["First.", "An answer."]);
    assert_eq!(fork.info().await.unwrap().title().unwrap(), "A copy");
    let error = conversation.fork().id(fork.id()).await.unwrap_err();
    assert!(error.to_string().contains("fork"), "{error}");
    let error = conversation.navigate("no-such-event").await.unwrap_err();
    assert!(error.to_string().contains("navigate"), "{error}");

    conversation.navigate_to_start().await.unwrap();
    conversation.send("Again.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(messages(&conversation.branch()), ["Again.", "An answer."]);
    fork.close().await.unwrap();
    conversation.close().await.unwrap();
}

async fn policies_and_pending_actions(server: &openhands::LocalServer) {
    let script = Script::new()
        .step(
            Step::call("terminal", json!({"command": "echo no"}))
                .and_call("think", json!({"thought": "hm"})),
        )
        .call("terminal", json!({"command": "echo yes"}))
        .forever(|s| s.finish("Done."));
    let model = model(script).await;
    let workspace = server.workspace(server.workspace_dir());
    let conversation = Conversation::builder(&workspace, agent(&model))
        .start()
        .await
        .unwrap();
    conversation
        .set_confirmation_policy(ConfirmationPolicy::always())
        .await
        .unwrap();
    conversation.send("Go.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(
        matches!(outcome, RunOutcome::WaitingForConfirmation(_)),
        "{outcome}"
    );
    let tools: Vec<String> = conversation
        .pending_actions()
        .iter()
        .filter_map(|event| match event.payload() {
            Payload::Action(body) => Some(body.tool_name.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(tools, ["terminal", "think"]);
    let error = conversation.send("And?").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation);
    conversation.reject("Not that.").await.unwrap();
    assert!(conversation.pending_actions().is_empty());
    // A fork does not inherit the policy on the server: this handle sets it again.
    let fork = conversation.fork().llm(llm(&model)).await.unwrap();
    fork.send("Go.").await.unwrap();
    let outcome = timeout(LONG, fork.run()).await.unwrap().unwrap();
    assert!(
        matches!(outcome, RunOutcome::WaitingForConfirmation(_)),
        "{outcome}"
    );
    fork.reject("Enough.").await.unwrap();
    fork.close().await.unwrap();
    conversation
        .set_confirmation_policy(ConfirmationPolicy::never())
        .await
        .unwrap();
    finishes(&conversation).await;
    conversation.close().await.unwrap();
}

async fn secrets_tags_titles_and_models(server: &openhands::LocalServer) {
    let script = Script::new()
        .call("terminal", json!({"command": "echo [$TOKEN]"}))
        .forever(|s| s.finish("Done."));
    let first = model(script).await;
    let second = model(Script::new().forever(|s| s.text("The other model."))).await;
    let workspace = server.workspace(server.workspace_dir());
    let asked_for = [("run", "7"), ("team", "from outside")];
    let conversation = Conversation::builder(&workspace, agent(&first))
        .tags(asked_for)
        .tag("team", "mine")
        .start()
        .await
        .unwrap();
    conversation
        .set_secrets([("TOKEN", "canary-value")])
        .await
        .unwrap();
    let error = conversation
        .set_secret_sources([("1TOKEN", SecretSource::fixed("x"))])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("1TOKEN") || format!("{error:?}").contains("1TOKEN"));
    conversation.send("Use it.").await.unwrap();
    finishes(&conversation).await;
    let seen = conversation
        .events()
        .iter()
        .any(|event| event.as_json().contains("canary-value"));
    assert!(!seen, "the value of a secret is masked in what is logged");
    let ran = conversation
        .events()
        .iter()
        .any(|event| match event.payload() {
            Payload::Observation(body) => {
                body.tool_name == "terminal" && body.text().contains("[<secret-hidden>]")
            }
            _ => false,
        });
    assert!(ran, "the command had the secret");

    let tags = conversation.state().get("tags").map(ToString::to_string);
    assert_eq!(tags.as_deref(), Some(r#"{"run":"7","team":"mine"}"#));
    conversation
        .set_tags(&BTreeMap::from([("team".into(), "tools".into())]))
        .await
        .unwrap();
    conversation.set_title("A title").await.unwrap();
    let info = conversation.info().await.unwrap();
    assert_eq!(info.title().unwrap(), "A title");
    assert_eq!(
        info.state().get("tags").unwrap().as_str(),
        r#"{"team":"tools"}"#
    );

    conversation.switch_llm(llm(&second)).await.unwrap();
    conversation.send("Who are you?").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(
        conversation.final_response().await.unwrap(),
        "The other model."
    );
    assert_eq!(
        conversation.ask_agent("And?").await.unwrap(),
        "The other model."
    );
    for error in [
        conversation
            .switch_profile("no-such-profile")
            .await
            .unwrap_err(),
        conversation.switch_acp_model("x").await.unwrap_err(),
        conversation
            .load_plugin("no-such-plugin")
            .await
            .unwrap_err(),
        conversation.set_title("").await.unwrap_err(),
    ] {
        assert!(
            error.conversation_id() == Some(conversation.id()),
            "{error}"
        );
    }
    conversation.set_security_analyzer(None).await.unwrap();
    conversation.close().await.unwrap();
}

async fn condensing(server: &openhands::LocalServer) {
    let model = model(Script::new().forever(|s| s.text("A summary, or an answer."))).await;
    let workspace = server.workspace(server.workspace_dir());
    let conversation = Conversation::builder(&workspace, agent(&model))
        .start()
        .await
        .unwrap();
    for n in 0..5 {
        conversation.send(format!("Message {n}.")).await.unwrap();
        finishes(&conversation).await;
    }
    conversation.condense().await.unwrap();
    let condensed = async {
        while conversation
            .events()
            .of_kind("Condensation")
            .next()
            .is_none()
        {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, condensed).await.unwrap();
    conversation.close().await.unwrap();
    // An agent without a condenser cannot.
    let plain = Conversation::builder(&workspace, Agent::new(llm(&model)))
        .start()
        .await
        .unwrap();
    plain.send("Hello.").await.unwrap();
    finishes(&plain).await;
    assert!(plain.condense().await.is_err());
    plain.close().await.unwrap();
}

async fn goals(server: &openhands::LocalServer) {
    let model = model(
        Script::new().forever(|s| s.text(r#"{"done": true, "score": 1.0, "complete": true}"#)),
    )
    .await;
    let workspace = server.workspace(server.workspace_dir());
    let conversation = Conversation::builder(&workspace, agent(&model))
        .start()
        .await
        .unwrap();
    assert!(conversation.start_goal(" ", |goal| goal).await.is_err());
    conversation
        .start_goal("Say something.", |goal| goal.max_iterations(1))
        .await
        .unwrap();
    let ended = async {
        while conversation
            .info()
            .await
            .unwrap()
            .execution_status()
            .is_running()
            || conversation.events().of_kind("MessageEvent").count() < 2
        {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONG, ended).await.unwrap();
    conversation.stop_goal().await.unwrap();
    conversation.close().await.unwrap();
}

async fn children(server: &openhands::LocalServer) {
    let model = model(Script::new().forever(|s| s.text("Done."))).await;
    let workspace = server.workspace(server.workspace_dir());
    let conversation = Conversation::builder(&workspace, agent(&model))
        .start()
        .await
        .unwrap();
    let child = conversation
        .start_child("Count to three.", |child| {
            child.isolation(Isolation::Shared)
        })
        .await
        .unwrap();
    assert_eq!(child.parent_conversation_id, conversation.id());
    let attached = Conversation::attach(server.client(), child.conversation_id)
        .await
        .unwrap();
    let ended = async {
        while attached.events().of_kind("MessageEvent").count() < 2 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, ended).await.unwrap();
    attached.close().await.unwrap();
    conversation.close().await.unwrap();
}
