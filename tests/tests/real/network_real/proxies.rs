//! Scenes with a forward proxy between the client and the server.

use std::time::Duration;

use openhands::{
    Client, Conversation, RunStatus, conversation,
    conversation::LinkStatus,
    protocol::calls::server::GetServerInfo,
    transport::{Error, ErrorKind},
    workspace::ErrorKind as OfWorkspace,
};
use tokio::time::timeout;

use super::{
    forwarder::{Forwarder, HOST, Mode},
    stage::{LONG, Stage, converses, finishes, start_with, until, workspace},
};

/// A refusal in Latin-1, as localized proxies send it.
const PASSWORD: &[u8] =
    b"HTTP/1.1 407 Authentification n\xe9cessaire\r\nX-Note: \xe9\r\nContent-Length: 0\r\n\r\n";
const FORBIDDEN: &[u8] = b"HTTP/1.1 403 Interdit \xe0 tous\r\nContent-Length: 0\r\n\r\n";
const CLOSED: &[u8] = b"";

fn client(stage: &Stage, proxy: &Forwarder) -> Client {
    let url = format!("http://{HOST}:{}", stage.server.port());
    stage.client(url).proxy(proxy.url()).build().unwrap()
}

pub(crate) async fn a_conversation_through_a_forwarding_proxy(stage: &Stage) {
    let proxy = Forwarder::start(stage.server.address()).await;
    let client = client(stage, &proxy);
    converses(&client, &stage.directory("forwarded"), LinkStatus::Live).await;
    proxy.check(stage.server.port(), stage.key());
}

/// A proxy with the usual rule that tunnels are for port 443 only.
pub(crate) async fn a_conversation_through_a_proxy_without_tunnels(stage: &Stage) {
    let proxy = Forwarder::start(stage.server.address()).await;
    proxy.set(Mode::NoTunnels(FORBIDDEN));
    let client = client(stage, &proxy);
    converses(&client, &stage.directory("no-tunnels"), LinkStatus::Polling).await;
}

pub(crate) async fn a_proxy_that_refuses(stage: &Stage) {
    tokio::join!(
        refuses(
            stage,
            "password",
            PASSWORD,
            (ErrorKind::Proxy, ErrorKind::Proxy, Some(407)),
            OfWorkspace::Proxy,
        ),
        // A forwarded request does not show who refused it.
        refuses(
            stage,
            "forbidden",
            FORBIDDEN,
            (ErrorKind::Forbidden, ErrorKind::Proxy, Some(403)),
            OfWorkspace::Forbidden,
        ),
        refuses(
            stage,
            "closed",
            CLOSED,
            (ErrorKind::Interrupted, ErrorKind::Connect, None),
            OfWorkspace::Interrupted,
        ),
    );
}

/// Checks the error of a check, a command, an upload, an attach, a message and a run, and that the
/// conversation goes on when the proxy forwards again.
async fn refuses(
    stage: &Stage,
    name: &str,
    answer: &'static [u8],
    (forwarded, tunnelled, status): (ErrorKind, ErrorKind, Option<u16>),
    of_workspace: OfWorkspace,
) {
    let proxy = Forwarder::start(stage.server.address()).await;
    let client = client(stage, &proxy);
    let directory = stage.directory(name);
    // Longer than a busy machine delays a response that the proxy forwards.
    let limit = Duration::from_secs(5);
    let (conversation, model) = start_with(&client, &directory, |builder| {
        builder
            .ambiguous_after(limit)
            .unreachable_after(limit)
            .reconnect_after(Duration::from_millis(50), Duration::from_millis(500))
    })
    .await;
    let of_conversation = match forwarded {
        ErrorKind::Proxy => conversation::ErrorKind::Proxy,
        ErrorKind::Forbidden => conversation::ErrorKind::Forbidden,
        _ => conversation::ErrorKind::Interrupted,
    };
    let shows = |error: &Error, kind: ErrorKind| {
        let text = format!("{error:?} {error}");
        assert_eq!(error.kind(), kind, "{name}: {text}");
        assert_eq!(error.status().map(|it| it.as_u16()), status, "{text}");
        assert!(
            !text.contains(stage.key()) && !text.contains("pass@"),
            "{text}"
        );
    };

    proxy.set(Mode::Refuse(answer));
    assert!(!client.is_alive().await);
    let check = GetServerInfo::default();
    shows(&client.call(&check).await.unwrap_err(), forwarded);
    // A 403 could be the server's own, so what is known about it stays valid.
    if status != Some(403) {
        shows(&client.server_info().await.unwrap_err(), forwarded);
    }
    let socket = client.socket("/sockets/bash-events").await;
    shows(&socket.unwrap_err(), tunnelled);

    let workspace = workspace(&client, &directory);
    let error = workspace.execute("echo a >> ran").await.unwrap_err();
    assert_eq!(error.kind(), of_workspace, "{error}");
    shows(error.transport_error().unwrap(), forwarded);
    let error = workspace.write("uploaded", "a").await.unwrap_err();
    assert_eq!(error.kind(), of_workspace, "{error}");
    shows(error.transport_error().unwrap(), forwarded);
    for made in ["ran", "uploaded"] {
        assert!(!directory.join(made).exists());
    }

    let attach = Conversation::attach(&client, conversation.id());
    let attached = timeout(LONG, attach).await.unwrap();
    let sent = timeout(LONG, conversation.send("Not now.")).await.unwrap();
    let (attached, sent) = (attached.unwrap_err(), sent.unwrap_err());
    assert_eq!(attached.kind(), of_conversation, "{attached}");
    // The link may have noticed already; the message then waits for it up to its limit.
    let waited = sent.kind() == conversation::ErrorKind::Timeout;
    assert!(waited || sent.kind() == of_conversation, "{sent}");
    for error in [attached, sent] {
        shows(error.transport_error().unwrap(), forwarded);
    }
    // What is refused first, the run or its link, decides which of the two shows the reason.
    let text = match timeout(LONG, conversation.run()).await.unwrap() {
        Ok(outcome) => {
            assert_eq!(outcome.status(), RunStatus::ServerGone, "{outcome}");
            outcome.to_string()
        }
        Err(error) => {
            assert_eq!(error.kind(), of_conversation, "{error}");
            shows(error.transport_error().unwrap(), forwarded);
            error.to_string()
        }
    };
    let reason = status.map_or("the connection ended".to_owned(), |status| {
        status.to_string()
    });
    assert!(text.contains(&reason), "{text}");
    assert!(model.requests().is_empty());

    proxy.set(Mode::Forward);
    until(|| conversation.link().status() == LinkStatus::Live).await;
    finishes(&conversation, &model, LinkStatus::Live).await;
}
