//! Tests of when a rejection is complete, and which actions wait until then.

use std::time::Duration;

use oh_conversation::ApprovalEvent;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    approvals::until,
    mock::{attached, soon},
};

/// The server reports a rejection in parts: first its status, then each action.
#[tokio::test(start_paused = true)]
async fn a_rejection_ends_when_the_log_shows_it_for_every_action() {
    // The second status is that of a restarted server: then only the log shows that the actions
    // wait.
    for status in ["waiting_for_confirmation", "idle"] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        let policy = json!({"key": "confirmation_policy", "value": {"kind": "AlwaysConfirm"}});
        let (seq, event) = mock.append("ConversationStateUpdateEvent", &policy);
        dial.durable(seq, &event).await.unwrap();
        let approvals = conversation.approvals();
        let mut events = approvals.events();
        let (first, event) = mock.act();
        dial.durable(first, &event).await.unwrap();
        let second = match status {
            "idle" => {
                let (seq, event) = mock.act();
                dial.durable(seq, &event).await.unwrap();
                seq
            }
            _ => mock.propose(&dial).await,
        };
        until(|| approvals.pending().len() == 2).await;
        let shown = approvals.pending();
        let requested = loop {
            match soon(events.next()).await {
                Some(ApprovalEvent::Requested(actions)) if actions.len() == 2 => break actions,
                Some(_) => {}
                None => panic!("the stream ended"),
            }
        };
        assert_eq!(requested, shown);
        let rejecting = tokio::spawn({
            let (approvals, shown) = (approvals.clone(), shown.clone());
            async move { approvals.reject(&shown, "no").await }
        });
        let reject = |action: u64| {
            let fields = json!({"tool_name": "terminal", "tool_call_id": format!("call-{action}"),
                "action_id": action.to_string(), "rejection_reason": "no"});
            mock.append("UserRejectObservation", &fields)
        };
        until(|| mock.seen("POST /events/respond_to_confirmation") == 1).await;
        if status != "idle" {
            mock.tell(&dial, "idle").await;
        }
        for action in [first, second] {
            sleep(Duration::from_secs(1)).await;
            assert!(!rejecting.is_finished(), "{status}: {action} is open");
            let (seq, event) = reject(action);
            dial.durable(seq, &event).await.unwrap();
        }
        soon(rejecting).await.unwrap().unwrap();
        assert!(approvals.pending().is_empty(), "{status}");
        // The actions that were still open in between were not requested again.
        let withdrawn = soon(events.next()).await;
        assert_eq!(withdrawn, Some(ApprovalEvent::Withdrawn(shown)), "{status}");
        let next = mock.propose(&dial).await;
        match soon(events.next()).await {
            Some(ApprovalEvent::Requested(actions)) => {
                assert_eq!(actions[0].id(), next.to_string(), "{status}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

/// If the server did not accept a rejection, or the caller did not wait for the answer, the actions
/// stay visible.
#[tokio::test(start_paused = true)]
async fn actions_keep_waiting_if_their_rejection_fails() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    mock.propose(&dial).await;
    until(|| !approvals.pending().is_empty()).await;
    let shown = approvals.pending();
    mock.plan(
        "/respond_to_confirmation",
        Ok((500, json!({"detail": "no"}))),
    );
    approvals.reject(&shown, "no").await.unwrap_err();
    assert_eq!(approvals.pending(), shown);
    mock.slow_down("/respond_to_confirmation", Duration::from_secs(1));
    mock.plan(
        "/respond_to_confirmation",
        Ok((500, json!({"detail": "no"}))),
    );
    let dropped = tokio::time::timeout(Duration::from_millis(10), approvals.reject(&shown, "no"));
    dropped.await.unwrap_err();
    assert!(approvals.pending().is_empty(), "the request is on its way");
    until(|| !approvals.pending().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_pending_action_shows_its_tool_once_and_neither_secrets_nor_control_characters() {
    let arguments = r#"{"command": "ls"}"#;
    let of_server = format!("terminal: {arguments}");
    let call = json!({"id": "c", "name": "terminal", "arguments": arguments});
    for (summary, call, shown) in [
        (Some("lists files"), None, "terminal (HIGH): lists files"),
        (
            Some("x\u{1b}[2J https://me:canary@host"),
            None,
            "terminal (HIGH): x\u{241b}[2J https://<redacted>@host",
        ),
        (
            Some(&*of_server),
            None,
            r#"terminal (HIGH): {"command": "ls"}"#,
        ),
        (None, Some(&call), r#"terminal (HIGH): {"command": "ls"}"#),
        (None, None, "terminal (HIGH)"),
    ] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        let fields = json!({"tool_name": "terminal", "tool_call_id": "c", "summary": summary,
            "tool_call": call, "security_risk": "HIGH",
            "action": {"kind": "TerminalAction", "command": "ls"}});
        let (seq, event) = mock.append("ActionEvent", &fields);
        dial.durable(seq, &event).await.unwrap();
        mock.tell(&dial, "waiting_for_confirmation").await;
        until(|| !conversation.approvals().pending().is_empty()).await;
        let text = conversation.approvals().pending()[0].to_string();
        assert!(text.starts_with(shown), "{text:?}");
        assert!(
            !text.contains("canary") && !text.contains('\u{1b}'),
            "{text:?}"
        );
        assert!(summary.is_some_and(|it| it.contains("canary")) || text == shown);
    }
}
