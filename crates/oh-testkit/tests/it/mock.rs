//! Tests of the mock transports with the real client.

use expect_test::expect;
use oh_protocol::{
    ConversationId,
    calls::{conversations, server},
};
use oh_testkit::{ErrorKind, Mock};
use oh_transport::Message;
use serde_json::json;

#[tokio::test]
async fn a_mock_answers_in_order_and_verifies() {
    let mock = Mock::new();
    let id = ConversationId::random();
    mock.expect("POST", format!("/api/conversations/{id}/run"))
        .answer(409, json!({"detail": "busy"}));
    mock.expect("PATCH", format!("/api/conversations/{id}"))
        .with(json!({"title": "T"}))
        .answer(200, json!({"success": true}));
    let client = mock.client();
    let busy = client.call(&conversations::Run::new(id)).await.unwrap_err();
    assert_eq!(busy.kind(), oh_transport::ErrorKind::Conflict);
    assert_eq!(busy.detail(), Some("busy"));
    client
        .call(&conversations::Update::title(id, "T"))
        .await
        .unwrap();
    mock.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_client_repeats_only_repeatable_calls() {
    let mock = Mock::new();
    mock.expect("GET", "/server_info")
        .fail(oh_transport::ErrorKind::Connect);
    mock.expect("GET", "/server_info")
        .answer(503, json!({}))
        .header("retry-after", "1");
    mock.expect("GET", "/server_info")
        .answer(200, json!({"version": "1.58.2"}));
    let info = mock
        .client()
        .call(&server::GetServerInfo::default())
        .await
        .unwrap();
    assert_eq!(info.version.to_string(), "1.58.2");
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_mock_shows_the_differences() {
    let mock = Mock::new();
    let id = ConversationId::random();
    mock.expect("POST", format!("/api/conversations/{id}/run"));
    mock.expect("DELETE", format!("/api/conversations/{id}"));
    let _peer = mock.expect_socket("/sockets/bash-events");
    let client = mock.client();
    client.call(&conversations::Run::new(id)).await.unwrap();
    client
        .call(&conversations::Pause::new(id))
        .await
        .unwrap_err();
    assert!(client.socket("/sockets/other").await.is_err());
    let report = mock.verify().unwrap_err();
    assert_eq!(report.kind(), ErrorKind::Unmet);
    let lines: Vec<_> = report
        .to_string()
        .lines()
        .skip(1)
        .map(str::to_owned)
        .collect();
    let conversation = format!("/api/conversations/{id}");
    assert_eq!(
        lines,
        [
            format!("  POST {conversation}/run"),
            format!("+ POST {conversation}/pause"),
            "+ socket /sockets/other".to_owned(),
            format!("- DELETE {conversation}"),
            "- socket /sockets/bash-events".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_socket_is_a_channel_with_two_ends() {
    let mock = Mock::new();
    let target = "/sockets/session/x?after_seq=3";
    let expected = mock.expect_socket(target);
    let mut socket = mock.client().socket(target).await.unwrap();
    let server = expected.accept().await.unwrap();
    server.text("{}").await.unwrap();
    assert_eq!(socket.recv().await.unwrap(), Message::Text("{}".into()));
    let closed = oh_transport::Error::closed(1013, "slow_consumer");
    server.end(closed).await.unwrap();
    assert_eq!(socket.recv().await.unwrap_err().close_code(), Some(1013));
    mock.verify().unwrap();
}

/// Checks the report for unexpected requests.
#[tokio::test]
async fn the_report_has_the_form_of_a_difference() {
    let id = "00000000-0000-4000-8000-000000000001"
        .parse::<ConversationId>()
        .unwrap();
    let path = format!("/api/conversations/{id}");
    let mock = Mock::new();
    mock.expect("GET", &path)
        .answer(404, json!({"detail": "Not Found"}));
    let tags = json!({"tags": {"kept": "1", "old": "2"}});
    mock.expect("PATCH", &path).with(tags);
    mock.expect("POST", format!("{path}/run"));
    let _socket = mock.expect_socket("/sockets/bash-events");
    let client = mock.client();
    client.call(&conversations::Get::new(id)).await.unwrap_err();
    let tags = [("kept", "1"), ("new", "3")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let update = conversations::Update::tags(id, tags.into());
    let said = client.call(&update).await.unwrap_err();
    let pause = conversations::Pause::new(id);
    let also = client.call(&pause).await.unwrap_err();
    let report = mock.verify().unwrap_err();
    expect![[r#"
        the mock transport did not expect PATCH /api/conversations/00000000-0000-4000-8000-000000000001: the body differs at /tags/new, /tags/old (/api/conversations/00000000-0000-4000-8000-000000000001)
        the mock transport did not expect POST /api/conversations/00000000-0000-4000-8000-000000000001/pause: expected instead: PATCH /api/conversations/00000000-0000-4000-8000-000000000001 (/api/conversations/00000000-0000-4000-8000-000000000001/pause)
        the requests differ from the expected ones (- missing, + unexpected, ~ different body):
          GET /api/conversations/00000000-0000-4000-8000-000000000001
        ~ PATCH /api/conversations/00000000-0000-4000-8000-000000000001, with another body:
        +     /tags/new: "3"
        -     /tags/old: "2"
        + POST /api/conversations/00000000-0000-4000-8000-000000000001/pause
        - PATCH /api/conversations/00000000-0000-4000-8000-000000000001 {"tags":{"kept":"1","old":"2"}}
        - POST /api/conversations/00000000-0000-4000-8000-000000000001/run
        - socket /sockets/bash-events"#]]
    .assert_eq(&format!("{said}\n{also}\n{report}"));
}
