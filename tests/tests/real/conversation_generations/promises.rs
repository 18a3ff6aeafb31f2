//! Checks the same guarantees on two generations of servers: one with the session socket, and an
//! older one whose socket only notifies, so that events are read by REST.

use std::{collections::HashSet, future::poll_fn, pin::pin, process::Command, time::Duration};

use futures_core::Stream;
use openhands::{
    Agent, Client, Conversation, Cursor, RunStatus, WorkspaceExt,
    conversation::{ErrorKind, Token},
    process::{RestartPolicy, Startup, Status},
    protocol::{ConversationId, Event, calls, config::Llm},
    testkit::{Link, Proxy, Script, ScriptedModel, Step},
};
use openhands_tests::BEFORE;
use serde_json::json;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(120);

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    let next = poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_next(cx));
    timeout(LONG, next).await.unwrap()
}

/// Returns the event ids of the log, read by REST.
async fn log(client: &Client, id: ConversationId) -> Vec<String> {
    let mut ids = Vec::new();
    let mut search = calls::events::Search::new(id);
    loop {
        let page = client.call(&search).await.unwrap();
        ids.extend(page.items.iter().map(|event| event.id().to_owned()));
        match page.next_page_id {
            Some(next) => search = calls::events::Search::new(id).page_id(next),
            None => return ids,
        }
    }
}

/// Reads a stream until it has returned these events, each once and in this order.
async fn reads(conversation: &Conversation, expected: &[String]) {
    let mut events = conversation.subscribe(Cursor::Start);
    for id in expected {
        let event: Event = next(&mut events).await.unwrap().unwrap();
        assert_eq!(event.id(), id);
    }
}

async fn promises(version: &str) {
    let mut script = Script::new();
    for n in 0..8 {
        let command = format!("echo step {n}; head -c 5000 /dev/zero | tr '\\0' x");
        script = script.call("terminal", json!({ "command": command }));
    }
    script = script
        .step(Step::text("All done, word by word."))
        .call("terminal", json!({"command": "touch sleeping; sleep 300"}))
        .finish("Woken.");
    let model = ScriptedModel::start(script).await.unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server_of(version, &home)
        .restart(RestartPolicy::on_failure(3))
        .start()
        .await
        .unwrap();
    assert_eq!(server.startup(), Startup::Forked);
    let info = server.client().server_info().await.unwrap();
    assert_eq!(info.version, version);
    assert_eq!(info.has_session_socket(), version != BEFORE);

    // One client whose connections are cut, and one without disturbance.
    let proxy = Proxy::start(server.address()).await.unwrap();
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
        .session_api_key(server.session_api_key().clone())
        .build()
        .unwrap();
    let directory = server.workspace_dir().display().to_string();
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .stream(true)
        .num_retries(1);
    let agent = Agent::default_preset(llm).cli_mode(true);
    let conversation = Conversation::builder(&flaky.workspace(&directory), agent)
        .tag("kind", "test")
        .start()
        .await
        .unwrap();
    let second = Conversation::attach(server.client(), conversation.id())
        .keep_last(1_000)
        .unreachable_after(LONG)
        .await
        .unwrap();
    let mut tokens = second.tokens();
    conversation.send("Take eight steps.").await.unwrap();
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
    assert!(proxy.accepted() > 5, "the proxy should have cut");
    let ids = log(server.client(), conversation.id()).await;
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    reads(&conversation, &ids).await;
    reads(&second, &ids).await;
    // The last streamed text must be the last message.
    let mut typed = String::new();
    while !typed.ends_with("word by word.") {
        match next(&mut tokens).await.unwrap() {
            Token::Started { .. } | Token::Aborted { .. } => typed.clear(),
            Token::Text { content, .. } => typed.push_str(&content),
            _ => {}
        }
    }
    assert!(typed.ends_with("All done, word by word."), "{typed}");
    let state = conversation.state();
    assert_eq!(state.working_dir().as_deref(), Some(&*directory));
    assert_eq!(state.agent_kind().as_deref(), Some("Agent"));
    assert_eq!(state.model().as_deref(), Some(ScriptedModel::MODEL));
    assert_eq!(state.tags()["kind"], "test");
    assert_eq!(state.confirmation_policy().as_deref(), Some("NeverConfirm"));
    assert!(state.secret_names().is_empty());

    // The server is killed while a tool is running.
    second.send("Sleep.").await.unwrap();
    let sleeping = tokio::spawn({
        let second = second.clone();
        async move { second.run().await }
    });
    let mut events = second.subscribe(Cursor::Now);
    while next(&mut events).await.unwrap().unwrap().kind() != "ActionEvent" {}
    let sleeps = async {
        while !server.workspace_dir().join("sleeping").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, sleeps).await.unwrap();
    let pid = server.pid();
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
    let mut status = server.status();
    let back = status.wait_for(|status| *status == Status::Ready && server.pid() != pid);
    timeout(LONG, back).await.unwrap().unwrap();
    let outcome = timeout(LONG, sleeping).await.unwrap().unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::Error, "{outcome}");
    let outcome = timeout(LONG, second.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();
    let ids = log(server.client(), conversation.id()).await;
    reads(&second, &ids).await;
    proxy.links(|_| Link::new());
    reads(&conversation, &ids).await;
    println!(
        "{version}: {} events, {} connections",
        ids.len(),
        proxy.accepted()
    );

    second.delete().await.unwrap();
    let mut rest = pin!(conversation.subscribe(Cursor::Now));
    let gone = next(&mut rest).await.unwrap().unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Gone);
    server.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_server_with_the_session_socket_keeps_the_promises() {
    promises(openhands::process::SERVER_VERSION).await;
}

#[tokio::test]
async fn a_server_without_the_session_socket_keeps_the_same_promises() {
    promises(BEFORE).await;
}

/// Some of these servers send the first events of a run as 0, 2, 1, 3.
#[tokio::test]
async fn soak_servers_that_number_events_out_of_order_keep_the_same_promises() {
    for version in ["1.45.0", "1.50.0", "1.57.0"] {
        promises(version).await;
    }
}
