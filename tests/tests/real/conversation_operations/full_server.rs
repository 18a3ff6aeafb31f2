//! A server that allows two concurrent runs.

use std::time::Duration;

use openhands::{
    Conversation, RunStatus,
    conversation::{Bulk, ErrorKind},
    testkit::{Gate, Script, Step},
};
use tokio::time::timeout;

use super::{LONG, agent, finishes, messages, model, next, says, started, workspace};

#[tokio::test]
async fn a_full_server_is_awaited_and_a_failure_ends_no_other_conversation() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home)
        .env("OH_MAX_CONCURRENT_RUNS", "2")
        .start()
        .await
        .unwrap();
    let slow = |text: &str| Step::text(text).delay(Duration::from_millis(700));
    let busy = model(Script::new().forever(|s| s.step(slow("Done.")))).await;
    let failing = model(Script::new().forever(|s| s.fail(400, "no"))).await;
    let resumed = started(&server, &busy).await;
    resumed.send("Go on.").await.unwrap();
    let mut bulk = Bulk::new().at_once(6).timeout(LONG).resume(resumed.clone());
    for n in 0..8 {
        let model = if n == 3 { &failing } else { &busy };
        let builder =
            Conversation::builder(&workspace(&server), agent(model)).tag("n", n.to_string());
        bulk = bulk.start(builder, format!("Task {n}."));
    }
    // A conversation that cannot be started at all.
    let unknown = agent(&busy).tool("no_such_tool");
    bulk = bulk.start(
        Conversation::builder(&workspace(&server), unknown),
        "Never.",
    );
    assert_eq!(bulk.len(), 10);
    let mut done = bulk.run();
    let mut outcomes = Vec::new();
    while let Some(done) = next(&mut done).await {
        if let Some(conversation) = &done.conversation {
            assert_eq!(conversation.id(), done.id);
            let said = messages(&conversation.events());
            let asked = said
                .iter()
                .filter(|text| text.starts_with("Task") || *text == "Go on.");
            assert_eq!(asked.count(), 1, "no message is said twice: {said:?}");
        }
        let outcome = match &done.outcome {
            Ok(run) if run.status() == RunStatus::Finished => "finished",
            Ok(run) if run.status() == RunStatus::Error && run.error().is_some() => "error",
            Err(error) if error.kind() == ErrorKind::UnknownTool => "refused",
            other => panic!("{}: {other:?}", done.index),
        };
        outcomes.push((done.index, outcome));
    }
    outcomes.sort_unstable();
    let expected: Vec<_> = (0..10)
        .map(|n| match n {
            4 => (n, "error"),
            9 => (n, "refused"),
            _ => (n, "finished"),
        })
        .collect();
    assert_eq!(outcomes, expected);

    // Without `Bulk`, each rejection is an error that explains what to do.
    let gate = Gate::new();
    let long = Script::new().forever(|s| s.step(Step::text("Long.").hold(&gate)));
    let long = model(long).await;
    let quick = says("Quick.").await;
    let third = started(&server, &quick).await;
    let first = started(&server, &long).await;
    let second = started(&server, &long).await;
    for conversation in [&first, &second] {
        conversation.send("Work.").and_run().await.unwrap();
    }
    let error = third.send("Me too.").and_run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "{error:?}");
    assert!(error.to_string().contains("message was saved"), "{error}");
    let error = third.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "{error:?}");
    let error = third.goals().start("Me too.").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "{error:?}");
    let refused = Conversation::builder(&workspace(&server), agent(&quick))
        .start()
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::RateLimited);
    gate.open();
    for conversation in [&first, &second] {
        let ended = timeout(LONG, conversation.join()).await.unwrap().unwrap();
        assert!(ended.is_finished(), "{ended}");
    }
    // The message was stored once; only the run is requested again.
    finishes(&third).await;
    assert_eq!(messages(&third.events()), ["Me too.", "Quick."]);
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}
