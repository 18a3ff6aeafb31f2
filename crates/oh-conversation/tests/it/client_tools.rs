//! Client tools while connections come and go.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use oh_conversation::{ClientTool, ClientToolCall, Conversation};
use oh_transport::Error;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::mock::{Dial, Mock, soon};

type Calls = Arc<Mutex<Vec<String>>>;

fn tool(calls: &Calls) -> ClientTool {
    let calls = calls.clone();
    ClientTool::new("ask", "Asks.", move |call: ClientToolCall| {
        calls.lock().unwrap().push(call.id().to_owned());
        async { "An answer." }
    })
}

fn called(mock: &Mock) -> u64 {
    let action = json!({"tool_name": "ask", "tool_call_id": "c",
        "action": {"kind": "ClientAction_ask"}});
    mock.append("ActionEvent", &action).0
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
async fn each_call_is_carried_out_once_across_cuts_and_attaches_and_history_is_left_alone() {
    let (mock, mut dials) = Mock::new();
    let calls = Calls::default();
    called(&mock);
    let (first, dial) = attach(&mock, &mut dials, &calls).await;
    let seq = called(&mock);
    dial.durable(seq, &mock.event(seq)).await.unwrap();
    answered(&mock, 1).await;
    // The same again after a cut, and another that came meanwhile.
    let seq = called(&mock);
    dial.peer.end(Error::closed(1012, "")).await.unwrap();
    let dial = soon(dials.recv()).await.unwrap();
    dial.sync(Some(seq)).await.unwrap();
    for seq in 0..=seq {
        dial.durable(seq, &mock.event(seq)).await.unwrap();
    }
    answered(&mock, 2).await;
    first.close().await.unwrap();
    // Called while nobody was attached.
    called(&mock);
    let (second, _dial) = attach(&mock, &mut dials, &calls).await;
    answered(&mock, 3).await;
    assert_eq!(*calls.lock().unwrap(), ["1", "2", "3"]);
    second.delete().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_result_is_sent_until_it_is_taken_and_never_runs_what_awaits_approval() {
    let (mock, mut dials) = Mock::new();
    let calls = Calls::default();
    let (conversation, dial) = attach(&mock, &mut dials, &calls).await;
    mock.plan("/events", Ok((503, json!({"detail": "Starting"}))));
    mock.plan("/events", Err(oh_transport::ErrorKind::Connect));
    dial.full_state("waiting_for_confirmation").await.unwrap();
    let seq = called(&mock);
    dial.durable(seq, &mock.event(seq)).await.unwrap();
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
async fn a_tool_that_panics_tells_the_agent_and_harms_no_other() {
    let (mock, mut dials) = Mock::new();
    let calls = Calls::default();
    let broken = ClientTool::new("broken", "Breaks.", |_| async {
        if true {
            panic!("as it is meant to");
        }
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
    let action = json!({"tool_name": "broken", "tool_call_id": "b",
        "action": {"kind": "ClientAction_broken"}});
    let (seq, event) = mock.append("ActionEvent", &action);
    dial.durable(seq, &event).await.unwrap();
    let seq = called(&mock);
    dial.durable(seq, &mock.event(seq)).await.unwrap();
    answered(&mock, 2).await;
    let bodies = mock.bodies().join("\n");
    assert!(bodies.contains("It failed: the tool panicked."), "{bodies}");
    assert!(bodies.contains("An answer."), "{bodies}");
    conversation.delete().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_result_that_may_have_been_taken_is_not_sent_again_before_the_server_says_it_was_not() {
    for taken in [true, false] {
        let (mock, mut dials) = Mock::new();
        let calls = Calls::default();
        let (conversation, dial) = attach(&mock, &mut dials, &calls).await;
        dial.full_state("running").await.unwrap();
        // The connection fails when the server has it: it takes it when the step has ended.
        mock.plan("/events", Err(oh_transport::ErrorKind::Interrupted));
        let seq = called(&mock);
        dial.durable(seq, &mock.event(seq)).await.unwrap();
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
            // Nobody tells of it; the log has it.
            mock.append("MessageEvent", &message);
        }
        dial.full_state("finished").await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(mock.seen("POST /events"), if taken { 1 } else { 2 });
        conversation.delete().await.unwrap();
    }
}
