//! A batch on a fleet of real servers, forked from the template of these tests.

use std::{sync::Arc, time::Duration};

use openhands::{
    WorkspaceHandle as _,
    conversation::{Bulk, Conversation, TaskState, TaskWorkspace},
    protocol::config::{Agent, Llm},
    sandbox::Fleet,
    testkit::{Script, ScriptedModel},
};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(120);

#[tokio::test]
async fn six_tasks_run_once_each_on_a_fleet_of_three_servers() {
    let home = openhands_tests::home();
    let script = Script::new().forever(|script| script.text("Done."));
    let model = ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap();
    let fleet = Fleet::builder(openhands_tests::server(&home))
        .size(3)
        .separate_directories()
        .start();
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted");
    let agent = Agent::new(llm);
    let journal = home.path().join("batch.jsonl");
    let mut bulk = Bulk::new()
        .on(Arc::new(fleet.clone()))
        .timeout(LONG)
        .journal(&journal)
        .unwrap();
    for n in 0..6 {
        let agent = agent.clone();
        let build = move |workspace: &TaskWorkspace| {
            assert!(workspace.working_dir().contains("/lease-"));
            Conversation::builder(workspace, agent.clone())
        };
        bulk = bulk.task(format!("task-{n}"), format!("Task {n}."), build);
    }
    let mut results = bulk.run();
    let mut tasks = Vec::new();
    while let Some(result) = timeout(LONG, results.next()).await.unwrap() {
        assert!(result.outcome.as_ref().unwrap().is_finished(), "{result:?}");
        tasks.extend(result.task);
    }
    drop(results);
    tasks.sort();
    let expected: Vec<_> = (0..6).map(|n| format!("task-{n}")).collect();
    assert_eq!(tasks, expected);
    let records = Bulk::read_journal(&journal).unwrap();
    let ended = records.iter().filter(|it| it.state == TaskState::Ended);
    assert_eq!((records.len(), ended.count()), (12, 6));
    let stats = fleet.stats();
    assert_eq!((stats.leases, stats.most_servers), (6, 3));
    assert_eq!(fleet.shutdown(LONG).await, 0);
    assert_eq!(fleet.stats().stopped, 3);
}
