//! Two servers that share the conversations of one.

use std::time::Duration;

use openhands::{
    Conversation, Cursor,
    conversation::{ErrorKind, LinkStatus},
    process::LocalServerBuilder,
};
use tempfile::TempDir;
use tokio::time::timeout;

use super::{LONG, finishes, messages, next, says, started};

/// Starts a server of either generation.
type Serve = fn(&TempDir) -> LocalServerBuilder;

#[tokio::test]
async fn a_second_server_on_a_directory_is_distinguished_from_one_that_lost_it() {
    are_distinguished(openhands_tests::server).await;
}

#[tokio::test]
async fn a_second_server_is_distinguished_before_the_session_socket() {
    are_distinguished(openhands_tests::server_before).await;
}

async fn are_distinguished(server: Serve) {
    let (home, other_home) = (openhands_tests::home(), openhands_tests::home());
    // With different keys the second server could not decrypt the data.
    let key = "a-key-that-both-servers-have";
    let first = server(&home).secret_key(key).start().await.unwrap();
    let model = says("An answer.").await;
    let conversation = started(&first, &model).await;
    conversation.send("First.").await.unwrap();
    finishes(&conversation).await;
    let events = conversation.events().len();
    let shared = first.state_dir().join("conversations");
    assert!(shared.is_dir(), "{}", shared.display());
    // A second server started by this library on the same state directory fails to start.
    let refused = server(&other_home)
        .state_dir(first.state_dir())
        .start()
        .await;
    assert_eq!(
        refused.unwrap_err().kind(),
        openhands::process::ErrorKind::StateInUse
    );
    let state = other_home.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::symlink(&shared, state.join("conversations")).unwrap();
    let second = server(&other_home)
        .secret_key(key)
        .state_dir(&state)
        .start()
        .await
        .unwrap();
    // The conversation exists, but another live server holds it. The error says so after the
    // maximum lease time of a dead server.
    let error = match Conversation::attach(second.client(), conversation.id()).await {
        Err(error) => error,
        Ok(stranger) => {
            assert_ne!(stranger.link().status(), LinkStatus::Live);
            let mut events = stranger.subscribe(Cursor::Start);
            loop {
                if let Err(error) = next(&mut events).await.unwrap() {
                    break error;
                }
            }
        }
    };
    assert_eq!(error.kind(), ErrorKind::Leased, "{error:?}");
    // The owner of the lease is not disturbed, and no event is lost.
    conversation.send("Second.").await.unwrap();
    finishes(&conversation).await;
    assert!(conversation.events().len() > events);
    let said = ["First.", "An answer.", "Second.", "An answer."];
    assert_eq!(messages(&conversation.branches().current()), said);
    timeout(LONG, second.shutdown(Duration::from_secs(20)))
        .await
        .unwrap()
        .unwrap();
    first.shutdown(Duration::from_secs(20)).await.unwrap();
}
