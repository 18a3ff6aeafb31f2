//! Tests of batches: what is in flight, how failed conversations are reported, and cancels.

use std::{collections::BTreeSet, time::Duration};

use oh_conversation::{
    Bulk, BulkCancel, BulkHandle, BulkResult, BulkRun, BulkStage, Conversation, ErrorKind,
};
use oh_protocol::config::{Agent, Llm};
use oh_testkit::{FakeServer, Fault, Script, Step};
use oh_transport::Client;
use tokio::time::timeout;

use crate::mock::Place;

/// A duration longer than any test runs.
const LONG: Duration = Duration::from_secs(600);

fn agent() -> Agent {
    Agent::new(Llm::new("m"))
}

async fn quick() -> FakeServer {
    let script = Script::new().forever(|script| script.text("Done."));
    let server = FakeServer::builder().script(script);
    server.start().await.unwrap()
}

/// Starts a server that allows `most` concurrent runs, and whose agents think for longer than any
/// test runs.
async fn slow(most: usize) -> FakeServer {
    let step = Step::text("Never.").delay(LONG);
    let script = Script::new().forever(|script| script.step(step));
    let server = FakeServer::builder().script(script);
    server.max_concurrent_runs(most).start().await.unwrap()
}

fn place(server: &FakeServer) -> Place {
    let client = Client::builder(server.url())
        .session_api_key(server.session_api_key())
        .build()
        .unwrap();
    Place(client)
}

/// Creates a batch of `count` conversations that starts two at a time.
fn batch(server: &FakeServer, count: usize) -> BulkRun {
    let mut bulk = Bulk::new().at_once(2);
    for n in 0..count {
        let builder = Conversation::builder(&place(server), agent());
        bulk = bulk.start(builder, format!("Task {n}."));
    }
    bulk.run()
}

async fn all(mut results: BulkRun) -> Vec<BulkResult> {
    let mut all = Vec::new();
    while let Some(result) = timeout(LONG / 10, results.next()).await.unwrap() {
        all.push(result);
    }
    all.sort_by_key(|result| result.index);
    all
}

/// Waits until `count` runs of the batch are in progress on the server.
async fn running(server: &FakeServer, handle: &BulkHandle, count: usize) {
    let at_work = || {
        let progress = handle.progress();
        let stages = progress.in_flight.iter().map(|begun| begun.stage);
        let running = stages.filter(|stage| *stage == BulkStage::Running).count();
        let conversations = server.conversations();
        let status = conversations.iter().map(|fake| fake.status());
        running == count && status.filter(|status| status == "running").count() == count
    };
    while !at_work() {
        tokio::task::yield_now().await;
    }
}

/// Returns the kind of error of each conversation, or `None` if it ran.
fn kinds(results: &[BulkResult]) -> Vec<Option<ErrorKind>> {
    let outcomes = results.iter().map(|result| &result.outcome);
    outcomes
        .map(|outcome| outcome.as_ref().err().map(|error| error.kind()))
        .collect()
}

#[tokio::test]
async fn a_failed_first_message_keeps_the_conversation_that_was_created() {
    let server = quick().await;
    server.inject(Fault::status(422).on("/events").times(1));
    let results = all(batch(&server, 1)).await;
    let [result] = &results[..] else {
        panic!("one result: {results:?}");
    };
    assert_eq!(kinds(&results), [Some(ErrorKind::Validation)]);
    let conversation = result.conversation.as_ref().unwrap();
    assert_eq!(conversation.id(), result.id);
    conversation.delete().await.unwrap();
    assert!(server.conversations().is_empty());
}

#[tokio::test]
async fn a_failed_start_keeps_its_id() {
    let server = quick().await;
    let unknown = Conversation::builder(&place(&server), agent().tool("no_such_tool"));
    let mut results = Bulk::new().start(unknown, "Never.").run();
    let result = timeout(LONG / 10, results.next()).await.unwrap().unwrap();
    assert_eq!(result.outcome.unwrap_err().kind(), ErrorKind::UnknownTool);
    assert!(result.conversation.is_none());
    assert!(server.conversation(result.id).is_err());
    assert!(results.next().await.is_none());
    assert_eq!(results.handle().progress().done, 1);
}

#[tokio::test]
async fn waiting_running_and_finished_conversations_add_up() {
    let server = slow(10).await;
    let results = batch(&server, 5);
    let handle = results.handle();
    let before = handle.progress();
    assert_eq!((before.waiting, before.done), (5, 0));
    assert!(before.in_flight.is_empty());
    let reading = tokio::spawn(all(results));
    running(&server, &handle, 2).await;
    let progress = handle.progress();
    assert_eq!((progress.waiting, progress.done), (3, 0));
    let indices: Vec<_> = progress.in_flight.iter().map(|begun| begun.index).collect();
    assert_eq!(indices, [0, 1]);
    for begun in &progress.in_flight {
        assert_eq!(begun.conversation.as_ref().unwrap().id(), begun.id);
        server.conversation(begun.id).unwrap();
    }
    handle.cancel(BulkCancel::Interrupt);
    let results = timeout(LONG / 10, reading).await.unwrap().unwrap();
    assert_eq!(results.len(), 5);
    let after = handle.progress();
    assert_eq!((after.waiting, after.done), (0, 5));
    assert!(after.in_flight.is_empty());
}

#[tokio::test]
async fn an_interrupting_cancel_starts_no_more_and_returns_each_outcome() {
    let server = slow(10).await;
    let results = batch(&server, 5);
    let handle = results.handle();
    let reading = tokio::spawn(all(results));
    running(&server, &handle, 2).await;
    handle.cancel(BulkCancel::Interrupt);
    let results = timeout(LONG / 10, reading).await.unwrap().unwrap();
    let cancelled = Some(ErrorKind::Cancelled);
    assert_eq!(
        kinds(&results),
        [None, None, cancelled, cancelled, cancelled]
    );
    assert_eq!(server.conversations().len(), 2);
    for result in &results[..2] {
        assert!(!result.outcome.as_ref().unwrap().is_finished());
        let fake = server.conversation(result.id).unwrap();
        assert_eq!(fake.status(), "paused");
    }
    let ids: BTreeSet<_> = results.iter().map(|result| result.id.to_string()).collect();
    assert_eq!(ids.len(), 5, "each has an id");
}

#[tokio::test]
async fn a_cancel_that_leaves_runs_running_does_not_wait() {
    let server = slow(10).await;
    let results = batch(&server, 3);
    let handle = results.handle();
    let reading = tokio::spawn(all(results));
    running(&server, &handle, 2).await;
    handle.cancel(BulkCancel::Leave);
    let results = timeout(LONG / 10, reading).await.unwrap().unwrap();
    assert_eq!(kinds(&results), [Some(ErrorKind::Cancelled); 3]);
    for result in &results[..2] {
        assert!(result.conversation.is_some());
        let fake = server.conversation(result.id).unwrap();
        assert_eq!(fake.status(), "running");
    }
    let requests = server.requests();
    assert!(
        !requests
            .iter()
            .any(|seen| seen.path.ends_with("/interrupt"))
    );
}

#[tokio::test]
async fn a_finishing_cancel_waits_for_running_conversations() {
    let server = slow(10).await;
    let results = batch(&server, 4);
    let handle = results.handle();
    let reading = tokio::spawn(all(results));
    running(&server, &handle, 2).await;
    handle.cancel(BulkCancel::Finish);
    // The runs continue: they end only because another client interrupts them.
    running(&server, &handle, 2).await;
    for begun in handle.progress().in_flight {
        begun.conversation.unwrap().interrupt().await.unwrap();
    }
    let results = timeout(LONG / 10, reading).await.unwrap().unwrap();
    let cancelled = Some(ErrorKind::Cancelled);
    assert_eq!(kinds(&results), [None, None, cancelled, cancelled]);
    assert_eq!(server.conversations().len(), 2);
    let requests = server.requests();
    let interrupts = requests
        .iter()
        .filter(|seen| seen.path.ends_with("/interrupt"));
    assert_eq!(interrupts.count(), 2);
}

#[tokio::test]
async fn a_cancel_becomes_stricter_and_never_milder() {
    let server = slow(10).await;
    let results = batch(&server, 2);
    let handle = results.handle();
    let reading = tokio::spawn(all(results));
    running(&server, &handle, 2).await;
    handle.cancel(BulkCancel::Finish);
    handle.cancel(BulkCancel::Interrupt);
    handle.cancel(BulkCancel::Finish);
    let results = timeout(LONG / 10, reading).await.unwrap().unwrap();
    assert_eq!(kinds(&results), [None, None]);
}

#[tokio::test]
async fn a_conversation_waiting_for_a_full_server_ends_with_a_cancel_and_is_kept() {
    let server = slow(1).await;
    // Both conversations exist before either runs, so the server rejects only the second run.
    let mut bulk = Bulk::new().at_once(2);
    for _ in 0..2 {
        let started = Conversation::builder(&place(&server), agent()).start();
        let conversation = started.await.unwrap();
        conversation.send("Go.").await.unwrap();
        bulk = bulk.resume(conversation);
    }
    let results = bulk.run();
    let handle = results.handle();
    let reading = tokio::spawn(all(results));
    running(&server, &handle, 1).await;
    let waits = || {
        let progress = handle.progress();
        let mut stages = progress.in_flight.iter().map(|begun| begun.stage);
        stages.any(|stage| stage == BulkStage::WaitingForServer)
    };
    while !waits() {
        tokio::task::yield_now().await;
    }
    handle.cancel(BulkCancel::Interrupt);
    let results = timeout(LONG / 10, reading).await.unwrap().unwrap();
    let mut kinds = kinds(&results);
    kinds.sort_by_key(Option::is_some);
    assert_eq!(kinds, [None, Some(ErrorKind::Cancelled)]);
    assert!(results.iter().all(|result| result.conversation.is_some()));
}

#[tokio::test]
async fn a_lost_interrupt_is_repeated_while_the_run_continues() {
    let server = slow(10).await;
    let results = batch(&server, 1);
    let handle = results.handle();
    let reading = tokio::spawn(all(results));
    running(&server, &handle, 1).await;
    server.inject(Fault::status(500).on("/interrupt").times(2));
    handle.cancel(BulkCancel::Interrupt);
    let results = timeout(LONG / 10, reading).await.unwrap().unwrap();
    assert_eq!(kinds(&results), [None]);
    assert_eq!(server.conversations()[0].status(), "paused");
}

#[tokio::test]
async fn a_batch_with_a_cancel_before_its_first_poll_sends_nothing() {
    let server = quick().await;
    let results = batch(&server, 3);
    results.handle().cancel(BulkCancel::Finish);
    let results = all(results).await;
    assert_eq!(kinds(&results), [Some(ErrorKind::Cancelled); 3]);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_handle_keeps_no_conversation_connected() {
    let server = slow(10).await;
    let results = batch(&server, 2);
    let handle = results.handle();
    let reading = tokio::spawn(all(results));
    running(&server, &handle, 2).await;
    reading.abort();
    assert!(reading.await.unwrap_err().is_cancelled());
    let progress = handle.progress();
    assert!(progress.in_flight.is_empty(), "{progress:?}");
    while server.conversations().iter().any(|fake| fake.sockets() > 0) {
        tokio::task::yield_now().await;
    }
}
