//! Positions in the log, branches and copies.

use openhands::{Conversation, LocalServer, conversation::ErrorKind};

use super::{finishes, is_old, llm, messages, says, started};

pub(super) async fn branches_and_forks(server: &LocalServer) {
    let model = says("An answer.").await;
    let conversation = started(server, &model).await;
    conversation.send("First.").await.unwrap();
    finishes(&conversation).await;
    let head = conversation.branch().last().unwrap().clone();
    assert_eq!(conversation.head().as_deref(), Some(head.id()));
    conversation.send("Second.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(conversation.final_response().await.unwrap(), "An answer.");
    assert_eq!(
        messages(&conversation.branch()),
        ["First.", "An answer.", "Second.", "An answer."]
    );

    conversation.navigate(head.id()).await.unwrap();
    assert_eq!(messages(&conversation.branch()), ["First.", "An answer."]);
    conversation.send("Third.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(
        messages(&conversation.branch()),
        ["First.", "An answer.", "Third.", "An answer."]
    );
    // The events of the other branch are still in the log.
    assert!(messages(&conversation.events()).contains(&"Second.".to_owned()));
    // A client that attaches later sees the same branch.
    let other = Conversation::attach(server.client(), conversation.id())
        .await
        .unwrap();
    assert_eq!(messages(&other.branch()), messages(&conversation.branch()));
    other.close().await.unwrap();

    let fork = conversation
        .fork()
        .title("A copy")
        .tags([("copy", "1")])
        .from_event(head.id())
        .await
        .unwrap();
    assert_ne!(fork.id(), conversation.id());
    assert!(fork.origin().is_new());
    assert_eq!(messages(&fork.branch()), ["First.", "An answer."]);
    let info = fork.info().await.unwrap();
    assert_eq!(info.title().unwrap(), "A copy");
    // Older servers also keep the title in the tags.
    let mut tags = info.state().tags();
    assert_eq!(tags.remove("title").is_some(), is_old(server).await);
    assert_eq!(tags, [("copy".to_owned(), "1".to_owned())].into());
    let error = conversation.fork().id(fork.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // The server does not copy the key. With a model, the copy can continue.
    let fork = conversation.fork().llm(llm(&model)).await.unwrap();
    fork.send("Fourth.").await.unwrap();
    finishes(&fork).await;
    assert_eq!(messages(&fork.branch()).len(), 6);
    assert_eq!(messages(&conversation.branch()).len(), 4);

    conversation.navigate_to_start().await.unwrap();
    assert!(conversation.branch().is_empty());
    assert_eq!(conversation.head(), None);
    conversation.send("Again.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(messages(&conversation.branch()), ["Again.", "An answer."]);
    fork.close().await.unwrap();
    conversation.close().await.unwrap();
}

pub(super) async fn an_unknown_event_is_told_and_nothing_moves(server: &LocalServer) {
    let model = says("An answer.").await;
    let conversation = started(server, &model).await;
    conversation.send("First.").await.unwrap();
    finishes(&conversation).await;
    let before = (conversation.head(), conversation.events().len());
    let error = conversation.navigate("no-such-event").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = conversation
        .fork()
        .from_event("no-such-event")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = conversation.fetch_event("no-such-event").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(before, (conversation.head(), conversation.events().len()));
    // A deleted conversation is a different error.
    conversation.delete().await.unwrap();
    let error = conversation.navigate("no-such-event").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
}
