//! Checks which requests each public method really sends. The list is `routes.txt`:
//! `cargo xtask api-coverage` reads it, and it may contain a line only if this test saw the
//! request.

use std::{collections::BTreeSet, time::Duration};

use oh_conversation::{Approvals, Conversation, PendingAction};
use oh_protocol::{
    ConversationId,
    config::{Agent, ConfirmationPolicy, Llm},
};
use serde_json::json;

use crate::mock::{Mock, Place, attached, soon};

const LISTED: &str = include_str!("routes.txt");

/// Event id in these requests.
const EVENT: &str = "11111111-1111-4111-8111-111111111111";

/// Formats a request like the server's OpenAPI document.
fn operation(mock: &Mock, request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    let path = match path.is_empty() || path.starts_with('/') && !path.starts_with("/api") {
        true => format!("/api/conversations/{{conversation_id}}{path}"),
        false => path.replace(&mock.id.to_string(), "{conversation_id}"),
    };
    format!("{method} {}", path.replace(EVENT, "{event_id}"))
}

/// Waits until `count` actions wait for approval, and returns them.
async fn shown(approvals: &Approvals, count: usize) -> Vec<PendingAction> {
    soon(async {
        loop {
            let pending = approvals.pending();
            if pending.len() == count {
                return pending;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn every_operation_is_asked_for_by_the_method_that_is_listed() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    let client = mock.client();
    let mut sent = BTreeSet::new();
    let mut seen = 0;
    // The results do not matter here: the mock rejects most requests.
    macro_rules! sends {
        ($($name:literal: $call:expr;)*) => {$(
            let _ = soon(async { $call.await }).await;
            let requests = mock.requests();
            for request in &requests[seen..] {
                sent.insert(format!("{} by {}", operation(&mock, request), $name));
            }
            seen = requests.len();
        )*
            assert!(seen > 0);
        };
    }
    for route in ["/run", "/goal", "/goal/resume"] {
        mock.plan(route, Ok((409, json!({"detail": "busy"}))));
    }
    mock.plan("/run", Ok((429, json!({"detail": "full"}))));
    mock.plan("/fork", Ok((409, json!({"detail": "taken"}))));
    let agent = || Agent::new(Llm::new("m").api_key("k"));
    let place = Place(client.clone());
    sends! {
        "ConversationBuilder::start": Conversation::builder(&place, agent()).start();
        "Conversation::attach": Conversation::attach(&client, mock.id);
        "Conversation::list": Conversation::list(&client).next();
        "Conversation::count": Conversation::count(&client, None);
        "Conversation::batch": Conversation::batch(&client, [ConversationId::random()]);
        "Conversation::info": conversation.info();
        "Conversation::runtime": conversation.runtime();
        "Conversation::reprovision": conversation.reprovision();
        "Conversation::send": conversation.send("Hello.");
        "Conversation::run": conversation.run();
        "Conversation::pause": conversation.pause();
        "Conversation::interrupt": conversation.interrupt();
        "Approvals::set_policy": approvals.set_policy(ConfirmationPolicy::never());
        "Conversation::set_security_analyzer": conversation.set_security_analyzer(None);
        "Conversation::set_secrets": conversation.set_secrets([("A", "canary")]);
        "Conversation::set_tags": conversation.set_tags([("a", "b")]);
        "Conversation::set_title": conversation.set_title("A title");
        "Conversation::switch_llm": conversation.switch_llm(Llm::new("m"));
        "Conversation::switch_profile": conversation.switch_profile("other");
        "Conversation::switch_acp_model": conversation.switch_acp_model("other");
        "Conversation::load_plugin": conversation.load_plugin("other");
        "Conversation::ask_agent": conversation.ask_agent("Why?");
        "Conversation::final_response": conversation.final_response();
        "Conversation::condense": conversation.condense();
        "Conversation::fork": conversation.fork();
        "Conversation::navigate": conversation.navigate(EVENT);
        "Conversation::navigate_to_start": conversation.navigate_to_start();
        "Conversation::start_child": conversation.start_child("Count.");
        "Conversation::start_goal": conversation.start_goal("Reach it.");
        "Conversation::stop_goal": conversation.stop_goal();
        "Conversation::resume_goal": conversation.resume_goal();
        "Conversation::search_events": conversation.search_events().next();
        "EventSearch::count": conversation.search_events().count();
        "Conversation::fetch_event": conversation.fetch_event(EVENT);
        "Conversation::fetch_events": conversation.fetch_events([EVENT]);
        "Conversation::trajectory": conversation.trajectory();
    }
    assert!(seen > 30);
    mock.propose(&dial).await;
    let pending = shown(&approvals, 1).await;
    sends! { "Approvals::reject": approvals.reject(&pending, "No."); }
    mock.tell(&dial, "idle").await;
    mock.propose(&dial).await;
    // The log never showed an answer to the first action.
    let pending = shown(&approvals, 2).await;
    sends! { "Approvals::approve": approvals.approve(&pending); }
    sends! { "Conversation::delete": conversation.delete(); }
    let listed: BTreeSet<_> = LISTED.lines().map(str::to_owned).collect();
    let unsent: Vec<_> = listed.difference(&sent).collect();
    assert!(
        unsent.is_empty(),
        "listed, but not sent: {unsent:#?} of {sent:#?}"
    );
    // The list contains every method.
    let by = |line: &String| line.split_once(" by ").map(|(_, by)| by.to_owned());
    let methods: BTreeSet<_> = sent.iter().filter_map(by).collect();
    let named: BTreeSet<_> = listed.iter().filter_map(by).collect();
    assert_eq!(methods, named);
}
