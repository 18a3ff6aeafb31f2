//! Conversations that do not run in containers, and a server that prepares for a pause.

use oh_conversation::{Conversation, Conversations, ErrorKind};
use oh_testkit::FakeServer;

#[tokio::test]
async fn a_conversation_without_a_container_has_no_key_to_give_and_nothing_to_release() {
    let fake = FakeServer::start().await.unwrap();
    let client = fake.client().unwrap();
    let id = fake.create().id();
    let conversation = Conversation::attach(&client, id).await.unwrap();
    let runtime = conversation.runtime();
    for error in [
        runtime.session_api_key().await.unwrap_err(),
        runtime.release().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(
            error.to_string().contains("does not run in a container"),
            "{error}"
        );
    }
    let secrets = conversation.secrets();
    let error = secrets
        .bind("OTHER", "http://h", [("A", "b")])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = secrets
        .bind("A/B", "http://h", [("A", "b")])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn a_prepared_pause_closes_conversations_that_can_be_attached_again() {
    let fake = FakeServer::start().await.unwrap();
    let client = fake.client().unwrap();
    let id = fake.create().id();
    let conversation = Conversation::attach(&client, id).await.unwrap();
    conversation.close().await.unwrap();
    Conversations::of(&client).prepare_pause().await.unwrap();
    let conversation = Conversation::attach(&client, id).await.unwrap();
    assert_eq!(conversation.id(), id);
}
