//! Tests of operations that are not possible: each returns a specific kind of error, and sends
//! nothing that it should not.

use oh_conversation::{ClientTool, Conversation, Conversations, ErrorKind, LinkStatus, Secret};
use oh_protocol::{
    ConversationId,
    calls::events::UserContent,
    config::{Agent, Llm},
};
use oh_transport::{Client, WorkspaceHandle};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::mock::{Dial, Mock, attached, soon};

pub(crate) struct Place(pub(crate) Client);

impl WorkspaceHandle for Place {
    fn client(&self) -> &Client {
        &self.0
    }

    fn working_dir(&self) -> &str {
        "/w"
    }
}

fn agent() -> Agent {
    Agent::default_preset(Llm::new("m").api_key("k")).cli_mode(true)
}

/// Creates a server with these tools that accepts every request.
fn server(tools: &Value) -> (Mock, UnboundedReceiver<Dial>, Place) {
    let (mock, dials) = Mock::new();
    mock.plan(
        "/server_info",
        Ok((200, json!({"version": "1.58.2", "usable_tools": tools}))),
    );
    let place = Place(mock.client());
    (mock, dials, place)
}

fn refused(detail: &str, status: u16) -> crate::mock::Answer {
    Ok((status, json!({ "detail": detail })))
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tool_is_named_before_anything_is_sent() {
    let (mock, _dials, place) = server(&json!(["terminal", "file_editor", "task_tracker"]));
    mock.plan(
        "/tools/",
        Ok((
            200,
            json!(["terminal", "file_editor", "task_tracker", "late"]),
        )),
    );
    let builder = Conversation::builder(&place, agent().tool("late").tool("termnal"));
    let error = soon(builder.start()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTool);
    let said = error.to_string();
    assert!(said.contains("no tool named `termnal`;"), "{said}");
    assert_eq!(mock.seen("POST /api/conversations"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lists_no_tools_accepts_every_tool() {
    let (mock, mut dials, place) = server(&json!([]));
    mock.plan("/tools/", refused("Not Found", 404));
    mock.plan(
        "/api/conversations",
        Ok((
            201,
            json!({"id": mock.id.to_string(), "execution_status": "idle"}),
        )),
    );
    let builder = Conversation::builder(&place, agent()).id(mock.id);
    let starting = tokio::spawn(builder.start());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(starting).await.unwrap().unwrap();
    assert!(conversation.origin().is_new());
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_is_not_an_object_is_rejected_before_sending() {
    let (mock, _dials, place) = server(&json!([]));
    let tool =
        ClientTool::new("ask", "Asks.", |_| async { Ok(()) }).parameters(json!({"type": "array"}));
    let error = Conversation::builder(&place, agent())
        .client_tool(tool)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(mock.seen("POST /api/conversations"), 0);
}

#[tokio::test(start_paused = true)]
async fn two_tools_with_one_name_are_rejected_before_sending() {
    let (mock, _dials, place) = server(&json!([]));
    let tool = |name: &str| ClientTool::new(name, "Does it.", |_| async { Ok(()) });
    for builder in [
        Conversation::builder(&place, agent())
            .client_tool(tool("a"))
            .client_tool(tool("a")),
        Conversation::builder(&place, agent()).client_tool(tool("terminal")),
        Conversation::builder(&place, agent()).client_tool(tool("finish")),
        Conversation::builder(&place, agent().tool("terminal")),
    ] {
        let error = builder.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    }
    assert_eq!(mock.seen("POST /api/conversations"), 0);
}

#[tokio::test(start_paused = true)]
async fn invalid_tags_are_rejected_before_sending() {
    let (mock, _dials, place) = server(&json!([]));
    for (key, value) in [
        ("Team", "x".to_owned()),
        ("", "x".into()),
        ("a", "x".repeat(257)),
    ] {
        let error = Conversation::builder(&place, agent())
            .tag(key, value)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    }
    assert_eq!(mock.seen("POST /api/conversations"), 0);
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    let error = conversation
        .settings()
        .set_tags([("a_b", "x")])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert_eq!(mock.seen("PATCH "), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_event_has_another_error_than_a_deleted_conversation() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    mock.plan("/navigate", refused("Unknown event_id: x", 404));
    let error = soon(conversation.branches().navigate("x"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    mock.plan("/fork", refused("from_event_id 'x' not found", 404));
    let error = soon(conversation.branches().fork().from_event("x").into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    for gone in [
        "Not Found",
        "Conversation not found",
        "Source conversation not found",
    ] {
        mock.plan("/navigate", refused(gone, 404));
        let error = soon(conversation.branches().navigate("x"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Gone, "{gone}");
    }
    assert_eq!(conversation.link().status(), LinkStatus::Live);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_profile_is_a_typed_error() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    mock.plan("/switch_profile", refused("Profile 'x' not found", 404));
    let error = soon(conversation.settings().switch_profile("x"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_goal_while_busy_is_a_conflict_and_requested_at_most_once() {
    let (mock, _dials, dial, conversation) = attached("running").await;
    let start = || soon(conversation.goals().start("x").into_future());
    let error = start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(mock.seen("POST /goal"), 0);
    // Another goal is in progress, between two of its runs.
    mock.tell(&dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    while conversation.state().execution_status().is_running() {
        tokio::task::yield_now().await;
    }
    mock.plan(
        "/goal",
        refused("Conversation run or goal loop already running.", 409),
    );
    let error = start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(mock.seen("POST /goal"), 1);
    let error = conversation.goals().start("  ").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert_eq!(mock.seen("POST /goal"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_image_for_a_model_without_vision_is_not_sent() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let blind =
        json!({"key": "agent", "value": {"kind": "Agent", "llm": {"disable_vision": true}}});
    let (seq, event) = mock.append("ConversationStateUpdateEvent", &blind);
    dial.durable(seq, &event).await.unwrap();
    while conversation.state().get("agent").is_none() {
        tokio::task::yield_now().await;
    }
    let image = || UserContent::image("data:image/png;base64,AA");
    let error = soon(conversation.send(image()).into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoVision, "{error:?}");
    assert_eq!(mock.seen("POST /events"), 0);
    soon(conversation.send(image()).even_if_blind().into_future())
        .await
        .unwrap();
    assert_eq!(mock.seen("POST /events"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_secret_prevents_the_sending_of_all_secrets() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    let failing = Secret::computed(|| async { Err::<String, _>("the vault is shut") });
    let secrets = [("A", Secret::text("canary")), ("B", failing)];
    let error = soon(conversation.secrets().set(secrets)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(!format!("{error:?}").contains("canary"));
    assert_eq!(mock.seen("POST /secrets"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_feature_of_newer_servers_is_unsupported() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    for route in ["/children", "/runtime"] {
        mock.plan(route, refused("Not Found", 404));
    }
    let error = soon(conversation.children().start("x").into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    let error = soon(conversation.runtime().info()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    mock.plan("/children", refused("Parent conversation not found", 404));
    let error = soon(conversation.children().start("x").into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_page_size_of_zero_is_rejected_and_ends_the_list() {
    let (mock, _dials, _place) = server(&json!([]));
    let mut list = Conversations::of(&mock.client()).list().page_size(0);
    let next = futures_util::StreamExt::next(&mut list).await;
    assert_eq!(next.unwrap().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(futures_util::StreamExt::next(&mut list).await.is_none());
    let none = Conversations::of(&mock.client())
        .batch(Vec::<ConversationId>::new())
        .await;
    assert!(none.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_an_older_server_has_a_typed_kind() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    let failed = |why: &str| {
        Ok((
            500,
            json!({"detail": "Internal Server Error", "exception": why}),
        ))
    };
    for _ in 0..10 {
        mock.plan(
            "/no-such-event",
            failed("'Unknown event_id: no-such-event'"),
        );
        mock.plan("/events", failed("'Unknown event_id: no-such-event'"));
    }
    let error = soon(conversation.log().event("no-such-event"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let (_, there) = mock.append("MessageEvent", &json!({}));
    let there: Value = serde_json::from_slice(&there).unwrap();
    mock.plan("/events/0", Ok((200, there)));
    let both = soon(conversation.log().events(["0", "no-such-event"])).await;
    let found: Vec<_> = both.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false]);
    mock.plan(
        "/condense",
        failed("Cannot condense conversation: No condenser configured. …"),
    );
    let error = soon(conversation.agent().condense()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_older_server_receives_no_request_that_it_would_misread() {
    let (mock, mut dials) = Mock::new();
    mock.set_version("1.55.0");
    let attaching = tokio::spawn({
        let mock = mock.clone();
        async move { mock.attach().await.unwrap() }
    });
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap();
    // This server does not find events by their kind.
    for kind in ["MessageEvent", "PauseEvent", "MessageEvent"] {
        mock.append(kind, &json!({}));
    }
    let messages = || {
        conversation
            .log()
            .search()
            .kind("MessageEvent")
            .page_size(1)
    };
    let found = futures_util::StreamExt::collect::<Vec<_>>(messages().newest_first()).await;
    let ids: Vec<_> = found
        .iter()
        .map(|event| event.as_ref().unwrap().id())
        .collect();
    assert_eq!(ids, ["2", "0"]);
    assert_eq!(messages().count().await.unwrap(), 2);
    assert_eq!(mock.seen("GET /events/count"), 0);
    // The server keeps the model that it already has under a usage id.
    for (llm, own) in [
        (Llm::new("m"), false),
        (Llm::new("m"), false),
        (Llm::new("m").usage_id("mine"), true),
    ] {
        conversation.settings().switch_llm(llm).await.unwrap();
        let sent: Value = serde_json::from_str(mock.bodies().last().unwrap()).unwrap();
        let id = sent["llm"]["usage_id"].as_str().unwrap();
        assert_eq!(id == "mine", own);
        let same = |body: &&String| body.contains(id);
        assert_eq!(mock.bodies().iter().filter(same).count(), 1, "{id} is new");
    }
}
