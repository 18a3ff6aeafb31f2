//! Tests of approvals on the fake server: which actions need one, which are executed, and with what
//! permission.

use std::time::Duration;

use oh_protocol::{
    calls::{conversations, events},
    event::SecurityRisk,
};
use oh_testkit::{
    FakeConversation, FakeServer, Script, Step,
    fake::{Observation, Permission},
};
use oh_transport::{Client, Message};
use serde_json::{Value, json};

use crate::fake::{client, create, rest};

async fn waits(conversation: &FakeConversation) {
    conversation.idle().await;
    assert_eq!(conversation.status(), "waiting_for_confirmation");
}

/// Returns the executed command lines with their permissions.
fn commands(server: &FakeServer) -> Vec<(String, Permission)> {
    let executed = server.executed().into_iter();
    let commands = executed.filter_map(|action| {
        let command = action.command()?.to_owned();
        Some((command, action.permission))
    });
    commands.collect()
}

fn call(command: &str) -> Step {
    Step::call("terminal", json!({"command": command}))
}

async fn risky(script: Script, more: Value) -> (FakeServer, FakeConversation) {
    let server = FakeServer::builder().script(script).start().await.unwrap();
    let id = create(&server, more).await;
    let conversation = server.conversation(id).unwrap();
    conversation.say("go");
    (server, conversation)
}

#[tokio::test]
async fn an_unknown_risk_waits_for_approval_under_confirm_risky() {
    let policy = json!({"confirmation_policy": {"kind": "ConfirmRisky"}});
    let script = Script::new().step(call("make")).finish("Done.");
    let (server, conversation) = risky(script, policy).await;
    waits(&conversation).await;
    assert_eq!(commands(&server), []);
    assert_eq!(conversation.pending().len(), 1);
    server.verify().unwrap_err();
}

#[tokio::test]
async fn the_models_claim_counts_only_with_an_analyzer() {
    let risk = |risk: &str| json!({"command": risk, "security_risk": risk});
    let policy = json!({"kind": "ConfirmRisky", "threshold": "MEDIUM", "confirm_unknown": false});
    let script = || {
        Script::new()
            .call("terminal", risk("LOW"))
            .call("terminal", risk("HIGH"))
            .finish("Done.")
    };
    // Without an analyzer, the claimed risk is ignored.
    let (server, conversation) =
        risky(script(), json!({"confirmation_policy": policy.clone()})).await;
    conversation.idle().await;
    assert_eq!(conversation.status(), "finished");
    assert!(
        commands(&server)
            .iter()
            .all(|(_, by)| *by == Permission::NotAsked)
    );

    let analyzer = json!({"kind": "LLMSecurityAnalyzer"});
    let more = json!({"confirmation_policy": policy, "security_analyzer": analyzer});
    let (server, conversation) = risky(script(), more).await;
    waits(&conversation).await;
    assert_eq!(
        commands(&server),
        [("LOW".to_owned(), Permission::NotAsked)]
    );
    let events = conversation.events();
    let verdicts = events
        .iter()
        .filter(|e| e.kind() == "SecurityAnalysisEvent");
    assert_eq!(verdicts.count(), 2);
}

#[tokio::test]
async fn another_analyzer_is_a_closure_or_is_reported() {
    let more = json!({
        "confirmation_policy": {"kind": "ConfirmRisky"},
        "security_analyzer": {"kind": "PatternSecurityAnalyzer"},
    });
    let script = || Script::new().step(call("rm -rf /")).step(call("ls"));
    let server = FakeServer::builder()
        .script(script())
        .analyzer(|action| {
            assert_eq!(action.analyzer, "PatternSecurityAnalyzer");
            match action.arguments["command"] == "ls" {
                true => SecurityRisk::Low,
                false => SecurityRisk::High,
            }
        })
        .start()
        .await
        .unwrap();
    let conversation = server
        .conversation(create(&server, more.clone()).await)
        .unwrap();
    conversation.say("go");
    waits(&conversation).await;
    conversation.say("yes");
    conversation.idle().await;
    assert_eq!(
        commands(&server),
        [
            ("rm -rf /".to_owned(), Permission::Test),
            ("ls".to_owned(), Permission::NotAsked)
        ]
    );

    let (server, conversation) = risky(script(), more).await;
    waits(&conversation).await;
    let missing = server.verify().unwrap_err().to_string();
    assert!(
        missing.contains("cannot play the PatternSecurityAnalyzer"),
        "{missing}"
    );
}

/// Checks that each way to allow a waiting action is recorded differently.
#[tokio::test]
async fn an_executed_action_names_its_permission() {
    let script = Script::new()
        .step(call("by run"))
        .step(call("by response"))
        .step(call("by message"))
        .step(call("by socket"))
        .step(call("by test"))
        .finish("Done.");
    let policy = json!({"confirmation_policy": {"kind": "AlwaysConfirm"}});
    let (server, conversation) = risky(script, policy).await;
    let client: Client = client(&server);
    let id = conversation.id();
    waits(&conversation).await;
    let first = conversation.pending();
    client.call(&conversations::Run::new(id)).await.unwrap();
    waits(&conversation).await;
    let answer = format!("/api/conversations/{id}/events/respond_to_confirmation");
    let answered = rest(&server, "POST", &answer, json!({"accept": true})).await;
    assert_eq!(answered.status, 200);
    waits(&conversation).await;
    let said = events::SendMessage::new(id, vec!["go on".into()]).run(true);
    client.call(&said).await.unwrap();
    waits(&conversation).await;
    let socket = client
        .socket(format!("/sockets/session/{id}"))
        .await
        .unwrap();
    let said = r#"{"role":"user","content":"and on"}"#;
    socket.send(Message::Text(said.into())).await.unwrap();
    while commands(&server).len() < 4 {
        tokio::task::yield_now().await;
    }
    waits(&conversation).await;
    conversation.say("and on");
    conversation.idle().await;
    let by = commands(&server);
    let by: Vec<_> = by.iter().map(|(line, by)| (line.as_str(), *by)).collect();
    assert_eq!(
        by,
        [
            ("by run", Permission::Run),
            ("by response", Permission::Response),
            ("by message", Permission::Message),
            ("by socket", Permission::Socket),
            ("by test", Permission::Test),
        ]
    );
    assert_eq!(server.executed()[0].action_id, first[0]);
    assert_eq!(server.executed(), conversation.executed());
    server.verify().unwrap();
}

/// Checks that state changes wait for a running tool, as on the agent server.
#[tokio::test(start_paused = true)]
async fn a_message_waits_for_the_tool_and_precedes_the_next_step() {
    let tool = |_: &Value| Observation::text("").after(Duration::from_secs(60));
    let server = FakeServer::builder()
        .script(
            Script::new()
                .step(call("sleep"))
                .step(Step::finish("Done.").expect("rather not")),
        )
        .tool("terminal", tool)
        .start()
        .await
        .unwrap();
    let id = create(&server, Value::Null).await;
    let conversation = server.conversation(&id).unwrap();
    conversation.say("go");
    while server.executed().is_empty() {
        tokio::task::yield_now().await;
    }
    let client: Client = client(&server);
    let said = events::SendMessage::new(conversation.id(), vec!["rather not".into()]).run(true);
    client.call(&said).await.unwrap();
    conversation.idle().await;
    let events = conversation.events();
    let kinds = events.iter().map(|event| event.kind());
    let reported = ["MessageEvent", "ActionEvent", "ObservationEvent"];
    let kinds: Vec<_> = kinds.filter(|kind| reported.contains(kind)).collect();
    let [said, acted, observed] = reported;
    assert_eq!(kinds, [said, acted, observed, said, acted, observed]);
    server.verify().unwrap();
}

/// Checks that navigating to an action makes it wait again, and that the branch left does not
/// count.
#[tokio::test]
async fn only_the_active_branch_waits() {
    let policy = json!({"confirmation_policy": {"kind": "AlwaysConfirm"}});
    let script = Script::new().step(call("once")).finish("Done.");
    let (server, conversation) = risky(script, policy).await;
    waits(&conversation).await;
    let pending = conversation.pending();
    let before = conversation.events();
    let message = before.iter().find(|e| e.kind() == "MessageEvent").unwrap();
    let path = format!("/api/conversations/{}/navigate", conversation.id());
    let go = async |event: &str| {
        let went = rest(&server, "POST", &path, json!({"event_id": event})).await;
        assert_eq!(went.status, 200, "{went:?}");
    };
    go(message.id()).await;
    assert_eq!(conversation.pending(), Vec::<String>::new());
    go(&pending[0]).await;
    assert_eq!(conversation.pending(), pending);
    conversation.say("yes");
    conversation.idle().await;
    assert_eq!(commands(&server), [("once".to_owned(), Permission::Test)]);
    assert_eq!(conversation.pending(), Vec::<String>::new());
}
