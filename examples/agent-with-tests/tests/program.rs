//! The program against a fake server: every possible ending, in milliseconds.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use agent_with_tests::{Job, Report, Verdict, run};
use openhands::{
    prelude::*,
    testkit::{
        FakeServer, Fault, Script, Step,
        fake::{self, FakeServerBuilder},
    },
};
use serde_json::json;

/// The timeout of every test, so that none can hang.
const LIMIT: Duration = Duration::from_secs(20);

async fn report(server: &FakeServer) -> Report {
    let client = server.client().expect("a client");
    let job = Job {
        task: "Mend the tests.".into(),
        check: "cargo test".into(),
        budget: 0.5,
    };
    let llm = Llm::new("openai/scripted").api_key("unused");
    let workspace = Workspace::new(&client, "/project");
    let running = run(&workspace, llm, &job);
    let report = tokio::time::timeout(LIMIT, running).await;
    report.expect("an end in time").expect("a report")
}

/// Scripts an agent that edits, is sent back by the check `denials` times, and edits again.
fn diligent(denials: usize) -> FakeServerBuilder {
    let asked = AtomicUsize::new(0);
    let edit = json!({"command": "str_replace", "path": "/project/lib.rs", "old_str": "a"});
    let round = |s: Script| {
        s.step(Step::call("file_editor", edit.clone()).cost(0.1))
            .finish("Done.")
    };
    FakeServer::builder()
        .script(Script::new().repeat(denials + 1, round))
        .hooks(move |hook| {
            assert_eq!(hook.command, "cargo test");
            match asked.fetch_add(1, Ordering::SeqCst) < denials {
                true => fake::Verdict::deny("2 tests fail"),
                false => fake::Verdict::allow(),
            }
        })
}

#[tokio::test]
async fn reports_a_job_done_at_the_first_attempt() {
    let server = diligent(0).start().await.unwrap();
    let report = report(&server).await;
    assert_eq!(report.to_string(), "done ($0.10, 2 actions)");
    server.verify().unwrap();
}

#[tokio::test]
async fn counts_how_often_the_check_sent_the_agent_back() {
    let server = diligent(2).start().await.unwrap();
    let report = report(&server).await;
    assert_eq!(report.verdict, Verdict::Done { sent_back: 2 });
    assert_eq!(report.actions, 6);
    server.verify().unwrap();
}

#[tokio::test]
async fn stops_an_agent_that_costs_too_much() {
    let dear = Step::call("terminal", json!({"command": "sleep"}))
        .cost(0.3)
        .delay(Duration::from_millis(20));
    let server = FakeServer::builder()
        .script(Script::new().forever(|s| s.step(dear)))
        .start()
        .await
        .unwrap();
    let report = report(&server).await;
    assert_eq!(report.verdict, Verdict::TooExpensive);
    assert!(report.cost.is_some_and(|cost| cost > 0.5), "{report}");
}

#[tokio::test]
async fn reports_the_reason_of_a_failed_model() {
    let server = FakeServer::builder()
        .script(Script::new().fail(401, "the key has expired"))
        .start()
        .await
        .unwrap();
    let Verdict::Failed(reason) = report(&server).await.verdict else {
        panic!("it cannot have been done");
    };
    assert!(reason.contains("the key has expired"), "{reason}");
}

#[tokio::test]
async fn receives_every_event_on_a_breaking_link() {
    let server = diligent(1).start().await.unwrap();
    // The connection breaks twice during the first run.
    server.inject(Fault::cut().after(3).times(1));
    server.inject(Fault::tear().after(5).times(1));
    let report = report(&server).await;
    assert_eq!(report.verdict, Verdict::Done { sent_back: 1 });
    assert_eq!(report.actions, 4);
}
