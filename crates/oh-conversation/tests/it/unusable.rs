//! Tests of invalid responses from a server or an intermediary: each leads to a typed error, and no
//! event is lost.

use std::time::Duration;

use futures_util::StreamExt;
use oh_conversation::{Conversation, Cursor, ErrorKind};
use oh_protocol::{
    ConversationId,
    config::{Agent, Llm},
};
use oh_testkit::{FakeServer, Fault, fake::UpgradeRefusal};
use oh_transport::Client;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};

use crate::mock::{Place, attached};

const LONG: Duration = Duration::from_secs(60);

fn client(server: &FakeServer, key: &str) -> Client {
    let client = Client::builder(server.url()).session_api_key(key);
    client.build().unwrap()
}

/// Starts a web server that answers every request with the same page.
async fn web_server(status: &'static str, kind: &'static str, page: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
                     connection: close\r\n\r\n{page}",
                    page.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    url
}

async fn attach_error(client: &Client, id: ConversationId) -> oh_conversation::Error {
    let attaching = Conversation::attach(client, id).into_future();
    let error = timeout(LONG, attaching).await.unwrap().unwrap_err();
    assert_eq!(error.conversation_id(), Some(id));
    error
}

#[tokio::test]
async fn an_unknown_conversation_is_gone() {
    let server = FakeServer::start().await.unwrap();
    let client = client(&server, server.session_api_key());
    let error = attach_error(&client, ConversationId::random()).await;
    assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
    let made = server.requests().iter().any(|seen| seen.method == "POST");
    assert!(
        !made && server.conversations().is_empty(),
        "attaching creates nothing"
    );
}

#[tokio::test]
async fn a_wrong_key_is_rejected_and_never_shown() {
    let server = FakeServer::start().await.unwrap();
    let id = server.create().id();
    let client = client(&server, "canary");
    let error = attach_error(&client, id).await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(!format!("{error} {error:?} {client:?}").contains("canary"));
    let agent = Agent::new(Llm::new("m"));
    let error = Conversation::builder(&Place(client), agent)
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[tokio::test]
async fn a_server_of_another_kind_is_not_an_agent_server() {
    for (status, kind, page) in [
        ("404 Not Found", "text/html", "<html>nginx</html>"),
        ("200 OK", "text/html", "<html>It works!</html>"),
        ("200 OK", "application/json", r#"{"hello":"world"}"#),
        (
            "404 Not Found",
            "application/json",
            r#"{"error":"no such route"}"#,
        ),
        ("405 Method Not Allowed", "text/plain", ""),
    ] {
        let url = web_server(status, kind, page).await;
        let client = Client::builder(url).build().unwrap();
        let error = attach_error(&client, ConversationId::random()).await;
        assert_eq!(
            error.kind(),
            ErrorKind::NotAnAgentServer,
            "{status} {page}: {error}"
        );
        assert!(
            error
                .transport_error()
                .unwrap()
                .to_string()
                .contains("is not an OpenHands agent server")
        );
    }
}

#[tokio::test]
async fn an_error_page_of_a_proxy_is_reported_by_status_only() {
    let server = FakeServer::start().await.unwrap();
    let id = server.create().id();
    server.inject(Fault::html(502));
    let client = client(&server, server.session_api_key());
    let error = attach_error(&client, id).await;
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    let wire = error.transport_error().unwrap();
    assert_eq!(wire.status().unwrap(), 502);
    assert!(!format!("{error:?}").contains("<html>"));
}

#[tokio::test]
async fn a_404_of_a_gateway_does_not_mean_that_the_conversation_is_gone() {
    let server = FakeServer::start().await.unwrap();
    let id = server.create().id();
    let client = client(&server, server.session_api_key());
    let conversation = Conversation::attach(&client, id).await.unwrap();
    server.inject(Fault::html(404).on(id.to_string()));
    let error = attach_error(&client, id).await;
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
    assert_eq!(error.status().unwrap(), 404);
    let error = conversation.delete().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
    let error = conversation.log().event("1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
    server.heal();
    server.inject(Fault::html(404).on("/navigate"));
    let error = conversation.branches().navigate("1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
    server.heal();
    conversation.delete().await.unwrap();
    let error = attach_error(&client, id).await;
    assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
}

#[tokio::test]
async fn a_truncated_response_is_an_error() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    server.inject(Fault::wrong_length().on(conversation.id().to_string()));
    let client = client(&server, server.session_api_key());
    let error = attach_error(&client, conversation.id()).await;
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    let wire = error.transport_error().unwrap().kind();
    assert_eq!(wire, oh_transport::ErrorKind::Interrupted);
    // A response that is truncated once is requested again.
    server.heal();
    server.inject(
        Fault::wrong_length()
            .on(conversation.id().to_string())
            .times(1),
    );
    let attached = Conversation::attach(&client, conversation.id())
        .await
        .unwrap();
    conversation.fill(300, 100).await;
    server.inject(Fault::wrong_length().on("/events").times(3));
    server.inject(Fault::tear().times(2));
    let events = attached.subscribe(Cursor::Start).take(300);
    let read = timeout(LONG, events.map(Result::unwrap).count())
        .await
        .unwrap();
    assert_eq!(read, 300);
}

#[tokio::test(start_paused = true)]
async fn undecodable_frames_lose_no_event() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let mut events = conversation.subscribe(Cursor::Start);
    for bad in [
        "",
        "[]",
        "not json",
        r#"{"type":"durable"}"#,
        r#"{"type":"durable","seq":-1,"event":{"kind":"New","id":"x"}}"#,
        r#"{"type":"durable","seq":0,"event":{}}"#,
        r#"{"seq":0}"#,
        r#"{"type":"sync","through_seq":"many"}"#,
    ] {
        dial.peer.text(bad).await.unwrap_or_default();
        let (_, _) = mock.append("New", &json!({}));
    }
    drop(dial);
    // Each bad frame ends a connection. The next connection continues at the mirror's position.
    let server = tokio::spawn({
        let mock = mock.clone();
        async move {
            let mut bad = ["{", r#"{"type":7}"#, r#"{"type":"transient"}"#].into_iter();
            while let Some(dial) = dials.recv().await {
                match bad.next() {
                    Some(bad) => _ = dial.peer.text(bad).await,
                    None => {
                        let _ = dial.welcome(&mock, "idle").await;
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    });
    for seq in 0..8 {
        let event = timeout(LONG, events.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(event.id(), seq.to_string());
    }
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn a_404_of_an_older_server_counts_as_deleted_and_a_rejection_does_not() {
    for there in [false, true] {
        let (mock, _dials, _dial, conversation) = attached("idle").await;
        let path: &'static str = Box::leak(mock.id.to_string().into_boxed_str());
        // Server 1.43 answers like this to a `DELETE` of a conversation that it does not have.
        mock.plan(path, Ok((400, json!({"detail": "Bad Request"}))));
        if !there {
            mock.delete();
        }
        let deleted = conversation.delete().await;
        let kind = deleted.err().map(|error| error.kind());
        assert_eq!(kind, there.then_some(ErrorKind::Validation));
        assert_eq!(mock.seen("DELETE "), 1);
    }
}

/// Restores a server from a backup of a time when the log had `length` of 20 events. More events are
/// logged then. Returns how the link of a conversation ends.
async fn restored(server: FakeServer, length: usize, more: usize) -> ErrorKind {
    let fake = server.create();
    fake.fill(20, 10).await;
    let conversation = Conversation::attach(&server.client().unwrap(), fake.id());
    let conversation = conversation.await.unwrap();
    while conversation.events().len() < 20 || !conversation.link().status().is_up() {
        sleep(Duration::from_millis(5)).await;
    }
    let mut events = conversation.subscribe(Cursor::Now);
    server.kill();
    fake.rewind(length);
    server.come_back();
    fake.fill(more, 10).await;
    let ended = async {
        loop {
            if let Err(error) = events.next().await.unwrap() {
                return error.kind();
            }
        }
    };
    timeout(Duration::from_secs(30), ended).await.unwrap()
}

#[tokio::test]
async fn a_log_that_was_restored_from_a_backup_is_noticed_with_every_kind_of_link() {
    for (length, more) in [(19, 5), (12, 3), (12, 30)] {
        let session = FakeServer::start().await.unwrap();
        let legacy = FakeServer::builder()
            .version("1.43.1")
            .without_session_socket();
        let legacy = legacy.start().await.unwrap();
        let refusing = FakeServer::start().await.unwrap();
        refusing.inject(Fault::refuse_upgrade(UpgradeRefusal::Status(403)));
        let ends = tokio::join!(
            restored(session, length, more),
            restored(legacy, length, more),
            restored(refusing, length, more)
        );
        let replaced = ErrorKind::Replaced;
        assert_eq!(ends, (replaced, replaced, replaced), "{length} and {more}");
    }
}
