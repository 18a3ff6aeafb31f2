//! A conversation with as many sockets as its server allows. One more client waits and loses no
//! events.

use std::{error::Error as _, time::Duration};

use openhands::{
    Conversation, WorkspaceExt,
    conversation::LinkStatus,
    testkit::{Script, ScriptedModel},
    transport::{self, Socket},
};
use tokio::time::{sleep, timeout};

use super::live::{LONG, agent, log, reads};

/// A number of sockets that exceeds the limit of any server.
const MANY: usize = 80;

#[tokio::test]
async fn a_client_without_a_free_socket_waits_and_loses_nothing() {
    let script = Script::new().text("One.").text("Two.");
    let model = ScriptedModel::start(script).await.unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir().display().to_string());
    let first = Conversation::builder(&workspace, agent(&model))
        .start()
        .await
        .unwrap();
    first.send("Count.").await.unwrap();
    assert!(first.run().await.unwrap().is_finished());

    let path = format!("/sockets/session/{}", first.id());
    let mut crowd: Vec<Socket> = Vec::new();
    while crowd.len() < MANY {
        let mut socket = server.client().socket(&path).await.unwrap();
        match timeout(LONG, socket.recv()).await.unwrap() {
            Ok(_) => crowd.push(socket),
            Err(error) => {
                assert_eq!(error.close_code(), Some(1013), "{error}");
                break;
            }
        }
    }
    assert!(
        (40..MANY).contains(&crowd.len()),
        "{} found a place",
        crowd.len()
    );

    let second = Conversation::attach(server.client(), first.id())
        .reconnect_after(Duration::from_millis(200), Duration::from_secs(1))
        .await
        .unwrap();
    assert_ne!(second.link().status(), LinkStatus::Live);
    let last_error = second.link().last_error().unwrap();
    let why = last_error.source().and_then(|why| why.downcast_ref());
    assert_eq!(
        why.and_then(transport::Error::close_code),
        Some(1013),
        "{last_error:?}"
    );
    // The waiting client can send, and the connected clients receive the answer.
    second.send("Go on.").await.unwrap();
    assert!(
        timeout(LONG, first.run())
            .await
            .unwrap()
            .unwrap()
            .is_finished()
    );

    drop(crowd);
    let live = async {
        while second.link().status() != LinkStatus::Live {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, live).await.unwrap();
    let expected = log(server.client(), first.id()).await;
    reads(&second, &expected).await;
    reads(&first, &expected).await;
    assert!(second.link().last_error().is_none());
    first.close().await.unwrap();
    second.close().await.unwrap();
    model.verify().unwrap();
    server.shutdown(Duration::from_secs(10)).await.unwrap();
}
