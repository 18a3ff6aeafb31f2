//! Child conversations.

use openhands::{
    Conversation, LocalServer, WorkspaceExt, conversation::ErrorKind,
    protocol::calls::conversations::Isolation,
};
use tokio::time::timeout;

use super::{LONG, agent, is_old, messages, options::git, says, started};

pub(super) async fn children_are_started_awaited_and_listed(server: &LocalServer) {
    let model = says("Done.").await;
    let conversation = started(server, &model).await;
    if is_old(server).await {
        let error = conversation.children().start("Count.").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(conversation.children().list().await.unwrap().is_empty());
        return conversation.close().await.unwrap();
    }
    let child = conversation
        .children()
        .start("Count to three.")
        .title("Counting")
        .isolation(Isolation::Shared)
        .await
        .unwrap();
    assert_eq!(child.started().parent_conversation_id, conversation.id());
    assert_eq!(child.started().title.as_deref(), Some("Counting"));
    let ended = timeout(LONG, child.join()).await.unwrap().unwrap();
    assert!(ended.is_finished(), "{ended}");
    assert_eq!(messages(&child.events()), ["Count to three.", "Done."]);
    assert_eq!(child.agent().final_response().await.unwrap(), "Done.");
    let children = conversation.children().list().await.unwrap();
    let ids: Vec<_> = children.iter().map(|child| child.id()).collect();
    assert_eq!(ids, [child.id()]);
    assert!(conversation.children().start(" ").await.is_err());
    child.close().await.unwrap();
    conversation.close().await.unwrap();

    // A worktree needs a commit. For a repository without one, the server returns an error.
    let place = tempfile::tempdir().unwrap();
    git(place.path(), false);
    let workspace = server.workspace(place.path().to_str().unwrap());
    let conversation = Conversation::builder(&workspace, agent(&model))
        .start()
        .await
        .unwrap();
    let error = conversation
        .children()
        .start("Too early.")
        .await
        .unwrap_err();
    let status = error.transport_error().and_then(|error| error.status());
    assert_eq!(status.map(|status| status.as_u16()), Some(500), "{error:?}");
    assert!(conversation.children().list().await.unwrap().is_empty());
    git(place.path(), true);
    let child = conversation
        .children()
        .start("In a separate directory.")
        .await
        .unwrap();
    assert_eq!(child.started().isolation, Some(Isolation::Worktree));
    assert_ne!(child.started().workspace.as_deref(), place.path().to_str());
    let ended = timeout(LONG, child.join()).await.unwrap().unwrap();
    assert!(ended.is_finished(), "{ended}");
    child.into_conversation().delete().await.unwrap();
    conversation.close().await.unwrap();
}
