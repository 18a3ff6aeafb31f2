//! Settings that the server loses when it reloads a conversation.

use std::{process::Command, time::Duration};

use openhands::{
    Conversation, RunStatus,
    process::{LocalServerBuilder, RestartPolicy, Status},
    protocol::config::{ConfirmationPolicy, SecurityAnalyzer},
    testkit::Script,
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{LONG, approves, finishes, model, outcome, started};

#[tokio::test]
async fn settings_of_the_program_survive_a_restart_of_the_server() {
    let home = openhands_tests::home();
    holds_over_a_restart(openhands_tests::server(&home)).await;
}

#[tokio::test]
async fn settings_survive_a_restart_before_the_session_socket() {
    let home = openhands_tests::home();
    holds_over_a_restart(openhands_tests::server_before(&home)).await;
}

async fn holds_over_a_restart(server: LocalServerBuilder) {
    let server = server
        .restart(RestartPolicy::on_failure(3))
        .start()
        .await
        .unwrap();
    let script = Script::new().repeat(2, |s| {
        s.call(
            "terminal",
            json!({"command": "echo asked", "security_risk": "LOW"}),
        )
        .finish("Done.")
    });
    let model = model(script).await;
    let conversation = started(&server, &model).await;
    conversation
        .approvals()
        .set_policy(ConfirmationPolicy::always())
        .await
        .unwrap();
    let analyzer = SecurityAnalyzer::llm();
    conversation
        .settings()
        .set_security_analyzer(Some(analyzer))
        .await
        .unwrap();
    conversation
        .secrets()
        .set([("TOKEN", "canary")])
        .await
        .unwrap();
    conversation.send("Ask me.").await.unwrap();
    let ended = outcome(&conversation).await;
    assert_eq!(ended.status(), RunStatus::WaitingForConfirmation, "{ended}");
    approves(&conversation).await;
    finishes(&conversation).await;

    let pid = server.pid();
    assert!(
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
    let mut status = server.status();
    let back = status.wait_for(|status| *status == Status::Ready && server.pid() != pid);
    timeout(LONG, back).await.unwrap().unwrap();
    // Another handle, which has set nothing, shows the server's current settings.
    let reported = async {
        loop {
            if let Ok(other) = Conversation::attach(server.client(), conversation.id()).await {
                let state = other.state();
                let kind = |field: &str| {
                    let kind = state.get(field).and_then(|it| it.get("kind")?.as_text());
                    kind.unwrap_or_default().to_string()
                };
                other.close().await.unwrap();
                if kind("confirmation_policy") == "AlwaysConfirm"
                    && kind("security_analyzer") == "LLMSecurityAnalyzer"
                {
                    break;
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(LONG, reported).await.unwrap();
    conversation.send("Ask me again.").await.unwrap();
    let ended = outcome(&conversation).await;
    assert_eq!(ended.status(), RunStatus::WaitingForConfirmation, "{ended}");
    approves(&conversation).await;
    finishes(&conversation).await;
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}
