//! Scenes on the real server with odd answers.
//!
//! Pages cannot be decoded, the server cannot read an event, or a run starts slowly. In other
//! scenes a reader of tokens falls behind, or a title changes during an outage.

use std::{fs, time::Duration};

use openhands::{
    Conversation, Cursor, Event, WorkspaceExt,
    conversation::{LinkStatus, Token},
    protocol::config::ConfirmationPolicy,
    testkit::{Fault, Script, ScriptedModel, Step},
};
use tokio::time::timeout;

use super::{
    live::{LONG, agent, events, llm, log, reads},
    older::bury,
    stage::{RUN, SEARCH, Scene, Stage, act, ends, never, running, runs, until},
};

/// A page that never decodes ends its reader with an error, and the link goes on. A reader
/// that continues from the cursor misses nothing.
pub(crate) async fn pages_that_do_not_decode(stage: &Stage) {
    let scene = Scene::start(stage, "pages", never(), Script::new()).await;
    bury(&scene).await;
    let attach = Conversation::attach(&scene.client(), scene.near.id()).tail(30);
    let attached = timeout(LONG, attach).await.unwrap().unwrap();
    let all = log(scene.other.client(), scene.near.id()).await;
    let gateway = Fault::html(200).on(SEARCH).named("gateway");
    scene.proxy.inject(gateway);
    // Faults apply to new connections.
    scene.proxy.cut();
    until(|| attached.link().status() == LinkStatus::Live).await;
    let mut events = attached.subscribe(Cursor::Start);
    let error = timeout(LONG, events.next()).await.unwrap().unwrap();
    let error = error.unwrap_err();
    let wire = error
        .transport_error()
        .map(openhands::transport::Error::kind);
    let page = openhands::transport::ErrorKind::NotAnAgentServer;
    assert_eq!(wire, Some(page), "{error}");
    assert!(timeout(LONG, events.next()).await.unwrap().is_none());
    // New events arrive meanwhile.
    let held = attached.events().len();
    scene.other.send("One more.").await.unwrap();
    until(|| attached.events().len() > held).await;
    scene.proxy.lift("gateway");
    let mut events = attached.subscribe(events.cursor());
    for id in &all {
        let event = timeout(LONG, events.next()).await.unwrap().unwrap();
        assert_eq!(event.unwrap().id(), id);
    }
}

/// The answer to the start of a run arrives after the run has ended. The start is not repeated.
pub(crate) async fn a_start_that_is_answered_late(stage: &Stage) {
    late_start(stage, "late", Duration::ZERO).await;
}

/// The answer comes 90 s after the end of the run.
#[tokio::test]
async fn soak_a_start_that_is_answered_very_late() {
    let home = openhands_tests::home();
    let stage = Stage::start(&home).await;
    late_start(&stage, "very-late", Duration::from_secs(90)).await;
    stage.end().await;
}

async fn late_start(stage: &Stage, name: &str, after: Duration) {
    let script = Script::new().step(act("a")).finish("Done.").finish("More.");
    let scene = Scene::start(stage, name, never(), script).await;
    scene.near.send("Go.").await.unwrap();
    scene
        .proxy
        .inject(Fault::hold_answer().on(RUN).named("held"));
    let run = running(&scene.near);
    until(|| scene.ran() == ["a"]).await;
    // The status may also be `error`, which the outcome of the run shows.
    let status = || scene.other.state().execution_status().to_string();
    until(|| ["finished", "error"].contains(&&*status())).await;
    tokio::time::sleep(after).await;
    scene.proxy.lift("held");
    let outcome = ends(run).await;
    assert!(outcome.is_finished(), "{outcome}");
    scene.shows(&["run"], &["a"]).await;
    // The slot for a run is free again.
    scene.near.send("And?").await.unwrap();
    assert!(runs(&scene.near).await.is_finished());
    scene.shows(&["run", "run"], &["a"]).await;
}

/// A reader that stops reading loses pieces, and gets a marker. Another reader has all of them.
pub(crate) async fn a_reader_of_tokens_that_falls_behind(stage: &Stage) {
    // The server's model library ends an answer that repeats itself.
    let text: String = (0..1_500).map(|n| format!("{n:023} ")).collect();
    // While pieces of an answer are available, the server serves nobody else: without pauses, it
    // stood still for half a minute on a busy machine, and so did all other scenes.
    let text_in_pieces = Step::text(text.clone()).drip(Duration::from_millis(5));
    let script = Script::new().step(text_in_pieces);
    let model = ScriptedModel::start(script).await.unwrap();
    let directory = stage.directory("tokens");
    let workspace = stage.client().workspace(directory.display().to_string());
    let streamed = llm(&model, ScriptedModel::MODEL).stream(true);
    let streamed = openhands::Agent::default_preset(streamed).cli_mode(true);
    let conversation = Conversation::builder(&workspace, streamed).start();
    let conversation = conversation.await.unwrap();
    let mut behind = conversation.tokens();
    let mut reader = conversation.tokens();
    let reads = tokio::spawn(async move {
        let mut read = String::new();
        loop {
            match timeout(LONG, reader.next()).await.unwrap().unwrap() {
                Token::Text { content, .. } => read.push_str(&content),
                Token::Finished { .. } => return read,
                Token::Lagged { .. } => panic!("a reader that reads has lagged"),
                _ => {}
            }
        }
    });
    conversation.send("Write.").await.unwrap();
    let outcome = runs(&conversation).await;
    assert!(outcome.is_finished(), "{outcome}");
    assert!(
        timeout(LONG, reads).await.unwrap().unwrap() == text,
        "all pieces, in order"
    );
    let (mut read, mut lagged, mut started) = (String::new(), 0, 0);
    let item = loop {
        match timeout(LONG, behind.next()).await.unwrap().unwrap() {
            Token::Started { .. } => started += 1,
            Token::Text { content, .. } => {
                assert_eq!(lagged, 0, "no piece after the loss");
                read.push_str(&content);
            }
            Token::Lagged { .. } => lagged += 1,
            Token::Finished { item_id } => break item_id,
            _ => {}
        }
    };
    assert_eq!((started, lagged), (1, 1));
    assert!(text.starts_with(&read) && read.len() < text.len());
    // The log has the whole text.
    let events = conversation.events();
    let said = events.iter().find(|event| event.id() == &*item).unwrap();
    assert!(String::from_utf8_lossy(said.raw()).contains(&text));
}

/// A title that changed during an outage arrives with a connection that also sets the policy
/// again.
pub(crate) async fn a_title_that_changes_during_an_outage(stage: &Stage) {
    let scene = Scene::start(stage, "title", never(), Script::new()).await;
    let always = ConfirmationPolicy::always();
    scene.near.approvals().set_policy(always).await.unwrap();
    scene.proxy.refuse().await;
    until(|| scene.near.link().status() != LinkStatus::Live).await;
    scene.other.title().set("Made meanwhile").await.unwrap();
    scene.proxy.accept().await.unwrap();
    let title = || scene.near.state().title();
    until(|| title().as_deref() == Some("Made meanwhile")).await;
}

/// Readers skip events that the server cannot read. If the server fails because of such an event,
/// the caller gets an error with the reason, and does not wait for ever.
#[tokio::test]
async fn events_that_the_server_cannot_read_are_passed_over_or_an_error() {
    let script = Script::new().finish("Done.").finish("More.");
    let model = ScriptedModel::start(script).await.unwrap();
    let home = openhands_tests::home();
    let state = tempfile::tempdir().unwrap();
    let start = || {
        let server = openhands_tests::server(&home);
        server.state_dir(state.path()).start()
    };
    let server = start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir().display().to_string());
    let conversation = Conversation::builder(&workspace, agent(&model)).start();
    let conversation = conversation.await.unwrap();
    let id = conversation.id();
    conversation.send("Go.").await.unwrap();
    assert!(runs(&conversation).await.is_finished());
    conversation.close().await.unwrap();
    // As after a power cut.
    let lose = |events: &[Event], kind: &str, skip: usize| {
        let mut indices = (0..events.len()).filter(|index| events[*index].kind() == kind);
        let index = indices.nth(skip).unwrap();
        let directory = state.path().join("conversations");
        let directory = directory.join(id.to_string().replace('-', ""));
        let file = format!("events/event-{index:05}-{}.json", events[index].id());
        let file = directory.join(file);
        assert!(file.exists(), "{}", file.display());
        fs::write(file, "").unwrap();
        events[index].id().to_owned()
    };
    let all = events(server.client(), id).await;
    server.shutdown(Duration::from_secs(20)).await.unwrap();
    let lost = [0, 1].map(|n| lose(&all, "ConversationStateUpdateEvent", n));

    let server = start().await.unwrap();
    let expected = log(server.client(), id).await;
    assert!(lost.iter().all(|id| !expected.contains(id)), "{expected:?}");
    // The server counts and numbers them.
    let whole = Conversation::attach(server.client(), id).await.unwrap();
    let count = whole.log().search().count().await.unwrap();
    assert_eq!(count, expected.len() as u64 + 2);
    let last = whole.events().len() - 1;
    assert_eq!(whole.events().seq(last), Some(count - 1));
    whole.close().await.unwrap();
    for attach in [
        Conversation::attach(server.client(), id),
        Conversation::attach(server.client(), id).tail(3),
        Conversation::attach(server.client(), id).from(Cursor::After(0)),
    ] {
        let attached = timeout(LONG, attach).await.unwrap().unwrap();
        reads(&attached, &expected).await;
        attached.close().await.unwrap();
    }
    // The agent needs all events.
    let attached = Conversation::attach(server.client(), id).await.unwrap();
    refused(&attached.send("And?").await.unwrap_err(), &lost);
    attached.close().await.unwrap();
    server.shutdown(Duration::from_secs(20)).await.unwrap();

    let lost = lose(&all, "MessageEvent", 0);
    let server = start().await.unwrap();
    for attach in [
        Conversation::attach(server.client(), id),
        Conversation::attach(server.client(), id).tail(3),
        Conversation::attach(server.client(), id).live(),
    ] {
        let error = timeout(LONG, attach).await.unwrap().unwrap_err();
        refused(&error, std::slice::from_ref(&lost));
    }
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}

/// Checks that an error contains the server's words, which name one of these events.
fn refused(error: &openhands::conversation::Error, events: &[String]) {
    println!("{error}");
    let wire = error.transport_error().and_then(|wire| wire.status());
    assert_eq!(wire.map(|status| status.as_u16()), Some(500), "{error}");
    let reported = error.to_string();
    assert!(events.iter().any(|id| reported.contains(id)), "{error}");
}
