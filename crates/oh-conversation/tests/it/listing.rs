//! Tests of lists read page by page and of archives, while other clients change the server's data.

use futures_util::StreamExt;
use oh_conversation::Conversations;
use oh_protocol::ConversationId;
use serde_json::{Value, json};

use crate::mock::{Mock, attached, soon};

#[tokio::test(start_paused = true)]
async fn a_conversation_deleted_between_two_pages_repeats_and_hides_no_other() {
    let (mock, _dials) = Mock::new();
    let ids: Vec<_> = (0..4).map(|_| ConversationId::random()).collect();
    let page = |items: &[usize], next: Option<usize>| {
        let item = |n: &usize| json!({"id": ids[*n].to_string(), "execution_status": "idle"});
        let items: Vec<Value> = items.iter().map(item).collect();
        Ok((
            200,
            json!({"items": items, "next_page_id": next.map(|n| ids[n].to_string())}),
        ))
    };
    mock.plan("/search", page(&[0, 1], Some(2)));
    // The third conversation has been deleted: if the first item of a page is unknown, the server
    // starts again at the beginning.
    mock.plan("/search", page(&[0, 1], Some(3)));
    mock.plan("/search", page(&[3], None));
    let list = Conversations::of(&mock.client()).list().page_size(2);
    let listed: Vec<_> = list.map(|info| info.unwrap().id()).collect().await;
    assert_eq!(listed, [ids[0], ids[1], ids[3]]);
}

#[tokio::test(start_paused = true)]
async fn a_trajectory_that_another_client_removes_is_requested_again() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    let removed = || Ok((500, json!({"detail": "Internal Server Error"})));
    let target: &'static str = format!("/download-trajectory/{}", mock.id).leak();
    mock.plan(target, removed());
    mock.plan(target, Ok((200, json!("zip"))));
    let whole = soon(conversation.log().trajectory()).await.unwrap();
    assert_eq!(whole, "\"zip\"");
    // If the server keeps failing, the client stops after a number of attempts.
    for _ in 0..9 {
        mock.plan(target, removed());
    }
    let asked = || {
        let requests = mock.requests();
        let asked = requests
            .iter()
            .filter(|one| one.contains("/download-trajectory/"));
        asked.count()
    };
    let before = asked();
    let error = soon(conversation.log().trajectory()).await.unwrap_err();
    let status = error.transport_error().and_then(|error| error.status());
    assert_eq!(status.map(|status| status.as_u16()), Some(500));
    assert_eq!(asked() - before, 4);
}
