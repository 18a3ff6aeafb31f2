//! Tests of what the handles of one process share although they have different links.

use std::time::Duration;

use oh_conversation::{Conversation, LinkStatus};
use oh_protocol::config::ConfirmationPolicy;
use oh_transport::Error;
use serde_json::json;
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};

use crate::{
    approvals::until,
    mock::{Dial, Mock, attached, soon},
    policies::{policy, reconnected, state},
};

/// Attaches to a conversation with an event, without and then with `live`. The two handles have
/// different links.
async fn attached_twice() -> (Mock, [Dial; 2], [Conversation; 2], UnboundedReceiver<Dial>) {
    let (mock, mut dials) = Mock::new();
    mock.append("New", &json!({}));
    let mut both = Vec::new();
    for live in [true, false] {
        let mut attach = Conversation::attach(&mock.client(), mock.id);
        if live {
            attach = attach.live();
        }
        let attaching = tokio::spawn(attach.into_future());
        let dial = soon(dials.recv()).await.unwrap();
        dial.welcome(&mock, "idle").await.unwrap();
        both.push((dial, soon(attaching).await.unwrap().unwrap()));
    }
    let [(one, live), (other, whole)] = <[_; 2]>::try_from(both).ok().unwrap();
    (mock, [one, other], [live, whole], dials)
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_one_handle_is_set_again_by_a_handle_with_another_link() {
    let (mock, [_one, dial], [live, whole], mut dials) = attached_twice().await;
    let approvals = live.approvals();
    soon(approvals.set_policy(ConfirmationPolicy::always()))
        .await
        .unwrap();
    // The server restarts, which the link of the first handle does not notice.
    let dial = reconnected(&mock, &mut dials, dial).await;
    state(&dial, "idle", "NeverConfirm").await;
    until(|| whole.link().status() == LinkStatus::Live).await;
    let _running = tokio::spawn(whole.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    let requests = mock.requests();
    let last = |path: &str| requests.iter().rposition(|it| it.ends_with(path)).unwrap();
    assert_eq!(mock.seen("POST /confirmation_policy"), 2, "{requests:#?}");
    assert!(last("/confirmation_policy") < last("/run"), "{requests:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_later_handle_does_not_replace_a_newer_policy_before_its_events() {
    let (mock, mut dials, _dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    soon(approvals.set_policy(ConfirmationPolicy::never()))
        .await
        .unwrap();
    policy(&mock, "NeverConfirm");
    policy(&mock, "AlwaysConfirm");
    mock.append("New", &json!({}));
    // The socket of the first handle is silent.
    let attach = Conversation::attach(&mock.client(), mock.id).live();
    let attaching = tokio::spawn(attach.into_future());
    let other = soon(dials.recv()).await.unwrap();
    other.sync(Some(mock.len() - 1)).await.unwrap();
    for seq in u64::try_from(other.after() + 1).unwrap()..mock.len() {
        other.durable(seq, &mock.event(seq)).await.unwrap();
    }
    state(&other, "idle", "AlwaysConfirm").await;
    let live = soon(attaching).await.unwrap().unwrap();
    let _running = tokio::spawn(live.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    let bodies = mock.bodies();
    let never = |body: &&String| body.contains("NeverConfirm");
    assert_eq!(bodies.iter().filter(never).count(), 1, "{bodies:?}");
}

#[tokio::test(start_paused = true)]
async fn settings_and_runs_of_a_deleted_conversation_are_forgotten_with_its_id() {
    // The conversation is deleted by this process, by another program, or not before another one
    // with its id was created.
    for how in ["delete", "gone", "replaced"] {
        let (mock, mut dials, dial, old) = attached("idle").await;
        let (seq, event) = mock.append("Old", &json!({"id": "old"}));
        dial.durable(seq, &event).await.unwrap();
        let approvals = old.approvals();
        soon(approvals.set_policy(ConfirmationPolicy::always()))
            .await
            .unwrap();
        let _running = tokio::spawn(old.run().into_future());
        until(|| mock.seen("POST /run") == 1).await;
        sleep(Duration::from_millis(100)).await;
        match how {
            "delete" => soon(old.delete()).await.unwrap(),
            "gone" => {
                mock.delete();
                dial.peer.end(Error::closed(4004, "")).await.unwrap();
            }
            _ => {
                mock.start_over();
                mock.append("New", &json!({"id": "new"}));
                dial.peer.end(Error::closed(1012, "")).await.unwrap();
            }
        }
        if how == "replaced" {
            let dial = soon(dials.recv()).await.unwrap();
            // The link may end before all of this has been sent.
            _ = dial.welcome(&mock, "idle").await;
        }
        until(|| old.link().status() == LinkStatus::Ended).await;
        mock.start_over();
        mock.append("New", &json!({"id": "new"}));
        mock.create();
        while dials.try_recv().is_ok() {}
        let attaching = tokio::spawn({
            let mock = mock.clone();
            async move { mock.attach().await }
        });
        let dial = soon(dials.recv()).await.unwrap();
        dial.welcome(&mock, "idle").await.unwrap();
        let new = soon(attaching).await.unwrap().unwrap();
        let joined = tokio::time::timeout(Duration::from_secs(10), new.join().into_future()).await;
        assert!(joined.is_ok(), "{how}: there is no run");
        let _run = tokio::spawn(new.run().into_future());
        until(|| mock.seen("POST /run") == 2).await;
        assert_eq!(mock.seen("POST /confirmation_policy"), 1, "{how}");
        drop(old);
    }
}
