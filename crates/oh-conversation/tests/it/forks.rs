//! Tests of forks: what they inherit, and how a fork with a lost answer is found.

use std::time::Duration;

use oh_conversation::{Conversation, Cursor, ErrorKind, RunStatus};
use oh_protocol::{ConversationId, config::ConfirmationPolicy};
use oh_testkit::{FakeServer, Fault};
use oh_transport::Client;
use tokio::time::timeout;

use crate::policies::acts;

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
    let fake = server.create();
    let client = server.client().unwrap();
    let conversation = Conversation::attach(&client, fake.id()).await.unwrap();
    let approvals = conversation.approvals();
    let always = ConfirmationPolicy::always();
    approvals.set_policy(always).await.unwrap();
    conversation.send("Go.").await.unwrap();
    _ = conversation.run().await.unwrap();
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
