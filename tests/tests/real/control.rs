//! Control of conversations without following them, on the real server.

use std::time::Duration;

use openhands::{
    Agent, ConversationId, LocalServer,
    control::{Control, ErrorKind, RunStart},
    protocol::{
        ExecutionStatus,
        config::{Llm, StartConversation},
    },
    testkit::{Script, ScriptedModel},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(120);

fn start(server: &LocalServer, model: &ScriptedModel) -> StartConversation {
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1);
    let agent = Agent::default_preset(llm).cli_mode(true);
    StartConversation::new(agent, server.workspace_dir().display().to_string())
}

/// Waits for a status. A program of this crate looks again from time to time.
async fn becomes(control: &Control, id: ConversationId, status: ExecutionStatus) {
    let looks = async {
        while control.info(id).await.unwrap().execution_status() != status {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, looks).await.expect("the status in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_started_and_left() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let control = Control::of(server.client());

    // A job that is handed over twice is done once.
    let model = ScriptedModel::start(Script::new().finish("Done.").finish("Again."));
    let model = model.await.unwrap();
    let id = ConversationId::random();
    let job = start(&server, &model)
        .conversation_id(id)
        .initial_message("Work.");
    assert!(control.create(job.clone()).await.unwrap().is_new);
    assert!(!control.create(job).await.unwrap().is_new);
    becomes(&control, id, ExecutionStatus::Finished).await;
    assert_eq!(control.answer(id).await.unwrap(), "Done.");
    control.send(id, "Once more.").await.unwrap();
    assert_eq!(control.run(id).await.unwrap(), RunStart::Started);
    becomes(&control, id, ExecutionStatus::Finished).await;
    assert_eq!(control.answer(id).await.unwrap(), "Again.");
    model.verify().unwrap();

    // What waits for approval is not executed.
    let script = Script::new().call("terminal", json!({ "command": "touch executed" }));
    let model = ScriptedModel::start(script).await.unwrap();
    let asking = start(&server, &model).always_confirm();
    let asking = control.create(asking).await.unwrap().info.id();
    control.send(asking, "Work.").await.unwrap();
    assert_eq!(control.run(asking).await.unwrap(), RunStart::Started);
    becomes(&control, asking, ExecutionStatus::WaitingForConfirmation).await;
    let error = control.run(asking).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation, "{error}");
    // Not even after a pause, which hides that an action waits.
    control.pause(asking).await.unwrap();
    let error = control.run(asking).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation, "{error}");
    assert!(!server.workspace_dir().join("executed").exists());

    for id in [id, asking] {
        assert!(control.delete(id).await.unwrap());
        assert!(!control.delete(id).await.unwrap());
        assert_eq!(control.info(id).await.unwrap_err().kind(), ErrorKind::Gone);
    }
    server.shutdown(LONG).await.unwrap();
}
