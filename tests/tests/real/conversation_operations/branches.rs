//! Positions in the log, branches and copies.

use openhands::{Conversation, LocalServer, conversation::ErrorKind};

use super::{answers, finishes, is_old, llm, messages, says, started};

pub(super) async fn branches_and_forks(server: &LocalServer) {
    let model = says("An answer.").await;
    let conversation = started(server, &model).await;
    conversation.send("First.").await.unwrap();
    finishes(&conversation).await;
    let head = conversation.branches().current().last().unwrap().clone();
    assert_eq!(conversation.branches().head().as_deref(), Some(head.id()));
    answers(&conversation, "Second.", "An answer.").await;
    assert_eq!(
        messages(&conversation.branches().current()),
        ["First.", "An answer.", "Second.", "An answer."]
    );

    conversation.branches().navigate(head.id()).await.unwrap();
    assert_eq!(
        messages(&conversation.branches().current()),
        ["First.", "An answer."]
    );
    conversation.send("Third.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(
        messages(&conversation.branches().current()),
        ["First.", "An answer.", "Third.", "An answer."]
    );
    // The events of the other branch are still in the log.
    assert!(messages(&conversation.events()).contains(&"Second.".to_owned()));
    // A client that attaches later sees the same branch.
    let other = Conversation::attach(server.client(), conversation.id())
        .await
        .unwrap();
    assert_eq!(
        messages(&other.branches().current()),
        messages(&conversation.branches().current())
    );
    other.close().await.unwrap();

    let fork = conversation
        .branches()
        .fork()
        .title("A copy")
        .tags([("copy", "1")])
        .from_event(head.id())
        .await
        .unwrap();
    assert_ne!(fork.id(), conversation.id());
    assert!(fork.origin().is_new());
    assert_eq!(
        messages(&fork.branches().current()),
        ["First.", "An answer."]
    );
    let info = fork.info().await.unwrap();
    assert_eq!(info.title().unwrap(), "A copy");
    // Older servers also keep the title in the tags.
    let mut tags = info.state().tags();
    assert_eq!(tags.remove("title").is_some(), is_old(server).await);
    assert_eq!(tags, [("copy".to_owned(), "1".to_owned())].into());
    let error = conversation
        .branches()
        .fork()
        .id(fork.id())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // The server does not copy the key. With a model, the copy can continue.
    let fork = conversation
        .branches()
        .fork()
        .llm(llm(&model))
        .await
        .unwrap();
    fork.send("Fourth.").await.unwrap();
    finishes(&fork).await;
    assert_eq!(messages(&fork.branches().current()).len(), 6);
    assert_eq!(messages(&conversation.branches().current()).len(), 4);

    conversation.branches().navigate_to_start().await.unwrap();
    assert!(conversation.branches().current().is_empty());
    assert_eq!(conversation.branches().head(), None);
    conversation.send("Again.").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(
        messages(&conversation.branches().current()),
        ["Again.", "An answer."]
    );
    fork.close().await.unwrap();
    conversation.close().await.unwrap();
}

pub(super) async fn an_unknown_event_is_reported_and_nothing_moves(server: &LocalServer) {
    let model = says("An answer.").await;
    let conversation = started(server, &model).await;
    conversation.send("First.").await.unwrap();
    finishes(&conversation).await;
    let before = (conversation.branches().head(), conversation.events().len());
    let error = conversation
        .branches()
        .navigate("no-such-event")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = conversation
        .branches()
        .fork()
        .from_event("no-such-event")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = conversation.log().event("no-such-event").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(
        before,
        (conversation.branches().head(), conversation.events().len())
    );
    // A deleted conversation is a different error.
    conversation.delete().await.unwrap();
    let error = conversation
        .branches()
        .navigate("no-such-event")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
}
