//! Tests of batches on fleets: shared servers, failed servers, budgets, and drivers that were
//! killed and resumed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use oh_conversation::{
    Bulk, BulkResult, Conversation, ErrorKind, RunStatus, TaskRecord, TaskState,
};
use oh_protocol::{
    ConversationId,
    config::{Agent, Llm},
};
use oh_sandbox::{AttachedServers, Fleet};
use oh_testkit::{FakeServer, Gate, Script, Step};
use oh_transport::{Client, WorkspaceHandle as _};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(300);

/// Names of the variables of a driver in another process.
const SERVERS: &str = "FLEET_TEST_SERVERS";
const JOURNAL: &str = "FLEET_TEST_JOURNAL";
const TASKS: &str = "FLEET_TEST_TASKS";

async fn server(step: Step) -> FakeServer {
    let script = Script::new().forever(|script| script.step(step));
    let server = FakeServer::builder().open().script(script);
    server.start().await.unwrap()
}

async fn servers(count: usize) -> Vec<FakeServer> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(server(Step::text("Done.").cost(0.25)).await);
    }
    all
}

fn fleet(urls: impl IntoIterator<Item = String>) -> Fleet {
    let clients: Vec<_> = urls
        .into_iter()
        .map(|url| Client::builder(url).build().unwrap())
        .collect();
    let size = clients.len();
    let provider = AttachedServers::new(clients, "/project");
    let fleet = Fleet::builder(provider).size(size).starts_at_once(size);
    fleet.separate_directories().start()
}

fn fleet_of(servers: &[FakeServer]) -> Fleet {
    fleet(servers.iter().map(FakeServer::url))
}

/// Creates a batch whose runs end when their server was unreachable for this long.
fn batch_within(fleet: &Fleet, tasks: usize, unreachable: Duration) -> Bulk {
    let mut bulk = Bulk::new().on(Arc::new(fleet.clone()));
    for n in 0..tasks {
        bulk = bulk.task(format!("task-{n}"), format!("Do {n}."), move |workspace| {
            Conversation::builder(workspace, Agent::new(Llm::new("m")))
                .unchecked_tools()
                .unreachable_after(unreachable)
        });
    }
    bulk
}

fn batch(fleet: &Fleet, tasks: usize) -> Bulk {
    batch_within(fleet, tasks, LONG)
}

async fn all(bulk: Bulk) -> Vec<BulkResult> {
    let mut results = bulk.run();
    let mut all = Vec::new();
    while let Some(result) = timeout(LONG, results.next()).await.unwrap() {
        all.push(result);
    }
    all
}

/// Returns how often each first message was sent, over all servers.
fn messages(servers: &[FakeServer]) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for conversation in servers.iter().flat_map(FakeServer::conversations) {
        for event in conversation.events() {
            let json: serde_json::Value = serde_json::from_slice(event.raw()).unwrap();
            if json["kind"] == "MessageEvent" && json["source"] == "user" {
                let text = json["llm_message"]["content"][0]["text"].as_str().unwrap();
                *seen.entry(text.to_owned()).or_default() += 1;
            }
        }
    }
    seen
}

fn once(tasks: usize) -> BTreeMap<String, usize> {
    (0..tasks).map(|n| (format!("Do {n}."), 1)).collect()
}

fn states(journal: &Path) -> BTreeMap<String, Vec<TaskState>> {
    let mut states = BTreeMap::<_, Vec<_>>::new();
    for record in Bulk::read_journal(journal).unwrap() {
        states.entry(record.task).or_default().push(record.state);
    }
    states
}

fn journal() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("batch.jsonl");
    (directory, path)
}

#[tokio::test]
async fn tasks_share_the_servers_of_a_fleet_and_each_runs_once() {
    let servers = servers(3).await;
    let fleet = fleet_of(&servers);
    let collected = Arc::new(Mutex::new(BTreeMap::new()));
    let sink = collected.clone();
    let bulk = batch(&fleet, 12).collect(move |end| {
        let sink = sink.clone();
        async move {
            let events = end.conversation.events().len();
            assert!(end.workspace.working_dir().starts_with("/project/lease-"));
            sink.lock().unwrap().insert(end.task, events);
        }
    });
    let results = all(bulk).await;
    assert_eq!(results.len(), 12);
    for result in &results {
        assert!(result.outcome.as_ref().unwrap().is_finished(), "{result:?}");
        let server = result.server.as_deref().unwrap();
        assert!(servers.iter().any(|fake| fake.url() == server));
        assert_eq!(result.cost, Some(0.25));
        assert!(result.conversation.is_none());
    }
    assert_eq!(messages(&servers), once(12));
    assert_eq!(collected.lock().unwrap().len(), 12);
    let stats = fleet.stats();
    assert_eq!((stats.leases, stats.leased, stats.most_servers), (12, 0, 3));
}

#[tokio::test]
async fn a_budget_counts_all_tasks_and_those_in_the_journal() {
    let servers = servers(1).await;
    let fleet = fleet_of(&servers);
    let (_directory, path) = journal();
    let bulk = batch(&fleet, 4).budget(0.5).journal(&path).unwrap();
    let results = all(bulk).await;
    let ran = results.iter().filter(|result| result.outcome.is_ok());
    assert_eq!(ran.count(), 2);
    for result in results.iter().filter(|result| result.outcome.is_err()) {
        let error = result.outcome.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(error.to_string().contains("budget"), "{error}");
    }
    let results = batch(&fleet, 4).budget(0.75).journal(&path).unwrap().run();
    let handle = results.handle();
    assert_eq!(handle.progress().earlier, 2);
    assert!((handle.spent() - 0.5).abs() < 1e-9);
    let mut results = results;
    let mut ran = 0;
    while let Some(result) = timeout(LONG, results.next()).await.unwrap() {
        ran += usize::from(result.outcome.is_ok());
    }
    assert_eq!(ran, 1);
    assert_eq!(messages(&servers).values().sum::<usize>(), 3);
}

#[tokio::test]
async fn a_task_whose_server_dies_is_reported_and_repeated_only_on_request() {
    for repeats in [0, 1] {
        let gate = Gate::new();
        let held = server(Step::text("Never.").hold(&gate)).await;
        let fleet = fleet([held.url()]);
        let (_directory, path) = journal();
        let bulk = batch_within(&fleet, 1, Duration::from_secs(1))
            .repeat_lost(repeats)
            .journal(&path)
            .unwrap();
        let mut results = bulk.run();
        let killing = async {
            gate.arrived(1).await;
            held.kill();
            held.refuse();
            if repeats == 1 {
                // The list has only this server, which loses its conversation.
                while fleet.stats().discarded == 0 {
                    tokio::task::yield_now().await;
                }
                gate.open();
                held.accept().unwrap();
                held.come_back_empty();
            }
        };
        let (result, ()) = timeout(LONG, async { tokio::join!(results.next(), killing) })
            .await
            .unwrap();
        let result = result.unwrap();
        let recorded = states(&path);
        let ended = match repeats {
            0 => {
                match result.outcome {
                    Ok(outcome) => assert_eq!(outcome.status(), RunStatus::ServerGone),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ServerGone, "{error}"),
                }
                vec![TaskState::Started, TaskState::Lost]
            }
            _ => {
                assert!(result.outcome.unwrap().is_finished());
                use TaskState::{Ended, Lost, Started};
                vec![Started, Lost, Started, Ended]
            }
        };
        assert_eq!(recorded["task-0"], ended);
    }
}

#[tokio::test]
async fn a_task_whose_server_is_gone_after_a_crash_is_reported_once() {
    let servers = servers(1).await;
    let fleet = fleet_of(&servers);
    let (_directory, path) = journal();
    let id = ConversationId::random();
    let line = format!(
        "{{\"task\":\"task-0\",\"attempt\":1,\"conversation\":\"{id}\",\
         \"server\":\"http://127.0.0.1:1\",\"state\":\"started\"}}\n{{\"task\":\"to"
    );
    std::fs::write(&path, line).unwrap();
    let results = all(batch(&fleet, 1).journal(&path).unwrap()).await;
    let [result] = &results[..] else {
        panic!("one result: {results:?}");
    };
    assert_eq!(result.id, id);
    let error = result.outcome.as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServerGone, "{error}");
    assert!(messages(&servers).is_empty(), "nothing is repeated");
    assert!(
        all(batch(&fleet, 1).journal(&path).unwrap())
            .await
            .is_empty()
    );
    // On request, it is.
    let bulk = batch(&fleet, 1).repeat_lost(1).journal(&path).unwrap();
    assert_eq!(all(bulk).await.len(), 1);
    assert_eq!(messages(&servers), once(1));
}

#[tokio::test]
async fn two_drivers_cannot_share_a_journal() {
    let (_directory, path) = journal();
    let first = Bulk::new().journal(&path).unwrap();
    let error = Bulk::new().journal(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Journal);
    drop(first);
    assert!(Bulk::new().journal(&path).unwrap().is_empty());
}

/// A driver in another process. Killed when this is dropped.
struct Driver(Child);

impl Driver {
    fn start(servers: &[FakeServer], journal: &Path, tasks: usize) -> Self {
        let urls: Vec<_> = servers.iter().map(FakeServer::url).collect();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fleet::driver_of_other_tests", "--nocapture"])
            .env(SERVERS, urls.join(","))
            .env(JOURNAL, journal)
            .env(TASKS, tasks.to_string())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SIGKILL.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn driver_of_other_tests() {
    let Ok(urls) = std::env::var(SERVERS) else {
        return;
    };
    let fleet = fleet(urls.split(',').map(str::to_owned));
    let tasks = std::env::var(TASKS).unwrap().parse().unwrap();
    let path = std::env::var(JOURNAL).unwrap();
    let results = all(batch(&fleet, tasks).journal(path).unwrap()).await;
    for result in &results {
        assert!(result.outcome.as_ref().unwrap().is_finished(), "{result:?}");
    }
    println!("driver: peak memory {}", peak());
}

/// Returns the peak memory of this process, where the system has it.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or("unknown").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_driver_is_resumed_and_each_task_runs_once() {
    let gate = Gate::new();
    let quick = server(Step::text("Done.")).await;
    let held = server(Step::text("Done.").hold(&gate)).await;
    let servers = [quick, held];
    let (_directory, path) = journal();
    let driver = Driver::start(&servers, &path, 8);
    let ended = |records: &[TaskRecord]| {
        let ended = records.iter().filter(|it| it.state == TaskState::Ended);
        ended.count()
    };
    let killing = async {
        gate.arrived(1).await;
        while ended(&Bulk::read_journal(&path).unwrap()) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, killing).await.unwrap();
    drop(driver);
    let before = Bulk::read_journal(&path).unwrap();
    assert!(ended(&before) < 8, "the driver was killed too late");
    gate.open();
    let fleet = fleet_of(&servers);
    let bulk = batch(&fleet, 8).journal(&path).unwrap().run();
    assert_eq!(bulk.handle().progress().earlier, ended(&before));
    let mut bulk = bulk;
    let mut count = 0;
    while let Some(result) = timeout(LONG, bulk.next()).await.unwrap() {
        assert!(result.outcome.as_ref().unwrap().is_finished(), "{result:?}");
        count += 1;
    }
    assert_eq!(count + ended(&before), 8);
    assert_eq!(messages(&servers), once(8));
    let all = servers.iter().map(|server| server.conversations().len());
    assert_eq!(all.sum::<usize>(), 8, "no conversation is left over");
    for (task, states) in states(&path) {
        let ends = states.iter().filter(|state| **state == TaskState::Ended);
        assert_eq!(ends.count(), 1, "{task}: {states:?}");
    }
}

/// Runs tasks with a driver in another process, and prints its memory and requests.
async fn load(tasks: usize, count: usize) {
    let servers = servers(count).await;
    let (_directory, path) = journal();
    let mut driver = Driver::start(&servers, &path, tasks);
    let mut output = driver.0.stdout.take().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut output, &mut text).unwrap();
        text
    });
    let text = timeout(LONG, reading).await.unwrap().unwrap();
    assert!(driver.0.wait().unwrap().success(), "{text}");
    assert_eq!(messages(&servers), once(tasks));
    let mut requests = BTreeMap::<String, usize>::new();
    for (request, count) in servers.iter().flat_map(FakeServer::request_counts) {
        *requests.entry(request).or_default() += count;
    }
    let total: usize = requests.values().sum();
    for line in text.lines().filter(|line| line.starts_with("driver:")) {
        println!("{line}");
    }
    println!("{tasks} tasks on {count} servers: {total} requests {requests:?}");
    assert!(total <= tasks * 8 + count * 4, "{requests:?}");
    assert_eq!(states(&path).len(), tasks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_tasks_on_ten_servers_cost_few_requests() {
    load(100, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_a_thousand_tasks_on_two_hundred_servers_cost_few_requests() {
    load(1000, 200).await;
}
