//! Tests of responses that leave open whether the server has acted: a gateway gave up waiting for
//! the server, or the connection was lost.

use std::time::Duration;

use oh_conversation::{
    ApprovalEvent, ClientTool, Conversation, ErrorKind, PendingAction, Result, RunOutcome,
    RunStatus,
};
use oh_protocol::{ConversationId, config::ConfirmationPolicy};
use oh_testkit::{FakeServer, Fault};
use oh_transport::{Client, ErrorKind as Wire};
use serde_json::json;
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    approvals::until,
    mock::{Answer, Dial, Mock, attached, full_state, soon},
};

/// The responses of gateways that do not know whether the server has acted.
const GATEWAYS: [u16; 4] = [502, 504, 520, 524];

fn gateway(status: u16) -> Answer {
    Ok((status, json!({"detail": "upstream request timeout"})))
}

fn run(conversation: &Conversation) -> JoinHandle<Result<RunOutcome>> {
    tokio::spawn(conversation.run().into_future())
}

async fn waiting(mock: &Mock, dial: &Dial, conversation: &Conversation) -> Vec<PendingAction> {
    mock.propose(dial).await;
    until(|| !conversation.approvals().pending().is_empty()).await;
    conversation.approvals().pending()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_gateway_gave_up_waiting_for_is_followed_and_not_sent_again() {
    for status in GATEWAYS {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        mock.plan("/run", gateway(status));
        let running = run(&conversation);
        until(|| mock.seen("POST /run") == 1).await;
        sleep(Duration::from_secs(3)).await;
        mock.tell(&dial, "running").await;
        mock.tell(&dial, "finished").await;
        dial.full_state("finished").await.unwrap();
        let outcome = soon(running).await.unwrap().unwrap();
        assert!(outcome.is_finished() && outcome.report().started());
        assert_eq!(mock.seen("POST /run"), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_a_gateway_gave_up_waiting_for_is_ambiguous_without_a_trace() {
    for status in GATEWAYS {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        mock.plan("/run", gateway(status));
        let error = soon(run(&conversation)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
        mock.plan("/events", gateway(status));
        let error = soon(conversation.send("hello").into_future()).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
        mock.plan("/goal", gateway(status));
        let error = soon(conversation.goals().start("Reach it.").into_future()).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
        let shown = waiting(&mock, &dial, &conversation).await;
        let approvals = conversation.approvals();
        mock.plan("/respond_to_confirmation", gateway(status));
        let error = soon(approvals.approve(&shown)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
        mock.plan("/respond_to_confirmation", gateway(status));
        let error = soon(approvals.reject(&shown, "no")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
        assert_eq!(mock.seen("POST /run") + mock.seen("POST /events"), 2);
        assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_a_gateway_gave_up_waiting_for_is_found_in_the_log() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.plan("/events", gateway(504));
    let sending = tokio::spawn(conversation.send("hello").into_future());
    until(|| mock.seen("POST /events") == 1).await;
    let message = json!({"source": "user", "llm_message": {"role": "user",
        "content": [{"type": "text", "text": "hello"}]}});
    let (seq, event) = mock.append("MessageEvent", &message);
    dial.durable(seq, &event).await.unwrap();
    soon(sending).await.unwrap().unwrap();
    assert_eq!(mock.seen("POST /events"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_rejects_a_request_itself_is_not_ambiguous() {
    for status in [500, 503] {
        let (mock, _dials, _dial, conversation) = attached("idle").await;
        mock.plan(
            "/run",
            Ok((status, json!({"detail": "Internal Server Error"}))),
        );
        let error = soon(run(&conversation)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    }
}

#[tokio::test]
async fn a_fork_that_a_gateway_gave_up_waiting_for_keeps_its_id() {
    let server = FakeServer::start().await.unwrap();
    let client = Client::builder(server.url()).session_api_key(server.session_api_key());
    let conversation = Conversation::attach(&client.build().unwrap(), server.create().id());
    let conversation = conversation.await.unwrap();
    let fork = "/api/conversations/{id}/fork";
    server.inject(Fault::html(504).on(fork).times(1));
    let id = ConversationId::random();
    let copy = conversation.branches().fork().id(id);
    let error = soon(copy.into_future()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
    assert_eq!(error.conversation_id(), Some(id));
    assert_eq!(server.requests_to("POST", fork).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_tools_result_that_a_gateway_gave_up_waiting_for_is_not_sent_twice() {
    let (mock, mut dials) = Mock::new();
    let tool = ClientTool::new("ask", "Asks.", |_| async { Ok("An answer.") });
    let attach = Conversation::attach(&mock.client(), mock.id).client_tool(tool);
    let attaching = tokio::spawn(attach.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "running").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    mock.plan("/events", gateway(504));
    let call = mock.call_client_tool("ask");
    for seq in [call, mock.answer_client_tool(call)] {
        dial.durable(seq, &mock.event(seq)).await.unwrap();
    }
    until(|| mock.seen("POST /events") == 1).await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(mock.seen("POST /events"), 1, "the step is still running");
    let sent = mock
        .bodies()
        .into_iter()
        .find(|body| body.contains("An answer."));
    let sent: serde_json::Value = serde_json::from_str(&sent.unwrap()).unwrap();
    let message = json!({"source": "user",
        "llm_message": {"role": "user", "content": sent["content"]}});
    let (seq, event) = mock.append("MessageEvent", &message);
    dial.durable(seq, &event).await.unwrap();
    mock.tell(&dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(mock.seen("POST /events"), 1);
    conversation.delete().await.unwrap();
}

/// A gateway may permit only small requests, and the server may reject a text.
#[tokio::test(start_paused = true)]
async fn a_rejected_result_of_a_client_tool_does_not_keep_the_run_from_ending() {
    // A gateway may forbid anything for a moment.
    for (status, times) in [(413, 1), (422, 1), (403, 5), (422, 10_000)] {
        let (mock, mut dials) = Mock::new();
        let tool = ClientTool::new("ask", "Asks.", |_| async { Ok("An answer.") });
        let attach = Conversation::attach(&mock.client(), mock.id).client_tool(tool);
        let attaching = tokio::spawn(attach.into_future());
        let dial = soon(dials.recv()).await.unwrap();
        dial.welcome(&mock, "running").await.unwrap();
        let conversation = soon(attaching).await.unwrap().unwrap();
        for _ in 0..times {
            mock.plan("/events", Ok((status, json!({"detail": "no"}))));
        }
        let call = mock.call_client_tool("ask");
        for seq in [call, mock.answer_client_tool(call)] {
            dial.durable(seq, &mock.event(seq)).await.unwrap();
        }
        let joining = tokio::spawn(conversation.join().into_future());
        sleep(Duration::from_secs(60)).await;
        mock.tell(&dial, "finished").await;
        dial.full_state("finished").await.unwrap();
        if times < 10_000 {
            // The agent receives the reason instead of the result.
            let bodies = mock.bodies();
            let last = bodies.last().unwrap();
            let code = status.to_string();
            assert!(
                last.contains(&code) && !last.contains("An answer."),
                "{last}"
            );
        }
        let outcome = soon(joining).await.unwrap().unwrap();
        assert!(outcome.is_finished(), "{outcome}");
        assert!(
            mock.seen("POST /events") <= 6,
            "{}",
            mock.seen("POST /events")
        );
        conversation.delete().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_budget_is_reached_is_interrupted_although_requests_fail() {
    let failures: [Answer; 3] = [
        gateway(502),
        Err(Wire::Interrupted),
        Ok((500, json!({"detail": "Internal Server Error"}))),
    ];
    for failure in failures {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        for _ in 0..12 {
            mock.plan("/interrupt", failure.clone());
        }
        let running = tokio::spawn(conversation.run().max_cost(1.0).into_future());
        until(|| mock.seen("POST /run") == 1).await;
        mock.tell(&dial, "running").await;
        let cost = json!({"key": "stats", "value": {"usage_to_metrics":
            {"default": {"model_name": "m", "accumulated_cost": 9.0}}}});
        let (seq, event) = mock.append("ConversationStateUpdateEvent", &cost);
        dial.durable(seq, &event).await.unwrap();
        until(|| mock.seen("POST /interrupt") > 12).await;
        mock.tell(&dial, "paused").await;
        let outcome = soon(running).await.unwrap().unwrap();
        assert_eq!(outcome.status(), RunStatus::BudgetReached);
    }
}

/// The server executes an interrupt whose response is lost.
#[tokio::test(start_paused = true)]
async fn a_run_that_a_lost_interrupt_has_paused_has_reached_its_budget() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    for _ in 0..1_000 {
        mock.plan("/interrupt", Err(Wire::Interrupted));
    }
    let running = tokio::spawn(conversation.run().max_cost(1.0).into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    let cost = json!({"key": "stats", "value": {"usage_to_metrics":
        {"default": {"model_name": "m", "accumulated_cost": 9.0}}}});
    let (seq, event) = mock.append("ConversationStateUpdateEvent", &cost);
    dial.durable(seq, &event).await.unwrap();
    until(|| mock.seen("POST /interrupt") > 0).await;
    mock.set_status("paused");
    mock.tell(&dial, "paused").await;
    dial.full_state("paused").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::BudgetReached);
}

#[tokio::test(start_paused = true)]
async fn a_goal_sends_nothing_while_a_run_may_reach_an_action() {
    // A run is in progress, or a paused step continues: it may propose an action before the
    // request arrives.
    for status in ["running", "paused"] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        mock.tell(&dial, "running").await;
        mock.tell(&dial, status).await;
        mock.set_status("running");
        let goals = conversation.goals();
        let error = soon(goals.start("Reach it.").into_future())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{status}: {error}");
        let error = soon(goals.resume()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{status}: {error}");
        assert_eq!(mock.seen("POST /goal") + mock.seen("POST /goal/resume"), 0);
    }
}

/// A goal runs the agent again after each round, which executes the actions that wait.
#[tokio::test(start_paused = true)]
async fn a_goal_and_a_policy_that_asks_exclude_each_other() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let (goals, approvals) = (conversation.goals(), conversation.approvals());
    let always = ConfirmationPolicy::always;
    approvals.set_policy(always()).await.unwrap();
    let error = soon(goals.start("Reach it.").into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let error = soon(goals.resume()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(mock.seen("POST /goal") + mock.seen("POST /goal/resume"), 0);
    approvals
        .set_policy(ConfirmationPolicy::never())
        .await
        .unwrap();
    mock.plan("/goal", Ok((200, json!({"success": true}))));
    _ = soon(goals.start("Reach it.").into_future()).await.unwrap();
    assert_eq!(mock.seen("POST /goal"), 1);
    for (active, status) in [(true, "running"), (false, "interrupted")] {
        let goal = json!({"key": "goal", "value": {"active": active, "status": status,
            "iteration": 1, "max_iterations": 5, "objective": "Reach it."}});
        let (seq, event) = mock.append("ConversationStateUpdateEvent", &goal);
        dial.durable(seq, &event).await.unwrap();
        until(|| conversation.events().len() > usize::try_from(seq).unwrap()).await;
        let before = mock.seen("POST /confirmation_policy");
        let set = soon(approvals.set_policy(always())).await;
        let sent = mock.seen("POST /confirmation_policy") - before;
        match active {
            true => assert_eq!(set.unwrap_err().kind(), ErrorKind::Conflict),
            false => set.unwrap(),
        }
        assert_eq!(sent, usize::from(!active));
        approvals
            .set_policy(ConfirmationPolicy::never())
            .await
            .unwrap();
    }
}

/// The server restarts while a policy is set again before a run.
#[tokio::test(start_paused = true)]
async fn a_policy_is_set_again_for_each_connection_before_a_run() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let always = ConfirmationPolicy::always();
    conversation.approvals().set_policy(always).await.unwrap();
    let mut snapshot = full_state("idle");
    snapshot["value"]["confirmation_policy"] = json!({"kind": "NeverConfirm"});
    let frame = json!({"type": "transient", "event": snapshot}).to_string();
    drop(dial);
    mock.slow_down("/confirmation_policy", Duration::from_secs(5));
    let dial = soon(dials.recv()).await.unwrap();
    dial.sync(None).await.unwrap();
    dial.peer.text(frame.clone()).await.unwrap();
    let running = run(&conversation);
    sleep(Duration::from_secs(1)).await;
    drop(dial);
    mock.slow_down("/confirmation_policy", Duration::ZERO);
    let dial = soon(dials.recv()).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(mock.seen("POST /run"), 0);
    let before = mock.seen("POST /confirmation_policy");
    for _ in 0..6 {
        mock.plan("/confirmation_policy", Err(Wire::Interrupted));
    }
    dial.sync(None).await.unwrap();
    dial.peer.text(frame).await.unwrap();
    until(|| mock.seen("POST /run") == 1).await;
    let requests = mock.requests();
    let last = |what: &str| requests.iter().rposition(|it| it.ends_with(what));
    assert!(last("/confirmation_policy") < last("/run"), "{requests:#?}");
    assert!(mock.seen("POST /confirmation_policy") > before + 6);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_policy_does_not_overtake_the_next_one() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    // The server waits for a running tool before it responds.
    mock.slow_down("/confirmation_policy", Duration::from_secs(30));
    let never = ConfirmationPolicy::never();
    let abandoned = approvals.set_policy(never);
    let abandoned = tokio::time::timeout(Duration::from_secs(1), abandoned).await;
    assert!(abandoned.is_err());
    mock.slow_down("/confirmation_policy", Duration::ZERO);
    let always = ConfirmationPolicy::always();
    approvals.set_policy(always).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let bodies = mock.bodies();
    let last = bodies
        .iter()
        .rfind(|body| body.contains("Confirm"))
        .unwrap();
    assert!(last.contains("AlwaysConfirm"), "{bodies:?}");
    assert_eq!(mock.seen("POST /confirmation_policy"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_policy_whose_response_was_lost_is_set_again_before_a_run() {
    for failure in [Err(Wire::Interrupted), gateway(504)] {
        let (mock, _dials, _dial, conversation) = attached("idle").await;
        let approvals = conversation.approvals();
        let never = ConfirmationPolicy::never();
        approvals.set_policy(never).await.unwrap();
        for _ in 0..20 {
            mock.plan("/confirmation_policy", failure.clone());
        }
        let always = ConfirmationPolicy::always();
        soon(approvals.set_policy(always)).await.unwrap_err();
        let before = mock.seen("POST /confirmation_policy");
        let running = run(&conversation);
        until(|| mock.seen("POST /run") == 1 || running.is_finished()).await;
        assert!(mock.seen("POST /confirmation_policy") > before);
        let requests = mock.requests();
        let last = |what: &str| requests.iter().rposition(|it| it.ends_with(what));
        assert!(last("/confirmation_policy") < last("/run"), "{requests:?}");
        running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_wait_for_a_request_whose_response_never_arrives() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.slow_down("/run", Duration::from_secs(3_000));
    let running = run(&conversation);
    sleep(Duration::from_secs(1)).await;
    mock.tell(&dial, "running").await;
    let shown = waiting(&mock, &dial, &conversation).await;
    let begun = tokio::time::Instant::now();
    let error = soon(conversation.approvals().approve(&shown))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 0);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_message_does_not_wait_for_a_run_whose_response_never_arrives() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    mock.slow_down("/run", Duration::from_secs(3_000));
    let running = run(&conversation);
    sleep(Duration::from_secs(1)).await;
    let sending = conversation.send("More.").into_future();
    let sent = tokio::time::timeout(Duration::from_secs(1), sending).await;
    assert!(matches!(sent, Ok(Ok(()))), "{sent:?}");
    assert_eq!(mock.seen("POST /events"), 1);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_an_earlier_one_until_the_limit() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    mock.slow_down("/events", Duration::from_secs(3_000));
    let first = tokio::spawn(conversation.send("First.").into_future());
    until(|| mock.bodies().len() == 1).await;
    let second = conversation.send("Second.").into_future();
    let second = tokio::time::timeout(Duration::from_secs(20), second).await;
    let error = second.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(mock.bodies().len(), 1, "{:?}", mock.bodies());
    first.abort();
}

/// A server that is still finishing the run of a waiting action accepts the approval without
/// starting a run.
#[tokio::test(start_paused = true)]
async fn an_approval_that_the_server_has_accepted_without_a_run_is_requested_again() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    mock.tell(&dial, "running").await;
    let action = mock.propose(&dial).await;
    dial.full_state("waiting_for_confirmation").await.unwrap();
    let mut events = approvals.events();
    let first = soon(events.next()).await.unwrap();
    let ApprovalEvent::Requested(shown) = first else {
        panic!("{first:?}");
    };
    approvals.approve(&shown).await.unwrap();
    let second = soon(events.next()).await.unwrap();
    assert_eq!(second, ApprovalEvent::Withdrawn(shown.clone()));
    let third = soon(events.next()).await.unwrap();
    assert_eq!(third, ApprovalEvent::Requested(shown.clone()));
    let outcome = soon(run(&conversation)).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    assert_eq!(approvals.pending(), shown);
    approvals.approve(&shown).await.unwrap();
    mock.tell(&dial, "running").await;
    crate::approvals::answer(&mock, &dial, action).await;
    sleep(Duration::from_secs(60)).await;
    assert!(approvals.pending().is_empty());
    assert_eq!(mock.seen("POST /run"), 0);
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 2);
}

/// The server accepts an approval without an effect until the run of the waiting action has ended.
#[tokio::test(start_paused = true)]
async fn an_approval_waits_for_the_end_of_the_run_that_asks() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.tell(&dial, "running").await;
    mock.propose(&dial).await;
    until(|| !conversation.approvals().pending().is_empty()).await;
    let approvals = conversation.approvals();
    let shown = approvals.pending();
    let approving = tokio::spawn(async move { approvals.approve(&shown).await });
    sleep(Duration::from_millis(500)).await;
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 0);
    dial.full_state("waiting_for_confirmation").await.unwrap();
    soon(approving).await.unwrap().unwrap();
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 1);
}

/// A response may never arrive, and another request waits for it.
#[tokio::test(start_paused = true)]
async fn a_close_ends_requests_that_wait_for_a_response() {
    for path in ["/run", "/events", "/respond_to_confirmation"] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        mock.slow_down(path, Duration::from_secs(500));
        let first = match path {
            "/run" => run(&conversation),
            "/events" => {
                let send = |it: &Conversation| it.send("a").into_future();
                tokio::spawn(failed(conversation.clone(), send))
            }
            _ => {
                let shown = waiting(&mock, &dial, &conversation).await;
                let approve = move |it: &Conversation| it.approvals().approve(&shown);
                tokio::spawn(failed(conversation.clone(), approve))
            }
        };
        sleep(Duration::from_secs(1)).await;
        let send = |it: &Conversation| it.send("b").into_future();
        let second = match path {
            "/events" => tokio::spawn(failed(conversation.clone(), send)),
            _ => run(&conversation),
        };
        sleep(Duration::from_secs(1)).await;
        let begun = tokio::time::Instant::now();
        conversation.close().await.unwrap();
        for request in [first, second] {
            let kind = soon(request).await.unwrap().unwrap_err().kind();
            let expected = [ErrorKind::Closed, ErrorKind::Ambiguous];
            assert!(expected.contains(&kind), "{path}: {kind:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{path}");
    }
}

async fn failed<F>(
    conversation: Conversation,
    work: impl FnOnce(&Conversation) -> F,
) -> Result<RunOutcome>
where
    F: Future<Output = Result<()>>,
{
    work(&conversation).await?;
    unreachable!("it should fail")
}

#[tokio::test(start_paused = true)]
async fn navigation_with_an_unclear_response_is_not_repeated_during_a_run() {
    for moved in [false, true] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        let (seq, event) = mock.append("New", &json!({}));
        dial.durable(seq, &event).await.unwrap();
        mock.plan("/navigate", Err(Wire::Interrupted));
        if moved {
            mock.set_leaf("0");
        }
        let navigating = tokio::spawn(conversation.branches().navigate("0"));
        until(|| mock.seen("POST /navigate") == 1).await;
        // Another program starts a run.
        mock.tell(&dial, "running").await;
        let result = soon(navigating).await.unwrap();
        let expected = match moved {
            true => Ok(()),
            false => Err(ErrorKind::Ambiguous),
        };
        assert_eq!(result.map_err(|error| error.kind()), expected);
        assert_eq!(mock.seen("POST /navigate"), 1);
    }
}
