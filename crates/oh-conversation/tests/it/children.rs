//! Tests that no child is started without the policy in effect: the server runs a child under the
//! policy of its parent's creation.

use oh_conversation::{Conversation, ErrorKind};
use oh_protocol::config::ConfirmationPolicy;
use oh_testkit::FakeServer;
use oh_transport::{Error, ErrorKind as Wire};

use crate::{
    mock::{attached, soon},
    policies::{acts, attach, policy},
};

#[tokio::test(start_paused = true)]
async fn no_child_is_started_without_a_policy_that_has_not_arrived() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    dial.peer.end(Error::closed(1012, "")).await.unwrap();
    let _silent = soon(dials.recv()).await.unwrap();
    policy(&mock, "AlwaysConfirm");
    let child = conversation.children().start("x").into_future();
    let error = soon(child).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(mock.seen("POST /children"), 0);
}

/// A policy that the server has not confirmed is not in its log.
#[tokio::test(start_paused = true)]
async fn no_child_is_started_without_a_policy_whose_response_was_lost() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    for _ in 0..100 {
        mock.plan("/confirmation_policy", Err(Wire::Interrupted));
    }
    let always = ConfirmationPolicy::always();
    let set = soon(conversation.approvals().set_policy(always)).await;
    set.unwrap_err();
    let child = conversation.children().start("x").into_future();
    let error = soon(child).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(mock.seen("POST /children"), 0);
}

#[tokio::test]
async fn no_child_is_started_that_would_not_have_the_policy() {
    let server = FakeServer::builder().script(acts()).start().await.unwrap();
    let (fake, conversation) = attach(&server).await;
    let approvals = conversation.approvals();
    approvals
        .set_policy(ConfirmationPolicy::always())
        .await
        .unwrap();
    let error = conversation.children().start("x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // Another handle, which has only the newest events and has set no policy.
    fake.fill(200, 10).await;
    let client = oh_transport::Client::builder(server.url());
    let client = client.session_api_key(server.session_api_key());
    let client = client.build().unwrap();
    let other = Conversation::attach(&client, fake.id()).live().await;
    let other = other.unwrap();
    let error = other.children().start("x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let children = "/api/conversations/{id}/children";
    assert!(server.requests_to("POST", children).is_empty());
    // The reason on such a server: it starts a child under the policy of the creation.
    let call = oh_protocol::calls::conversations::StartChild::new(fake.id(), "x");
    let child = client.call(&call).await.unwrap().conversation_id;
    let child = server.conversation(child).unwrap();
    child.idle().await;
    assert!(!child.executed().is_empty());
    // Without an asking policy, and under one from the creation, children are started.
    approvals
        .set_policy(ConfirmationPolicy::never())
        .await
        .unwrap();
    conversation.children().start("x").await.unwrap();
}

#[tokio::test]
async fn a_child_has_the_policy_with_which_its_parent_was_created() {
    let server = FakeServer::builder().script(acts()).start().await.unwrap();
    let place = crate::mock::Place(server.client().unwrap());
    let llm = oh_protocol::config::Llm::new("m").api_key("k");
    let parent = Conversation::builder(&place, oh_protocol::config::Agent::new(llm))
        .always_confirm()
        .start()
        .await
        .unwrap();
    let child = parent.children().start("x").await.unwrap();
    _ = child.join().await.unwrap();
    assert_eq!(child.approvals().pending().len(), 1);
    let executed = server.conversation(child.id()).unwrap().executed();
    assert!(executed.is_empty(), "{executed:?}");
}
