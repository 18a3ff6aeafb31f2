//! Tests of client tools across disconnects and reconnects.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use oh_conversation::{ClientTool, ClientToolCall, Conversation, LinkStatus};
use oh_protocol::config::{Agent, Llm};
use oh_testkit::{FakeServer, Script, Step};
use oh_transport::{Error, ErrorKind as Wire};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    approvals::until,
    mock::{Dial, Mock, Place, soon},
};

type Calls = Arc<Mutex<Vec<String>>>;

fn tool(calls: &Calls) -> ClientTool {
    let calls = calls.clone();
    ClientTool::new("ask", "Asks.", move |call: ClientToolCall| {
        calls.lock().unwrap().push(call.id().to_owned());
        async { Ok("An answer.") }
    })
}

/// Logs a call of the tool and the server's own answer to it. Returns the position of the call.
fn called(mock: &Mock) -> u64 {
    let seq = mock.call_client_tool("ask");
    mock.answer_client_tool(seq);
    seq
}

/// Sends a call and the server's answer to it over the socket.
async fn brings(mock: &Mock, dial: &Dial, seq: u64) {
    for seq in [seq, seq + 1] {
        dial.durable(seq, &mock.event(seq)).await.unwrap();
    }
}

async fn attach(
    mock: &Mock,
    dials: &mut UnboundedReceiver<Dial>,
    calls: &Calls,
) -> (Conversation, Dial) {
    let (client, id, tool) = (mock.client(), mock.id, tool(calls));
    let attaching =
        tokio::spawn(async move { Conversation::attach(&client, id).client_tool(tool).await });
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(mock, "idle").await.unwrap();
    (soon(attaching).await.unwrap().unwrap(), dial)
}

async fn answered(mock: &Mock, times: usize) {
    while mock.seen("POST /events") < times {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_call_is_executed_once_across_cuts_and_attaches_and_history_is_ignored() {
    let (mock, mut dials) = Mock::new();
    let calls = Calls::default();
    called(&mock);
    let (first, dial) = attach(&mock, &mut dials, &calls).await;
    let seq = called(&mock);
    brings(&mock, &dial, seq).await;
    answered(&mock, 1).await;
    // A cut follows: the same call arrives again, and so does a new call made during the cut.
    let seq = called(&mock);
    dial.peer.end(Error::closed(1012, "")).await.unwrap();
    let dial = soon(dials.recv()).await.unwrap();
    dial.sync(Some(seq + 1)).await.unwrap();
    for seq in 0..=seq + 1 {
        dial.durable(seq, &mock.event(seq)).await.unwrap();
    }
    answered(&mock, 2).await;
    first.close().await.unwrap();
    // The agent calls the tool while no client is attached.
    called(&mock);
    let (second, _dial) = attach(&mock, &mut dials, &calls).await;
    answered(&mock, 3).await;
    assert_eq!(*calls.lock().unwrap(), ["2", "4", "6"]);
    second.delete().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_approval_is_executed_only_after_approval() {
    // The agent calls the tool before or after this program attaches.
    for before in [true, false] {
        for approved in [true, false] {
            let (mock, mut dials) = Mock::new();
            let calls = Calls::default();
            let mut call = before.then(|| mock.call_client_tool("ask"));
            let (conversation, dial) = attach(&mock, &mut dials, &calls).await;
            if call.is_none() {
                let seq = mock.call_client_tool("ask");
                dial.durable(seq, &mock.event(seq)).await.unwrap();
                call = Some(seq);
            }
            let call = call.unwrap();
            mock.tell(&dial, "waiting_for_confirmation").await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(calls.lock().unwrap().is_empty(), "nobody approved it");
            assert_eq!(mock.seen("POST /events"), 0);
            let seq = match approved {
                true => mock.answer_client_tool(call),
                false => mock.reject(call),
            };
            dial.durable(seq, &mock.event(seq)).await.unwrap();
            mock.tell(&dial, "idle").await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            let times = usize::from(approved);
            assert_eq!(calls.lock().unwrap().len(), times, "{before} {approved}");
            assert_eq!(mock.seen("POST /events"), times);
            conversation.delete().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_is_sent_until_accepted_and_never_runs_a_waiting_action() {
    let (mock, mut dials) = Mock::new();
    let calls = Calls::default();
    let (conversation, dial) = attach(&mock, &mut dials, &calls).await;
    mock.plan("/events", Ok((503, json!({"detail": "Starting"}))));
    mock.plan("/events", Err(oh_transport::ErrorKind::Connect));
    dial.full_state("waiting_for_confirmation").await.unwrap();
    let seq = called(&mock);
    brings(&mock, &dial, seq).await;
    answered(&mock, 3).await;
    assert_eq!(
        calls.lock().unwrap().len(),
        1,
        "only the message is sent again"
    );
    let bodies = mock.bodies();
    assert!(
        bodies.last().unwrap().contains(r#""run":false"#),
        "{bodies:?}"
    );
    assert!(bodies.last().unwrap().contains("An answer."));
    conversation.delete().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_tool_is_reported_to_the_agent_and_harms_no_other_tool() {
    let (mock, mut dials) = Mock::new();
    let calls = Calls::default();
    let broken = ClientTool::new("broken", "Breaks.", |_| async {
        if true {
            panic!("as it is meant to");
        }
        Ok(())
    });
    let (client, id, good) = (mock.client(), mock.id, tool(&calls));
    let attaching = tokio::spawn(async move {
        Conversation::attach(&client, id)
            .client_tool(broken)
            .client_tool(good)
            .await
    });
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    let seq = mock.call_client_tool("broken");
    mock.answer_client_tool(seq);
    brings(&mock, &dial, seq).await;
    let seq = called(&mock);
    brings(&mock, &dial, seq).await;
    answered(&mock, 2).await;
    let bodies = mock.bodies().join("\n");
    assert!(bodies.contains("It failed: the tool panicked."), "{bodies}");
    assert!(bodies.contains("An answer."), "{bodies}");
    conversation.delete().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_possibly_accepted_result_is_repeated_only_after_the_server_denies_it() {
    for taken in [true, false] {
        let (mock, mut dials) = Mock::new();
        let calls = Calls::default();
        let (conversation, dial) = attach(&mock, &mut dials, &calls).await;
        dial.full_state("running").await.unwrap();
        // The connection fails after the server has received the result. The server stores it when
        // the step ends.
        mock.plan("/events", Err(oh_transport::ErrorKind::Interrupted));
        let seq = called(&mock);
        brings(&mock, &dial, seq).await;
        answered(&mock, 1).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(mock.seen("POST /events"), 1, "the step is under way");
        if taken {
            let text = mock
                .bodies()
                .into_iter()
                .find(|body| body.contains("An answer."));
            let sent: Value = serde_json::from_str(&text.unwrap()).unwrap();
            let message = json!({"source": "user",
                "llm_message": {"role": "user", "content": sent["content"]}});
            // The event is in the log, but is not sent over the socket.
            mock.append("MessageEvent", &message);
        }
        dial.full_state("finished").await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(mock.seen("POST /events"), if taken { 1 } else { 2 });
        conversation.delete().await.unwrap();
    }
}

/// Logs the result of a call, as another process delivers it.
fn result_of(mock: &Mock, call: u64) {
    let text = format!("[Result of the client tool `ask`, call call-{call}, action {call}]\nYes.");
    let message = json!({"source": "user", "llm_message": {"role": "user",
        "content": [{"type": "text", "text": text}]}});
    mock.append("MessageEvent", &message);
}

/// Attaches where the server refuses all sockets.
async fn polling(mock: &Mock, calls: &Calls) -> Conversation {
    mock.refuse_upgrades();
    mock.append("New", &json!({}));
    let attach = Conversation::attach(&mock.client(), mock.id).client_tool(tool(calls));
    let conversation = soon(attach.into_future()).await.unwrap();
    until(|| conversation.link().status() == LinkStatus::Polling).await;
    conversation
}

/// Reports a status as the server does, without a socket.
fn polled(mock: &Mock, status: &str) {
    let fields = json!({"key": "execution_status", "value": status});
    mock.append("ConversationStateUpdateEvent", &fields);
    mock.set_status(status);
}

#[tokio::test(start_paused = true)]
async fn client_tools_are_executed_where_sockets_are_refused() {
    let (mock, _dials) = Mock::new();
    let calls = Calls::default();
    let conversation = polling(&mock, &calls).await;
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    polled(&mock, "running");
    let call = called(&mock);
    until(|| mock.seen("POST /events") == 1).await;
    assert_eq!(*calls.lock().unwrap(), [call.to_string()]);
    result_of(&mock, call);
    mock.append(
        "MessageEvent",
        &json!({"llm_message": {"role": "assistant", "content": []}}),
    );
    polled(&mock, "finished");
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    conversation.delete().await.unwrap();
}

/// A server before 1.45 ends a run although a message arrived while the model was being asked.
#[tokio::test(start_paused = true)]
async fn a_result_that_an_older_server_may_have_left_unread_is_followed_by_a_reminder() {
    // The responses of the model after the result, and the messages of this client.
    let cases: [(&str, &[&str], usize); 5] = [
        ("1.43.1", &["a"], 2),
        ("1.43.1", &["a", "a"], 2),
        ("1.43.1", &["a", "b"], 1),
        ("1.44.9", &["a"], 2),
        ("1.45.0", &["a"], 1),
    ];
    for (version, responses, messages) in cases {
        let (mock, _dials) = Mock::new();
        mock.set_version(version);
        let conversation = polling(&mock, &Calls::default()).await;
        let running = tokio::spawn(conversation.run().into_future());
        until(|| mock.seen("POST /run") == 1).await;
        polled(&mock, "running");
        let call = called(&mock);
        until(|| mock.seen("POST /events") == 1).await;
        result_of(&mock, call);
        let says = |response: &str| {
            let message = json!({"llm_message": {"role": "assistant", "content": []},
                "llm_response_id": response});
            mock.append("MessageEvent", &message);
        };
        responses.iter().copied().for_each(says);
        polled(&mock, "finished");
        if messages == 2 {
            // The reminder starts another run.
            until(|| mock.seen("POST /events") == 2).await;
            polled(&mock, "idle");
            until(|| mock.seen("POST /run") == 2).await;
            polled(&mock, "running");
            says("c");
            polled(&mock, "finished");
        }
        let outcome = soon(running).await.unwrap().unwrap();
        assert!(outcome.is_finished(), "{outcome}");
        let case = format!("{version} {responses:?}");
        assert_eq!(mock.seen("POST /events"), messages, "{case}");
        assert_eq!(mock.seen("POST /run"), messages, "{case}");
        conversation.delete().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_without_calls_ends_where_sockets_are_refused() {
    let (mock, _dials) = Mock::new();
    let conversation = polling(&mock, &Calls::default()).await;
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    polled(&mock, "running");
    polled(&mock, "finished");
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    conversation.delete().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn resuming_executes_only_calls_without_a_result_in_the_log_with_any_window() {
    for window in [None, Some(1), Some(2), Some(6), Some(7), Some(20)] {
        let (mock, mut dials) = Mock::new();
        let calls = Calls::default();
        let done = called(&mock);
        let interrupted = called(&mock);
        result_of(&mock, done);
        for _ in 0..5 {
            mock.append("New", &json!({}));
        }
        let attach = Conversation::attach(&mock.client(), mock.id);
        let attach = match window {
            Some(events) => attach.tail(events),
            None => attach,
        };
        let attach = attach.client_tool(tool(&calls)).resume_client_tools();
        let attaching = tokio::spawn(attach.into_future());
        let dial = soon(dials.recv()).await.unwrap();
        dial.welcome(&mock, "idle").await.unwrap();
        let conversation = soon(attaching).await.unwrap().unwrap();
        answered(&mock, 1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let executed = calls.lock().unwrap().clone();
        assert_eq!(executed, [interrupted.to_string()], "window {window:?}");
        assert_eq!(mock.seen("POST /events"), 1, "window {window:?}");
        conversation.delete().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_another_process_has_answered_is_not_executed() {
    let (mock, mut dials) = Mock::new();
    let calls = Calls::default();
    mock.append("New", &json!({}));
    let (first, _dial) = attach(&mock, &mut dials, &calls).await;
    first.close().await.unwrap();
    // Another process executes a call and delivers its result. A second call has none.
    let answered_elsewhere = called(&mock);
    result_of(&mock, answered_elsewhere);
    let call = called(&mock);
    let (second, _dial) = attach(&mock, &mut dials, &calls).await;
    answered(&mock, 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*calls.lock().unwrap(), [call.to_string()]);
    second.delete().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_approved_is_executed_if_it_is_older_than_the_events_held() {
    let (mock, mut dials) = Mock::new();
    let calls = Calls::default();
    let call = mock.call_client_tool("ask");
    for _ in 0..5 {
        mock.append("New", &json!({}));
    }
    let attach = Conversation::attach(&mock.client(), mock.id).tail(2);
    let attaching = tokio::spawn(attach.client_tool(tool(&calls)).into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    // Another client approves the call. The first attempts to read it fail.
    let path: &'static str = "/events/0";
    assert_eq!(call, 0);
    for _ in 0..20 {
        mock.plan(path, Err(Wire::Interrupted));
    }
    let approved = mock.answer_client_tool(call);
    dial.durable(approved, &mock.event(approved)).await.unwrap();
    answered(&mock, 1).await;
    assert_eq!(*calls.lock().unwrap(), [call.to_string()]);
    conversation.delete().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_result_that_a_gateway_answers_with_503_is_not_sent_again_during_the_step() {
    let (mock, mut dials) = Mock::new();
    let calls = Calls::default();
    let (conversation, dial) = attach(&mock, &mut dials, &calls).await;
    // Envoy's response when the server closes the connection after it has received the request.
    mock.plan("/events", Ok((503, json!("upstream connect error"))));
    mock.tell(&dial, "running").await;
    let call = called(&mock);
    brings(&mock, &dial, call).await;
    answered(&mock, 1).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(mock.seen("POST /events"), 1, "the step is under way");
    conversation.delete().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_result_starts_a_run_only_if_nothing_has_stopped_the_agent() {
    let statuses = [
        ("idle", 1),
        ("finished", 1),
        ("paused", 0),
        ("stuck", 0),
        ("error", 0),
    ];
    for (status, runs) in statuses {
        let (mock, mut dials) = Mock::new();
        let calls = Calls::default();
        let (conversation, dial) = attach(&mock, &mut dials, &calls).await;
        mock.tell(&dial, "running").await;
        mock.tell(&dial, status).await;
        mock.set_status(status);
        dial.full_state(status).await.unwrap();
        let call = called(&mock);
        brings(&mock, &dial, call).await;
        answered(&mock, 1).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(mock.seen("POST /run"), runs, "{status}");
        conversation.delete().await.unwrap();
    }
}

#[tokio::test]
async fn the_calls_of_a_conversation_that_was_deleted_and_created_again_are_executed() {
    let script = Script::new()
        .step(Step::call("ask", json!({})))
        .forever(|script| script.finish("Done."));
    let server = FakeServer::builder().script(script).start().await.unwrap();
    let place = Place(server.client().unwrap());
    let calls = Calls::default();
    let fake = server.create();
    fake.fill(500, 10).await;
    let attach = Conversation::attach(&place.0, fake.id()).client_tool(tool(&calls));
    let first = attach.await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.close().await.unwrap();
    // Another program deletes the conversation.
    fake.delete();
    let again = Conversation::builder(&place, Agent::new(Llm::new("m").api_key("k")))
        .id(fake.id())
        .client_tool(tool(&calls));
    let again = again.await.unwrap();
    again.send("Go.").await.unwrap();
    let run = again.run().timeout(Duration::from_secs(30)).await.unwrap();
    assert_eq!(calls.lock().unwrap().len(), 1, "{run}");
}

#[tokio::test]
async fn a_childs_calls_are_executed_with_the_handlers_of_its_parent() {
    let script = Script::new()
        .step(Step::call("ask", json!({})))
        .forever(|script| script.finish("Done."));
    let server = FakeServer::builder().script(script).start().await.unwrap();
    let place = Place(server.client().unwrap());
    let calls = Calls::default();
    let parent = Conversation::builder(&place, Agent::new(Llm::new("m").api_key("k")))
        .client_tool(tool(&calls))
        .await
        .unwrap();
    let child = parent.children().start("Go.").await.unwrap();
    let run = child.join().timeout(Duration::from_secs(30)).await.unwrap();
    assert_eq!(calls.lock().unwrap().len(), 1, "{run}");
    let events = child.events();
    let results = events.iter().filter(|event| {
        let text = String::from_utf8_lossy(event.raw());
        event.source().as_str() == "user" && text.contains("An answer.")
    });
    assert_eq!(results.count(), 1);
}
