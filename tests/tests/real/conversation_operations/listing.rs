//! The conversations of a server, and the log of a conversation, read page by page.

use std::collections::HashSet;

use openhands::{
    Conversation, ConversationId, ExecutionStatus, LocalServer,
    conversation::{Conversations, ErrorKind},
    protocol::calls::conversations::Order,
};

use super::{agent, finishes, messages, next, says, started, workspace};

pub(super) async fn conversations_are_listed_counted_and_found_by_id(server: &LocalServer) {
    let model = says("Hello.").await;
    let client = server.client();
    let mut ids = Vec::new();
    for n in 0..5 {
        let conversation = Conversation::builder(&workspace(server), agent(&model))
            .tag("batch", format!("{}", n % 2))
            .start()
            .await
            .unwrap();
        if n == 4 {
            conversation.send("Hello.").await.unwrap();
            finishes(&conversation).await;
        }
        ids.push(conversation.id());
        conversation.close().await.unwrap();
    }
    let mut listed = Vec::new();
    let mut list = Conversations::of(client)
        .list()
        .page_size(2)
        .order(Order::Created)
        .include_skills(true);
    while let Some(info) = next(&mut list).await {
        listed.push(info.unwrap().id());
    }
    assert!(ids.iter().all(|id| listed.contains(id)));
    let distinct: HashSet<_> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len(), "each once");
    let count = Conversations::of(client).count(None).await.unwrap();
    assert_eq!(count, listed.len() as u64);
    // Newest first is the default.
    let mut newest = Conversations::of(client).list().tag("batch", "1");
    let mut of_batch = Vec::new();
    while let Some(info) = next(&mut newest).await {
        of_batch.push(info.unwrap().id());
    }
    assert_eq!(of_batch, [ids[3], ids[1]]);
    let mut finished = Conversations::of(client)
        .list()
        .status(ExecutionStatus::Finished)
        .tag("batch", "0");
    assert_eq!(next(&mut finished).await.unwrap().unwrap().id(), ids[4]);
    assert!(next(&mut finished).await.is_none());
    let status = Some(ExecutionStatus::Stuck);
    assert_eq!(Conversations::of(client).count(status).await.unwrap(), 0);

    let many: Vec<_> = (0..150)
        .map(|_| ConversationId::random())
        .chain(ids.clone())
        .collect();
    let found = Conversations::of(client).batch(many).await.unwrap();
    assert_eq!(found.len(), 155);
    assert!(found[..150].iter().all(Option::is_none));
    let found: Vec<_> = found[150..]
        .iter()
        .map(|info| info.as_ref().unwrap().id())
        .collect();
    assert_eq!(found, ids);
    assert!(
        Conversations::of(client)
            .batch([])
            .await
            .unwrap()
            .is_empty()
    );
    // A conversation deleted during the listing is omitted. No other one is repeated or missing.
    let mut list = Conversations::of(client).list().page_size(2);
    let mut kept = listed;
    kept.reverse();
    for id in &kept[..2] {
        assert_eq!(next(&mut list).await.unwrap().unwrap().id(), *id);
    }
    let third = Conversation::attach(client, kept.remove(2)).await.unwrap();
    third.delete().await.unwrap();
    let mut rest = Vec::new();
    while let Some(info) = next(&mut list).await {
        rest.push(info.unwrap().id());
    }
    assert_eq!(rest, kept[2..]);
    let error = next(&mut Conversations::of(client).list().page_size(101))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
}

pub(super) async fn the_log_is_searched_counted_and_taken_away(server: &LocalServer) {
    let model = says("An answer.").await;
    let conversation = started(server, &model).await;
    for text in ["Why is it so?", "Because.", "And WHY not?"] {
        conversation.send(text).await.unwrap();
        finishes(&conversation).await;
    }
    let mut why = conversation
        .log()
        .search()
        .source("user")
        .body("why")
        .page_size(1);
    let mut found = Vec::new();
    while let Some(event) = next(&mut why).await {
        found.push(event.unwrap());
    }
    assert_eq!(messages(&found), ["Why is it so?", "And WHY not?"]);
    let mut newest = conversation
        .log()
        .search()
        .kind("MessageEvent")
        .newest_first()
        .limit(2);
    let mut last = Vec::new();
    while let Some(event) = next(&mut newest).await {
        last.push(event.unwrap());
    }
    assert_eq!(messages(&last), ["An answer.", "And WHY not?"]);
    let all = conversation.log().search().count().await.unwrap();
    assert_eq!(all, conversation.events().len() as u64);
    let of_user = conversation
        .log()
        .search()
        .source("user")
        .kind("MessageEvent");
    assert_eq!(of_user.count().await.unwrap(), 3);
    let time = found[1].timestamp().to_string();
    let since = conversation
        .log()
        .search()
        .kind("MessageEvent")
        .since(time.clone());
    assert_eq!(since.count().await.unwrap(), 2);
    let before = conversation
        .log()
        .search()
        .kind("MessageEvent")
        .before(time);
    assert_eq!(before.count().await.unwrap(), 4);

    let id = found[0].id();
    assert_eq!(conversation.log().event(id).await.unwrap().id(), id);
    let both = conversation
        .log()
        .events([id, "no-such-event"])
        .await
        .unwrap();
    assert_eq!(both[0].as_ref().unwrap().id(), id);
    assert!(both[1].is_none());
    let error = conversation.log().event("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    let whole = conversation.log().trajectory().await.unwrap();
    assert!(whole.starts_with(b"PK"), "a zip file");
    let mut pieces = conversation.log().trajectory_stream().await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = next(&mut pieces).await {
        bytes += piece.unwrap().len();
    }
    assert!(bytes > 1000, "{bytes}");
    conversation.delete().await.unwrap();
    let error = conversation.log().trajectory().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
    let mut search = conversation.log().search();
    let error = next(&mut search).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
    assert!(next(&mut search).await.is_none(), "an error ends it");
}
