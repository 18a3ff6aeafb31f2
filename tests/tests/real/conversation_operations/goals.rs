//! Goals: started, followed, ended and resumed.

use std::time::Duration;

use openhands::{
    LocalServer, RunStatus,
    conversation::ErrorKind,
    protocol::state::GoalState,
    testkit::{Gate, Script, Step},
};
use tokio::time::timeout;

use super::{LONG, finishes, model, next, outcome, says, started};

const REACHED: &str = r#"{"score": 1.0, "complete": true, "missing": ""}"#;
const MISSED: &str = r#"{"score": 0.25, "complete": false, "missing": "the end"}"#;

pub(super) async fn a_goal_reports_its_progress_and_its_end(server: &LocalServer) {
    // The agent and the judge use the same model in turns.
    let script = Script::new()
        .text("I have begun.")
        .text(MISSED)
        .text("I am done.")
        .forever(|s| s.text(REACHED));
    let model = model(script).await;
    let conversation = started(server, &model).await;
    let error = conversation.goals().start(" ").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = conversation
        .goals()
        .start("x")
        .max_iterations(0)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = conversation.goals().resume().await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Validation,
        "there is none: {error:?}"
    );
    conversation.goals().stop().await.unwrap();

    let goal = conversation
        .goals()
        .start("Reach the end.")
        .max_iterations(5)
        .await
        .unwrap();
    let mut progress = goal.progress();
    let mut reported = Vec::new();
    while let Some(status) = next(&mut progress).await {
        let status = status.unwrap();
        let score = status.verdict.as_ref().map(|verdict| verdict.score);
        assert_eq!(status.objective, "Reach the end.");
        reported.push((status.active, status.status, status.iteration, score));
    }
    assert_eq!(
        reported,
        [
            (true, GoalState::Running, 0, None),
            (true, GoalState::Running, 1, Some(0.25)),
            (false, GoalState::Complete, 2, Some(1.0)),
        ]
    );
    let end = timeout(LONG, goal.ended()).await.unwrap().unwrap();
    assert!(end.is_complete());
    // The state follows the socket, which may be behind the log.
    let mut states = conversation.states();
    while next(&mut states).await.unwrap().goal().as_ref() != Some(&end) {}
    let error = conversation.goals().resume().await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Validation,
        "it was reached: {error:?}"
    );
    // The progress of the second goal contains no events of the first.
    let goal = conversation.goals().start("Once more.").await.unwrap();
    let end = timeout(LONG, goal.ended()).await.unwrap().unwrap();
    assert_eq!(end.objective, "Once more.");
    conversation.close().await.unwrap();
}

pub(super) async fn a_goal_out_of_rounds_or_interrupted_says_so(server: &LocalServer) {
    let script = Script::new()
        .text("I tried.")
        .text(MISSED)
        .step(Step::text("Too late.").delay(Duration::from_secs(60)))
        .text("An answer.")
        .text(REACHED)
        .step(Step::text("Too late.").delay(Duration::from_secs(60)))
        .forever(|s| s.text(REACHED));
    let model = model(script).await;
    let conversation = started(server, &model).await;
    let goal = conversation
        .goals()
        .start("Too much.")
        .max_iterations(1)
        .await
        .unwrap();
    let end = timeout(LONG, goal.ended()).await.unwrap().unwrap();
    assert_eq!(end.status, GoalState::Capped);
    assert_eq!(end.verdict.unwrap().missing, "the end");

    // The server ends a goal when a user interrupts, and keeps its objective.
    let goal = conversation.goals().start("Wait for me.").await.unwrap();
    let mut progress = goal.progress();
    assert!(next(&mut progress).await.unwrap().unwrap().active);
    while model.requests().len() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    conversation.interrupt().await.unwrap();
    let end = timeout(LONG, goal.ended()).await.unwrap().unwrap();
    assert_eq!(end.status, GoalState::Interrupted);
    let goal = conversation.goals().resume().await.unwrap();
    let end = timeout(LONG, goal.ended()).await.unwrap().unwrap();
    assert!(end.is_complete());
    assert_eq!(end.objective, "Wait for me.");
    // The same happens when the program stops the goal.
    let goal = conversation.goals().start("Never mind.").await.unwrap();
    while model.requests().len() < 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    goal.stop().await.unwrap();
    let end = timeout(LONG, goal.ended()).await.unwrap().unwrap();
    assert_eq!(end.status, GoalState::Interrupted);
    assert_eq!(end.objective, "Never mind.");
    conversation.close().await.unwrap();
}

pub(super) async fn a_goal_while_busy_is_refused(server: &LocalServer) {
    let (run, round) = (Gate::new(), Gate::new());
    let script = Script::new()
        .step(Step::text("Slowly.").hold(&run))
        .step(Step::text(REACHED).hold(&round))
        .forever(|s| s.text(REACHED));
    let model = model(script).await;
    let conversation = started(server, &model).await;
    conversation.send("Work.").and_run().await.unwrap();
    let error = conversation.goals().start("And this.").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    run.open();
    // The run continues, and the log contains nothing about the goal.
    let ended = timeout(LONG, conversation.join()).await.unwrap().unwrap();
    assert!(ended.is_finished() && !ended.report().started(), "{ended}");
    assert!(conversation.state().goal().is_none());
    // While a goal is active, each round ends with its own run. `run` joins the current one.
    let goal = conversation.goals().start("Then this.").await.unwrap();
    let error = conversation.goals().start("And that.").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    round.open();
    timeout(LONG, goal.ended()).await.unwrap().unwrap();
    finishes(&conversation).await;
    // Without an active run, `join` returns the current status and starts nothing.
    let events = conversation.events().len();
    let ended = timeout(LONG, conversation.join()).await.unwrap().unwrap();
    assert!(ended.is_finished(), "{ended}");
    assert_eq!(conversation.events().len(), events);
    conversation.close().await.unwrap();
    let idle = says("Hm.").await;
    let conversation = started(server, &idle).await;
    let ended = timeout(LONG, conversation.join()).await.unwrap().unwrap();
    assert_eq!(ended.status(), RunStatus::Idle, "{ended}");
    assert!(idle.requests().is_empty());
    conversation.send("Hello.").await.unwrap();
    assert!(outcome(&conversation).await.is_finished());
    conversation.close().await.unwrap();
}
