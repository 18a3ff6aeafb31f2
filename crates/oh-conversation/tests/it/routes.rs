//! Checks which requests each public method really sends. The list is `routes.txt`:
//! `cargo xtask api-coverage` reads it, and it may contain a line only if this test saw the
//! request.

use std::{collections::BTreeSet, time::Duration};

use oh_conversation::{Approvals, Conversation, Conversations, PendingAction};
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
    let path = path.replace("/CODEX_AUTH_JSON", "/{secret_name}");
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
async fn every_listed_method_requests_its_operation() {
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
        "Conversations::list": Conversations::of(&client).list().next();
        "Conversations::count": Conversations::of(&client).count(None);
        "Conversations::batch": Conversations::of(&client).batch([ConversationId::random()]);
        "Conversation::info": conversation.info();
        "Runtime::info": conversation.runtime().info();
        "Runtime::reprovision": conversation.runtime().reprovision();
        "Runtime::release": conversation.runtime().release();
        "Runtime::session_api_key": conversation.runtime().session_api_key();
        "Conversations::prepare_pause": Conversations::of(&client).prepare_pause();
        "Secrets::bind": conversation.secrets().bind("CODEX_AUTH_JSON", "http://h", [("A", "canary")]);
        "Conversation::send": conversation.send("Hello.");
        "Conversation::run": conversation.run();
        "Conversation::pause": conversation.pause();
        "Conversation::interrupt": conversation.interrupt();
        "Approvals::set_policy": approvals.set_policy(ConfirmationPolicy::never());
        "Settings::set_security_analyzer": conversation.settings().set_security_analyzer(None);
        "Secrets::set": conversation.secrets().set([("A", "canary")]);
        "Settings::set_tags": conversation.settings().set_tags([("a", "b")]);
        "Title::set": conversation.title().set("A title");
        "Settings::switch_llm": conversation.settings().switch_llm(Llm::new("m"));
        "Settings::switch_profile": conversation.settings().switch_profile("other");
        "Settings::switch_acp_model": conversation.settings().switch_acp_model("other");
        "Settings::load_plugin": conversation.settings().load_plugin("other");
        "AgentRequests::ask": conversation.agent().ask("Why?");
        "AgentRequests::final_response": conversation.agent().final_response();
        "AgentRequests::condense": conversation.agent().condense();
        "Branches::fork": conversation.branches().fork();
        "Branches::navigate": conversation.branches().navigate(EVENT);
        "Branches::navigate_to_start": conversation.branches().navigate_to_start();
        "Children::start": conversation.children().start("Count.");
        "Goals::start": conversation.goals().start("Reach it.");
        "Goals::stop": conversation.goals().stop();
        "Goals::resume": conversation.goals().resume();
        "EventLog::search": conversation.log().search().next();
        "EventSearch::count": conversation.log().search().count();
        "EventLog::event": conversation.log().event(EVENT);
        "EventLog::events": conversation.log().events([EVENT]);
        "EventLog::trajectory": conversation.log().trajectory();
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
