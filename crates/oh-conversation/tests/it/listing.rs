//! Lists of conversations whose server begins again in between.

use futures_util::StreamExt;
use oh_conversation::Conversation;
use oh_protocol::ConversationId;
use serde_json::{Value, json};

use crate::mock::Mock;

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
    // The third is gone by now: a server that does not know a page's first begins again.
    mock.plan("/search", page(&[0, 1], Some(3)));
    mock.plan("/search", page(&[3], None));
    let list = Conversation::list(&mock.client()).page_size(2);
    let listed: Vec<_> = list.map(|info| info.unwrap().id()).collect().await;
    assert_eq!(listed, [ids[0], ids[1], ids[3]]);
}
