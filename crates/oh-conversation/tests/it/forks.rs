//! Tests of forks: what they inherit, and how a fork with a lost answer is found.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use oh_conversation::{
    ClientTool, ClientToolCall, Conversation, Cursor, ErrorKind, LinkStatus, RunStatus,
};
use oh_protocol::{
    ConversationId,
    calls::conversations::SetConfirmationPolicy,
    config::{Agent, ConfirmationPolicy, Llm},
};
use oh_testkit::{FakeServer, Fault, Script, Step};
use oh_transport::Client;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    mock::Place,
    policies::{acts, attach_waiting},
};

const FORK: &str = "/api/conversations/{id}/fork";
const SOON: Duration = Duration::from_secs(30);

async fn attached(server: &FakeServer) -> Conversation {
    let client = Client::builder(server.url())
        .session_api_key(server.session_api_key())
        .build()
        .unwrap();
    let fake = server.create();
    fake.fill(3, 100).await;
    Conversation::attach(&client, fake.id())
        .keep_last(1_000)
        .reconnect_after(Duration::from_millis(1), Duration::from_millis(5))
        .lease_limit(Duration::from_millis(50))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_fork_has_the_options_of_the_original_link() {
    let server = FakeServer::start().await.unwrap();
    let conversation = attached(&server).await;
    let copy = conversation.branches().fork().await.unwrap();
    let fake = server.conversation(copy.id()).unwrap();
    fake.fill(1_500, 10).await;
    let last = fake.events().last().unwrap().id().to_owned();
    let mut events = copy.subscribe(Cursor::Start);
    loop {
        let event = timeout(SOON, events.next()).await.unwrap();
        if event.unwrap().unwrap().id() == last {
            break;
        }
    }
    let held = copy.events().len();
    assert!(held <= 1_250, "{held} events are held");
    // With the default time limit, this takes a minute and a half.
    fake.lease_away();
    fake.close_sockets(1012, "");
    let ended = async {
        loop {
            if let Err(error) = events.next().await.unwrap() {
                return error;
            }
        }
    };
    let error = timeout(SOON, ended).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Leased);
}

#[tokio::test]
async fn a_fork_whose_response_was_lost_is_found_and_created_once() {
    let server = FakeServer::start().await.unwrap();
    let conversation = attached(&server).await;
    server.inject(Fault::lost_answer().on(FORK).times(1));
    let copy = timeout(SOON, conversation.branches().fork().into_future());
    let copy = copy.await.unwrap().unwrap();
    assert_eq!(server.requests_to("POST", FORK).len(), 1);
    assert_eq!(server.conversations().len(), 2);
    assert_eq!(copy.events().len(), conversation.events().len());
}

#[tokio::test]
async fn a_fork_that_the_server_does_not_show_is_ambiguous_and_keeps_its_id() {
    let server = FakeServer::start().await.unwrap();
    let conversation = attached(&server).await;
    server.inject(Fault::lost_answer().on(FORK).times(1));
    let one = "/api/conversations/{id}";
    server.inject(Fault::status(404).method("GET").on(one).times(1));
    let error = timeout(SOON, conversation.branches().fork().into_future());
    let error = error.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error:?}");
    assert_ne!(error.conversation_id(), Some(conversation.id()));
    assert_eq!(server.requests_to("POST", FORK).len(), 1);

    // With an id chosen by the caller, an existing conversation proves nothing: another client may
    // have created it.
    let id = ConversationId::random();
    server.inject(Fault::lost_answer().on(FORK).times(1));
    let error = timeout(SOON, conversation.branches().fork().id(id).into_future());
    let error = error.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error:?}");
    assert_eq!(error.conversation_id(), Some(id));
}

#[tokio::test]
async fn a_fork_that_cannot_be_set_up_is_named() {
    let server = FakeServer::start().await.unwrap();
    let conversation = attached(&server).await;
    let always = ConfirmationPolicy::always();
    conversation.approvals().set_policy(always).await.unwrap();
    let policy = "/api/conversations/{id}/confirmation_policy";
    server.inject(Fault::status(400).on(policy));
    let error = timeout(SOON, conversation.branches().fork().into_future());
    let error = error.await.unwrap().unwrap_err();
    let copies = server.conversations();
    let copy = copies.iter().find(|it| it.id() != conversation.id());
    assert_eq!(error.conversation_id(), copy.map(|copy| copy.id()));
}

/// The log of a copy up to an action does not show that a policy has asked for it.
#[tokio::test]
async fn an_action_that_waits_in_the_original_also_waits_in_a_copy() {
    let server = FakeServer::builder().script(acts()).start().await.unwrap();
    let (_fake, conversation) = attach_waiting(&server).await;
    let approvals = conversation.approvals();
    let waiting = approvals.pending();
    assert_eq!(waiting.len(), 1);
    let never = ConfirmationPolicy::never();
    approvals.set_policy(never).await.unwrap();
    let copy = conversation.branches().fork().from_event(waiting[0].id());
    let copy = copy.await.unwrap();
    let outcome = timeout(SOON, copy.run()).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    assert_eq!(copy.approvals().pending(), waiting);
    assert!(server.executed().is_empty(), "{:?}", server.executed());
}

#[tokio::test]
async fn a_fork_has_the_policy_that_has_not_arrived_in_the_original() {
    let script = Script::new()
        .step(Step::call("terminal", json!({"command": "echo one"})))
        .finish("Done.");
    let server = FakeServer::builder().script(script).start().await.unwrap();
    let conversation = attached(&server).await;
    conversation.send("Go.").await.unwrap();
    server.inject(Fault::status(502).on("/sockets/session/{id}"));
    let fake = server.conversation(conversation.id()).unwrap();
    fake.cut_sockets();
    while conversation.link().status() != LinkStatus::Connecting {
        sleep(Duration::from_millis(1)).await;
    }
    let set = SetConfirmationPolicy::new(fake.id(), ConfirmationPolicy::always());
    server.client().unwrap().call(&set).await.unwrap();
    let fork = timeout(SOON, conversation.branches().fork().into_future());
    let copy = fork.await.unwrap().unwrap();
    server.heal();
    _ = timeout(SOON, copy.run().into_future()).await.unwrap();
    let executed = server.conversation(copy.id()).unwrap().executed();
    assert!(executed.is_empty(), "{executed:?}");
}

#[tokio::test]
async fn no_result_of_a_client_tool_starts_a_run_of_a_fork_without_its_settings() {
    let script = Script::new()
        .step(Step::call("ask", json!({})))
        .forever(|script| script.finish("Done."));
    let server = FakeServer::builder().script(script).start().await.unwrap();
    let answers = Arc::new(AtomicBool::new(false));
    let tool = {
        let answers = answers.clone();
        ClientTool::new("ask", "Asks.", move |_: ClientToolCall| {
            let answers = answers.load(Ordering::Acquire);
            async move {
                if !answers {
                    std::future::pending::<()>().await;
                }
                Ok("An answer.")
            }
        })
    };
    let place = Place(server.client().unwrap());
    let llm = || Llm::new("m").api_key("k");
    let first = Conversation::builder(&place, Agent::new(llm())).client_tool(tool.clone());
    let first = first.await.unwrap();
    first.send("Go.").await.unwrap();
    let run = first.run().timeout(Duration::from_millis(500));
    _ = run.await.unwrap();
    first.close().await.unwrap();
    let original = Conversation::attach(&server.client().unwrap(), first.id())
        .client_tool(tool)
        .resume_client_tools()
        .await
        .unwrap();
    sleep(Duration::from_millis(200)).await;
    answers.store(true, Ordering::Release);
    let switch = "/api/conversations/{id}/switch_llm";
    server.inject(Fault::delay(Duration::from_secs(1)).on(switch));
    let fork = original.branches().fork().llm(llm()).into_future();
    let copy = timeout(SOON, fork).await.unwrap().unwrap();
    let of_copy = |path: &str| {
        let path = format!("{}/{path}", copy.id());
        let requests = server.requests();
        let texts = requests.iter().map(|seen| format!("{seen:?}"));
        texts.map(move |it| it.contains(&path)).collect::<Vec<_>>()
    };
    // The model has been switched by now, and no request could arrive since.
    assert!(!of_copy("run").contains(&true), "{:?}", server.requests());
    while !of_copy("run").contains(&true) {
        sleep(Duration::from_millis(5)).await;
    }
}
