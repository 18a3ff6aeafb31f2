//! Limits on the real server: what a run may cost, how long a call waits for it, and how much of a
//! log a handle holds.

use std::{fs, time::Duration};

use openhands::{
    Conversation, Cursor, Event, RunStatus,
    conversation::ErrorKind,
    testkit::{Script, Step},
};
use serde_json::json;
use tokio::time::timeout;

use super::{
    live::{LONG, log, reads},
    older::bury,
    stage::{Scene, Stage, act, never, until},
};

/// A command that waits until the directory has the file `go`.
fn waits() -> Step {
    let command = "touch begun; while [ ! -e go ]; do sleep 0.05; done; echo late >> ran";
    Step::call("terminal", json!({ "command": command }))
}

/// A budget interrupts a run once its model calls have cost that much. The server reports the cost
/// of a call before or after it executes the call's actions.
pub(crate) async fn a_budget_ends_a_run(stage: &Stage) {
    for by_tokens in [false, true] {
        let script = Script::new()
            .step(act("a").usage(100, 20).cost(0.5))
            .step(act("b").usage(100, 20).cost(0.75))
            .step(Step::finish("Done.").delay(LONG * 2));
        let name = format!("budget-{by_tokens}");
        let scene = Scene::start(stage, &name, never(), script).await;
        scene.near.send("Go.").await.unwrap();
        let run = match by_tokens {
            false => scene.near.run().max_cost(1.0),
            true => scene.near.run().max_tokens(200),
        };
        let outcome = timeout(LONG, run).await.unwrap().unwrap();
        assert_eq!(outcome.status(), RunStatus::BudgetReached, "{outcome}");
        let report = outcome.report();
        assert_eq!((report.cost(), report.tokens()), (Some(1.25), 240));
        let error = outcome.ensure_finished().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFinished, "{error}");
        // The interrupt may come before the second command.
        let ran = scene.ran();
        assert!(["a", "b"].iter().take(ran.len()).eq(&ran), "{ran:?}");
        assert_eq!(scene.sent(scene.near.id()), ["run"]);
    }
}

/// A time limit ends the wait for a run. The run goes on, and another call joins it.
pub(crate) async fn a_time_limit_ends_the_wait_only(stage: &Stage) {
    let script = Script::new().step(waits()).finish("Done.");
    let scene = Scene::start(stage, "time", never(), script).await;
    scene.near.send("Go.").and_run().await.unwrap();
    until(|| scene.directory.join("begun").exists()).await;
    let short = Duration::from_millis(200);
    for run in [
        scene.near.run().timeout(short),
        scene.near.join().timeout(short),
        scene.other.run().idle_timeout(short),
    ] {
        let outcome = timeout(LONG, run).await.unwrap().unwrap();
        assert_eq!(outcome.status(), RunStatus::StillRunning, "{outcome}");
    }
    fs::write(scene.directory.join("go"), "").unwrap();
    let outcome = timeout(LONG, scene.near.run()).await.unwrap().unwrap();
    assert!(outcome.ensure_finished().is_ok());
    scene.shows(&["run"], &["late"]).await;
}

/// A handle that holds a part of the log has all of it for its readers.
pub(crate) async fn parts_of_a_log(stage: &Stage) {
    let scene = Scene::start(stage, "parts", never(), Script::new()).await;
    bury(&scene).await;
    let attach = || Conversation::attach(&scene.client(), scene.near.id());
    for (how, most) in [
        (attach().tail(30), 40),
        (attach().from(Cursor::After(100)), 40),
        (attach().live(), 10),
    ] {
        let all = log(scene.other.client(), scene.near.id()).await;
        let attached = timeout(LONG, how).await.unwrap().unwrap();
        let held: Vec<_> = attached
            .events()
            .iter()
            .map(Event::id)
            .map(str::to_owned)
            .collect();
        assert!(all.ends_with(&held) && held.len() <= most, "{}", held.len());
        // Older events are fetched for the reader.
        reads(&attached, &all).await;
        scene.other.send("One more.").await.unwrap();
        let all = log(scene.other.client(), scene.near.id()).await;
        reads(&attached, &all).await;
        let held = attached.events().len();
        assert!(held < all.len(), "{held}");
    }
}
