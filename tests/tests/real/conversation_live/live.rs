//! Conversations on the real server: through a proxy that cuts connections, with a second client,
//! with approvals, with an event too large for a frame, and across a kill -9.

use std::{
    collections::HashSet, future::poll_fn, net::SocketAddr, path::Path, pin::pin, process::Command,
    time::Duration,
};

use futures_core::Stream as _;
use openhands::{
    Agent, Client, Conversation, Cursor, Payload, RunStatus, WorkspaceExt,
    conversation::{Conversations, ErrorKind},
    process::{RestartPolicy, Status},
    protocol::{ConversationId, Event, calls, config::Llm},
    testkit::{Link, Proxy, Script, ScriptedModel, Step},
};
use secrecy::SecretString;
use serde_json::json;
use tokio::time::timeout;

use super::stage::until;

/// A duration longer than any operation takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) fn llm(model: &ScriptedModel, name: &str) -> Llm {
    Llm::new(name)
        .base_url(model.base_url())
        .api_key("scripted")
        // On a busy machine the server may need too long to connect to the model. Without another
        // attempt the run would end with an error.
        .num_retries(5)
        .retry_min_wait(Duration::from_secs(1))
        .retry_max_wait(Duration::from_secs(2))
}

pub(crate) fn agent(model: &ScriptedModel) -> Agent {
    Agent::default_preset(llm(model, ScriptedModel::MODEL)).cli_mode(true)
}

/// Returns the events of the log, read by REST.
pub(crate) async fn events(client: &Client, id: ConversationId) -> Vec<Event> {
    let mut events = Vec::new();
    let mut search = calls::events::Search::new(id);
    loop {
        let page = client.call(&search).await.unwrap();
        events.extend(page.items);
        match page.next_page_id {
            Some(next) => search = calls::events::Search::new(id).page_id(next),
            None => return events,
        }
    }
}

/// Returns the ids of all events of a log.
pub(crate) async fn log(client: &Client, id: ConversationId) -> Vec<String> {
    let events = events(client, id).await;
    events.iter().map(|event| event.id().to_owned()).collect()
}

/// Reads a stream until it has returned these events, each once and in this order.
pub(crate) async fn reads(conversation: &Conversation, expected: &[String]) {
    let mut events = pin!(conversation.subscribe(Cursor::Start));
    for id in expected {
        let next = poll_fn(|cx| events.as_mut().poll_next(cx));
        let event: Event = timeout(LONG, next).await.unwrap().unwrap().unwrap();
        assert_eq!(event.id(), id);
    }
}

#[tokio::test]
async fn events_survive_a_cutting_proxy_a_second_client_and_a_stalled_reader() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let place = Place {
        address: server.address(),
        key: server.session_api_key(),
        directory: server.workspace_dir().display().to_string(),
        state: Some(server.state_dir()),
    };
    events_survive(server.client(), place).await;
    server.shutdown(Duration::from_secs(10)).await.unwrap();
}

/// Parts of a server that a test needs in addition to a client.
pub(crate) struct Place<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) key: &'a SecretString,
    /// A directory that the agent may write to.
    pub(crate) directory: String,
    /// The server's state, if the server has only the conversations of the test.
    pub(crate) state: Option<&'a Path>,
}

pub(crate) async fn events_survive(client: &Client, place: Place<'_>) {
    let mut script = Script::new();
    for n in 0..12 {
        let command = format!("echo step {n}; head -c 9000 /dev/zero | tr '\\0' x");
        script = script.call("terminal", json!({ "command": command }));
    }
    let titles = Script::new().forever(|s| s.step(Step::text("\"Twelve steps\"")));
    let model = ScriptedModel::builder()
        .script(script.finish("All done."))
        .model("title-model", titles)
        .start()
        .await
        .unwrap();
    let proxy = Proxy::start(place.address).await.unwrap();
    let mut dice: u64 = std::process::id().into();
    println!("dice {dice}");
    proxy.links(move |_| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        match (dice >> 33) % 3 {
            0 => Link::new(),
            _ => Link::new().cut_after(2_000 + (dice >> 33) % 90_000),
        }
    });
    let flaky = Client::builder(proxy.url())
        .session_api_key(place.key.clone())
        .build()
        .unwrap();
    let workspace = flaky.workspace(&place.directory);
    let conversation = Conversation::builder(&workspace, agent(&model))
        .start()
        .await
        .unwrap();
    // A reader that never reads, a slow callback, and a separate client.
    let stalled = conversation.subscribe(Cursor::Start);
    let slow = conversation.on_event_blocking(|_| std::thread::sleep(Duration::from_millis(2)));
    let second = Conversation::attach(client, conversation.id())
        .await
        .unwrap();

    conversation.send("Take twelve steps.").await.unwrap();
    let cutter = async {
        loop {
            tokio::time::sleep(Duration::from_millis(700)).await;
            proxy.cut();
        }
    };
    let outcome = tokio::select! {
        outcome = timeout(LONG, conversation.run()) => outcome.unwrap().unwrap(),
        () = cutter => unreachable!(),
    };
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();

    let ids = log(client, conversation.id()).await;
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    reads(&conversation, &ids).await;
    reads(&second, &ids).await;
    println!("{} events, {} connections", ids.len(), proxy.accepted());
    assert!(proxy.accepted() > 5, "the proxy should have cut");
    assert!(
        !conversation
            .events()
            .iter()
            .any(|event| matches!(event.payload(), Payload::Malformed(_)))
    );
    slow.cancel().await;
    drop(stalled);

    // Another model generates the title, and leaves no trace in the conversation.
    let title = conversation
        .title()
        .generate()
        .llm(llm(&model, "openai/title-model"))
        .max_length(60);
    assert_eq!(timeout(LONG, title).await.unwrap().unwrap(), "Twelve steps");
    if let Some(state) = place.state {
        let kept = std::fs::read_dir(state.join("conversations")).map(Iterator::count);
        assert!(
            kept.is_err() || kept.unwrap() == 1,
            "a helper was left behind"
        );
    }

    // An event above the frame limit, sent by the other client.
    second.send("x".repeat(5 * 1024 * 1024)).await.unwrap();
    second.send("small").await.unwrap();
    let ids = log(client, conversation.id()).await;
    reads(&conversation, &ids).await;
    reads(&second, &ids).await;
    let fresh = Conversation::attach(client, conversation.id())
        .await
        .unwrap();
    reads(&fresh, &ids).await;

    // Secrets reach the agent's commands. The list contains this conversation.
    conversation
        .secrets()
        .set([("TOKEN", "canary")])
        .await
        .unwrap();
    let mut all = pin!(Conversations::of(client).list());
    let mut found = Vec::new();
    while let Some(info) = poll_fn(|cx| all.as_mut().poll_next(cx)).await {
        found.push(info.unwrap().id());
    }
    match place.state {
        Some(_) => assert_eq!(found, [conversation.id()]),
        None => assert!(found.contains(&conversation.id())),
    }

    conversation.close().await.unwrap();
    second.delete().await.unwrap();
    let error = Conversation::attach(client, second.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
}

#[tokio::test]
async fn approvals_survive_a_kill_during_a_run() {
    let script = Script::new()
        .call("terminal", json!({"command": "touch rejected"}))
        .call("terminal", json!({"command": "touch approved"}))
        .finish("Approved.")
        .call("terminal", json!({"command": "touch sleeping; sleep 300"}))
        .finish("Slept on.");
    let other = Script::new()
        .call("terminal", json!({"command": "touch other; sleep 300"}))
        .finish("Woken.");
    let model = ScriptedModel::builder()
        .script(script)
        .model("other", other)
        .start()
        .await
        .unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home)
        .restart(RestartPolicy::on_failure(3))
        .start()
        .await
        .unwrap();
    let directory = server.workspace_dir().to_owned();
    let workspace = server.workspace(directory.display().to_string());
    let conversation = Conversation::builder(&workspace, agent(&model))
        .always_confirm()
        // Restarting the server takes a while on a busy machine.
        .unreachable_after(LONG)
        .start()
        .await
        .unwrap();

    conversation.send("Touch two files.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert_eq!(
        outcome.status(),
        RunStatus::WaitingForConfirmation,
        "{outcome}"
    );
    let error = conversation.send("no, wait").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation);
    let approvals = conversation.approvals();
    let pending = approvals.pending();
    assert_eq!(pending.len(), 1);
    approvals.reject(&pending, "not this one").await.unwrap();
    // An answered action cannot be answered again.
    let error = approvals.approve(&pending).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert_eq!(
        outcome.status(),
        RunStatus::WaitingForConfirmation,
        "{outcome}"
    );
    approvals.approve(&approvals.pending()).await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    // The finish action itself needs no approval.
    assert!(outcome.is_finished(), "{outcome}");
    assert!(directory.join("approved").exists() && !directory.join("rejected").exists());

    // The server is killed while a tool is running.
    conversation.send("Sleep.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert_eq!(
        outcome.status(),
        RunStatus::WaitingForConfirmation,
        "{outcome}"
    );
    approvals.approve(&approvals.pending()).await.unwrap();
    let other = Agent::default_preset(llm(&model, "openai/other")).cli_mode(true);
    // It is back as soon as the server is, however long it would wait by itself.
    let hour = Duration::from_secs(3600);
    let other = Conversation::builder(&workspace, other)
        .unreachable_after(LONG)
        .reconnect_after(hour, hour)
        .start()
        .await
        .unwrap();
    other.send("Sleep.").await.unwrap();
    let [approved, plain] = [&conversation, &other].map(|conversation| {
        let conversation = conversation.clone();
        tokio::spawn(async move { conversation.run().await })
    });
    let sleep = || ["sleeping", "other"].map(|name| directory.join(name).exists());
    until(|| sleep() == [true; 2]).await;
    until(|| other.events().of_kind("ActionEvent").next().is_some()).await;
    let pid = server.pid();
    let killed = Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let mut status = server.status();
    let back = status.wait_for(|status| *status == Status::Ready && server.pid() != pid);
    timeout(LONG, back).await.unwrap().unwrap();
    let outcome = timeout(LONG, plain).await.unwrap().unwrap().unwrap();
    let shown: Vec<_> = other.events().iter().map(ToString::to_string).collect();
    assert_eq!(outcome.status(), RunStatus::Error, "{outcome}: {shown:#?}");
    let outcome = timeout(LONG, other.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    // The server saves its state when a step ends, so after the kill its status is older than its
    // log. Usually it requests the approval again. The wait must end in any case.
    let outcome = timeout(LONG, approved).await.unwrap().unwrap().unwrap();
    assert_ne!(outcome.status(), RunStatus::StillRunning, "{outcome}");
    let pending = approvals.pending();
    assert_eq!(
        outcome.status() == RunStatus::WaitingForConfirmation,
        !pending.is_empty(),
        "{outcome}"
    );
    if !pending.is_empty() {
        let reason = "no more of this";
        approvals.reject(&pending, reason).await.unwrap();
    }
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    for conversation in [&conversation, &other] {
        let ids = log(server.client(), conversation.id()).await;
        reads(conversation, &ids).await;
    }
    other.delete().await.unwrap();
    conversation.delete().await.unwrap();
    server.shutdown(Duration::from_secs(10)).await.unwrap();
}
