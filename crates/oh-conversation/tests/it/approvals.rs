//! Tests that the client executes no action without approval: which requests it sends, and when,
//! while actions wait for approval.

use std::time::Duration;

use oh_conversation::{
    ApprovalEvent, ClientTool, Conversation, ErrorKind, Result, RunOutcome, RunStatus,
};
use oh_protocol::{ExecutionStatus, config::ConfirmationPolicy};
use oh_testkit::{FakeServer, Script, Step};
use oh_transport::{Client, Error, ErrorKind as Wire};
use serde_json::json;
use tokio::{task::JoinHandle, time::sleep};

use crate::mock::{Dial, Mock, attached, full_state, soon};

fn run(conversation: &Conversation) -> JoinHandle<Result<RunOutcome>> {
    tokio::spawn(conversation.run().into_future())
}

pub(crate) async fn until(happens: impl Fn() -> bool) {
    soon(async {
        while !happens() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn busy(mock: &Mock) {
    let busy = json!({"detail": "conversation_already_running"});
    mock.plan("/run", Ok((409, busy)));
}

pub(crate) async fn answer(mock: &Mock, dial: &Dial, action: u64) {
    let fields = json!({"tool_name": "terminal", "tool_call_id": format!("call-{action}"),
        "action_id": action.to_string(), "observation": {"kind": "TerminalObservation"}});
    let (seq, event) = mock.append("ObservationEvent", &fields);
    dial.durable(seq, &event).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_after_a_pause_does_not_execute_the_action_of_the_paused_step() {
    // REST reports either at once or slightly too late that the paused step is still running.
    for known in [true, false] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        mock.tell(&dial, "running").await;
        mock.tell(&dial, "paused").await;
        if known {
            mock.set_status("running");
        }
        busy(&mock);
        let running = run(&conversation);
        // The model answers late, and proposes an action that the policy asks about.
        sleep(Duration::from_secs(20)).await;
        mock.propose(&dial).await;
        let outcome = soon(running).await.unwrap().unwrap();
        assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
        assert!(!outcome.report().started());
        assert_eq!(mock.seen("POST /run"), 0, "{known}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_after_a_pause_continues_when_the_paused_step_has_ended() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.tell(&dial, "running").await;
    mock.tell(&dial, "paused").await;
    mock.set_status("running");
    let running = run(&conversation);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(mock.seen("POST /run"), 0, "the step goes on");
    mock.set_status("paused");
    dial.full_state("paused").await.unwrap();
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    mock.tell(&dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(
        outcome.is_finished() && outcome.report().started(),
        "{outcome}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_run_is_never_followed_by_another_request() {
    // With the link up, and with a link that reconnects late.
    for cut in [false, true] {
        let (mock, mut dials, dial, conversation) = attached("idle").await;
        mock.plan("/run", Err(Wire::Interrupted));
        let running = run(&conversation);
        until(|| mock.seen("POST /run") == 1).await;
        let dial = match cut {
            false => dial,
            true => {
                for _ in 0..20 {
                    mock.refuse(Error::new(Wire::Connect, "refused"));
                }
                drop(dial);
                let (fields, waits) = ("running", "waiting_for_confirmation");
                let status = |value: &str| json!({"key": "execution_status", "value": value});
                mock.append("ConversationStateUpdateEvent", &status(fields));
                mock.act();
                mock.append("ConversationStateUpdateEvent", &status(waits));
                mock.set_status(waits);
                let dial = soon(dials.recv()).await.unwrap();
                dial.welcome(&mock, waits).await.unwrap();
                dial
            }
        };
        if !cut {
            mock.tell(&dial, "running").await;
            mock.propose(&dial).await;
        }
        dial.full_state("waiting_for_confirmation").await.unwrap();
        let outcome = soon(running).await.unwrap().unwrap();
        assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation, "{cut}");
        assert!(outcome.report().started());
        assert_eq!(mock.seen("POST /run"), 1, "{cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_without_a_trace_in_the_log_is_ambiguous_and_not_repeated() {
    for failure in [Wire::Interrupted, Wire::Timeout] {
        let (mock, _dials, _dial, conversation) = attached("idle").await;
        mock.plan("/run", Err(failure));
        let error = soon(run(&conversation)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
        assert_eq!(mock.seen("POST /run"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_connection_is_retried_after_another_check() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.plan("/run", Err(Wire::Connect));
    let running = run(&conversation);
    until(|| mock.seen("POST /run") == 1).await;
    // Before the next attempt, another client's run proposes an action that needs approval.
    mock.tell(&dial, "running").await;
    mock.propose(&dial).await;
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    assert_eq!(mock.seen("POST /run"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_after_an_approval_joins_and_approves_nothing_else() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let first = mock.propose(&dial).await;
    until(|| !conversation.approvals().pending().is_empty()).await;
    let pending = conversation.approvals().pending();
    conversation.approvals().approve(&pending).await.unwrap();
    assert!(conversation.approvals().pending().is_empty());
    // The mirror still shows the waiting state: the server has accepted the answer but has not
    // reported the new status.
    let running = run(&conversation);
    sleep(Duration::from_secs(3)).await;
    assert!(!running.is_finished());
    mock.tell(&dial, "running").await;
    answer(&mock, &dial, first).await;
    mock.propose(&dial).await;
    dial.full_state("waiting_for_confirmation").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    assert_eq!(mock.seen("POST /run"), 0);
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 1);
    assert_eq!(
        conversation.approvals().pending().len(),
        1,
        "the second one"
    );
}

#[tokio::test(start_paused = true)]
async fn an_approval_lost_by_a_killed_server_is_requested_again() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    mock.propose(&dial).await;
    until(|| !approvals.pending().is_empty()).await;
    approvals.approve(&approvals.pending()).await.unwrap();
    mock.tell(&dial, "running").await;
    drop(dial);
    // The log shows the status `running`, but the state is still that of the previous step.
    mock.set_status("waiting_for_confirmation");
    let dial = soon(dials.recv()).await.unwrap();
    let welcomed = dial.welcome(&mock, "waiting_for_confirmation").await;
    until(|| approvals.pending().len() == 1).await;
    let outcome = soon(run(&conversation)).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    assert_eq!(mock.seen("POST /run"), 0);
    approvals.approve(&approvals.pending()).await.unwrap();
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 2);
    welcomed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_actions_that_no_longer_wait_is_a_conflict() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    let error = approvals.approve(&[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NothingPending);
    let error = approvals.reject(&[], "no").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NothingPending);

    let first = mock.propose(&dial).await;
    until(|| !approvals.pending().is_empty()).await;
    let shown = approvals.pending();
    let error = approvals.approve(&[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    // Another client approves the action, and the agent continues with the next one.
    mock.tell(&dial, "running").await;
    let error = approvals.approve(&shown).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    answer(&mock, &dial, first).await;
    mock.propose(&dial).await;
    for _ in 0..2 {
        let error = approvals.approve(&shown).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let error = approvals.reject(&shown, "no").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_logged_events_that_have_not_arrived() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    mock.propose(&dial).await;
    until(|| !approvals.pending().is_empty()).await;
    let shown = approvals.pending();
    // The link is slow: REST already shows that the action was answered and that another one waits.
    let status = |value: &str| json!({"key": "execution_status", "value": value});
    mock.append("ConversationStateUpdateEvent", &status("running"));
    let fields = json!({"tool_name": "terminal", "tool_call_id": "call-0", "action_id": "0",
        "observation": {"kind": "TerminalObservation"}});
    mock.append("ObservationEvent", &fields);
    mock.act();
    mock.append(
        "ConversationStateUpdateEvent",
        &status("waiting_for_confirmation"),
    );
    let error = approvals.approve(&shown).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 0);
    // A message that starts a run is rejected too.
    let error = conversation.send("go on").and_run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation);
    assert_eq!(mock.seen("POST /events") + mock.seen("POST /run"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_during_a_replay_is_checked_against_the_log_and_not_an_old_status() {
    let (mock, mut dials, dial, conversation) = attached("running").await;
    drop(dial);
    let status = |value: &str| json!({"key": "execution_status", "value": value});
    mock.act();
    mock.append(
        "ConversationStateUpdateEvent",
        &status("waiting_for_confirmation"),
    );
    mock.set_status("waiting_for_confirmation");
    let dial = soon(dials.recv()).await.unwrap();
    // The socket is connected but delivers nothing: the server withholds the snapshot.
    let error = conversation.send("go on").and_run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation);
    assert_eq!(mock.seen("POST /events") + mock.seen("POST /run"), 0);
    drop(dial);
}

#[tokio::test(start_paused = true)]
async fn a_message_never_starts_a_run() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let sending = tokio::spawn(conversation.send("hello").and_run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    soon(sending).await.unwrap().unwrap();
    let body = mock
        .bodies()
        .into_iter()
        .find(|body| body.contains("hello"));
    assert!(body.unwrap().contains(r#""run":false"#));
    // While a run is in progress, the run reads the message without another `POST /run`.
    conversation.send("and more").and_run().await.unwrap();
    assert_eq!((mock.seen("POST /events"), mock.seen("POST /run")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_over_a_broken_link_waits_until_the_state_is_known() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    for _ in 0..10 {
        mock.refuse(Error::new(Wire::Connect, "refused"));
    }
    drop(dial);
    sleep(Duration::from_millis(1)).await;
    let running = run(&conversation);
    sleep(Duration::from_secs(8)).await;
    assert_eq!(
        mock.seen("POST /run"),
        0,
        "nothing is sent on what was known"
    );
    let status = |value: &str| json!({"key": "execution_status", "value": value});
    mock.act();
    mock.append(
        "ConversationStateUpdateEvent",
        &status("waiting_for_confirmation"),
    );
    let dial = soon(dials.recv()).await.unwrap();
    let welcomed = dial.welcome(&mock, "waiting_for_confirmation").await;
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    assert_eq!(mock.seen("POST /run"), 0);
    welcomed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_actions_of_a_state_lost_by_the_server_are_not_executed() {
    // After a restart or in a fork the status differs, but the next run would execute the actions.
    for status in ["idle", "paused", "error"] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        conversation
            .approvals()
            .set_policy(ConfirmationPolicy::always())
            .await
            .unwrap();
        mock.propose(&dial).await;
        mock.tell(&dial, status).await;
        let outcome = soon(run(&conversation)).await.unwrap().unwrap();
        assert_eq!(
            outcome.status(),
            RunStatus::WaitingForConfirmation,
            "{status}"
        );
        let error = soon(conversation.goals().start("Reach it.").into_future()).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::PendingConfirmation);
        assert_eq!(mock.seen("POST /run") + mock.seen("POST /goal"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_action_of_an_abandoned_branch_does_not_wait() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let message = json!({"source": "user", "parent_id": "__root__", "llm_message": {"role": "user",
        "content": [{"type": "text", "text": "hello"}]}});
    let (seq, event) = mock.append("MessageEvent", &message);
    dial.durable(seq, &event).await.unwrap();
    mock.propose(&dial).await;
    until(|| conversation.approvals().pending().len() == 1).await;
    let described = json!({"id": mock.id.to_string(), "execution_status": "idle"});
    mock.plan("/navigate", Ok((200, described)));
    mock.set_leaf("0");
    conversation.branches().navigate("0").await.unwrap();
    assert!(conversation.approvals().pending().is_empty());
    let error = conversation
        .approvals()
        .reject(&[], "no")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NothingPending);
    let running = run(&conversation);
    until(|| mock.seen("POST /run") == 1).await;
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_restored_before_a_run_that_it_may_stop() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let always = ConfirmationPolicy::always();
    conversation.approvals().set_policy(always).await.unwrap();
    drop(dial);
    // The server has restarted, and the first attempt to set the policy again fails.
    mock.plan("/confirmation_policy", Ok((500, json!({"detail": "no"}))));
    let dial = soon(dials.recv()).await.unwrap();
    let running = run(&conversation);
    dial.sync(None).await.unwrap();
    let mut snapshot = full_state("idle");
    snapshot["value"]["confirmation_policy"] = json!({"kind": "NeverConfirm"});
    let frame = json!({"type": "transient", "event": snapshot});
    dial.peer.text(frame.to_string()).await.unwrap();
    until(|| mock.seen("POST /run") == 1).await;
    let requests = mock.requests();
    let last = requests
        .iter()
        .rposition(|it| it.ends_with("/confirmation_policy"));
    let run = requests.iter().position(|it| it == "POST /run");
    assert!(
        last < run && mock.seen("POST /confirmation_policy") >= 2,
        "{requests:#?}"
    );
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn the_newest_policy_wins_also_during_a_reconnect() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    approvals
        .set_policy(ConfirmationPolicy::never())
        .await
        .unwrap();
    drop(dial);
    // Setting the old policy again takes long, because a tool holds the server's lock.
    mock.slow_down("/confirmation_policy", Duration::from_secs(10));
    let dial = soon(dials.recv()).await.unwrap();
    dial.sync(None).await.unwrap();
    let mut snapshot = full_state("idle");
    snapshot["value"]["confirmation_policy"] = json!({"kind": "AlwaysConfirm"});
    let frame = json!({"type": "transient", "event": snapshot});
    dial.peer.text(frame.to_string()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    approvals
        .set_policy(ConfirmationPolicy::always())
        .await
        .unwrap();
    sleep(Duration::from_secs(60)).await;
    let last = mock
        .bodies()
        .into_iter()
        .rfind(|body| body.contains("Confirm"));
    assert!(last.unwrap().contains("AlwaysConfirm"));
    // If the server rejects a policy, the previous one stays in effect.
    mock.plan("/confirmation_policy", Ok((422, json!({"detail": []}))));
    let refused = approvals
        .set_policy(ConfirmationPolicy::custom("Odd"))
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Validation);
}

#[tokio::test(start_paused = true)]
async fn approval_requests_are_replayed_and_withdrawn_when_another_client_answers() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let action = mock.propose(&dial).await;
    until(|| !conversation.approvals().pending().is_empty()).await;
    // A new reader first receives the pending actions.
    let mut events = conversation.approvals().events();
    let first = soon(events.next()).await.unwrap();
    let ApprovalEvent::Requested(actions) = &first else {
        panic!("{first:?}");
    };
    assert_eq!(actions[0].id(), action.to_string());
    assert_eq!(actions[0].to_string(), "terminal (UNKNOWN)");
    mock.tell(&dial, "running").await;
    let second = soon(events.next()).await.unwrap();
    assert_eq!(second, ApprovalEvent::Withdrawn(actions.clone()));
    answer(&mock, &dial, action).await;
    mock.propose(&dial).await;
    let third = soon(events.next()).await.unwrap();
    assert!(matches!(&third, ApprovalEvent::Requested(actions) if actions.len() == 1));
    conversation.close().await.unwrap();
    assert!(soon(events.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn two_answers_from_one_process_are_not_mixed_up() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let other = Conversation::attach(conversation.client(), mock.id);
    let other = soon(other.into_future()).await.unwrap();
    mock.propose(&dial).await;
    until(|| !other.approvals().pending().is_empty()).await;
    let shown = conversation.approvals().pending();
    mock.slow_down("/respond_to_confirmation", Duration::from_secs(5));
    let (one, two) = (conversation.approvals(), other.approvals());
    let answers = soon(async { tokio::join!(one.approve(&shown), two.approve(&shown)) }).await;
    let kinds = [answers.0, answers.1].map(|answer| answer.map_err(|error| error.kind()));
    assert!(kinds.contains(&Ok(())), "{kinds:?}");
    assert!(kinds.contains(&Err(ErrorKind::Conflict)), "{kinds:?}");
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_an_approval_is_looked_up_and_not_repeated() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    mock.propose(&dial).await;
    until(|| !approvals.pending().is_empty()).await;
    let shown = approvals.pending();
    mock.plan("/respond_to_confirmation", Err(Wire::Interrupted));
    let error = approvals.approve(&shown).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    mock.plan("/respond_to_confirmation", Err(Wire::Interrupted));
    let approving = tokio::spawn({
        let (approvals, shown) = (approvals.clone(), shown.clone());
        async move { approvals.approve(&shown).await }
    });
    until(|| mock.seen("POST /events/respond_to_confirmation") == 2).await;
    mock.tell(&dial, "running").await;
    soon(approving).await.unwrap().unwrap();
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_tool_result_starts_no_action_that_waits_for_approval() {
    let (mock, mut dials) = Mock::new();
    let tool = ClientTool::new("ask", "Asks.", |_| async { Ok("an answer") });
    let attach = Conversation::attach(&mock.client(), mock.id).client_tool(tool);
    let attaching = tokio::spawn(attach.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    mock.tell(&dial, "running").await;
    until(|| conversation.state().execution_status().is_running()).await;
    let call = mock.call_client_tool("ask");
    for seq in [call, mock.answer_client_tool(call)] {
        dial.durable(seq, &mock.event(seq)).await.unwrap();
    }
    until(|| mock.seen("POST /events") == 1).await;
    mock.propose(&dial).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(mock.seen("POST /run"), 0);
    let bodies = mock.bodies();
    assert!(
        bodies.iter().all(|body| !body.contains(r#""run":true"#)),
        "{bodies:?}"
    );
}

/// The run of an approval can end before the caller waits for it.
#[tokio::test]
async fn a_run_after_an_approval_returns_the_outcome_of_the_approved_run() {
    let act = |n: usize| Step::call("terminal", json!({"command": format!("echo {n}")}));
    let script = Script::new()
        .step(act(1))
        .step(act(2))
        .finish("Done.")
        .finish("Again.");
    let server = FakeServer::builder().script(script).start().await.unwrap();
    let client = Client::builder(server.url()).session_api_key(server.session_api_key());
    let client = client.build().unwrap();
    let conversation = Conversation::attach(&client, server.create().id());
    let conversation = conversation.await.unwrap();
    let always = ConfirmationPolicy::always();
    let approvals = conversation.approvals();
    approvals.set_policy(always).await.unwrap();
    conversation.send("go").await.unwrap();
    _ = conversation.run().await.unwrap();
    let sent = || {
        let run = "/api/conversations/{id}/run";
        server.requests_to("POST", run).len()
    };
    approvals.approve(&approvals.pending()).await.unwrap();
    until(|| approvals.pending().len() == 1).await;
    approvals.approve(&approvals.pending()).await.unwrap();
    until(|| conversation.state().execution_status() == ExecutionStatus::Finished).await;
    let outcome = soon(conversation.run().into_future()).await.unwrap();
    assert!(
        outcome.is_finished() && !outcome.report().started(),
        "{outcome}"
    );
    assert!(outcome.events() > 0, "{outcome}");
    assert_eq!(sent(), 1, "no other run");
    // The result of that run has been returned; the next call starts another run.
    approvals
        .set_policy(ConfirmationPolicy::never())
        .await
        .unwrap();
    let outcome = soon(conversation.run().into_future()).await.unwrap();
    assert!(
        outcome.is_finished() && outcome.report().started(),
        "{outcome}"
    );
    assert_eq!(sent(), 2);
}
