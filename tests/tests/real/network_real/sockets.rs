//! Scenes with sockets that the server or a gateway closes or rejects.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use openhands::{
    Client, Conversation, conversation,
    conversation::LinkStatus,
    protocol::{ConversationId, calls::server::GetServerInfo},
    testkit::{Fault, Proxy},
    transport::{
        self, AuthProvider, Error, ErrorKind, Message, Network, Socket, SocketTransport,
        async_trait,
    },
    workspace::ErrorKind as OfWorkspace,
};
use secrecy::SecretString;
use tokio::time::timeout;

use super::{
    relay::Relay,
    stage::{LONG, Stage, converses, executes, finishes, start, start_with, until, workspace},
};

const BASH: &str = "/sockets/bash-events";
const SESSION: &str = "/sockets/session/{id}";
/// Maximum number of subscribers of a conversation, and of the bash events.
const ROOM: usize = 50;

fn direct(stage: &Stage) -> Client {
    let url = stage.server.url().as_str();
    stage.client(url).build().unwrap()
}

/// Returns the error that ends a socket.
async fn ending(socket: &mut Socket) -> Error {
    let ended = async {
        loop {
            match socket.recv().await {
                Ok(Message::Text(_) | Message::Binary(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => return error,
            }
        }
    };
    timeout(LONG, ended).await.unwrap()
}

pub(crate) async fn a_wrong_key_and_an_unknown_conversation(stage: &Stage) {
    let right = direct(stage);
    let directory = stage.directory("keys");
    let (conversation, _model) = start(&right, &directory).await;
    let url = stage.server.url().as_str();
    let wrong = Client::builder(url).ignore_environment();
    let none = Client::builder(url).ignore_environment().build().unwrap();
    for stranger in [wrong.session_api_key("another").build().unwrap(), none] {
        let id = conversation.id();
        for path in [
            format!("/sockets/session/{id}?after_seq=-1"),
            format!("/sockets/events/{id}"),
            BASH.to_owned(),
        ] {
            let error = ending(&mut stranger.socket(&path).await.unwrap()).await;
            let reported = (error.kind(), error.close_code());
            assert_eq!(reported, (ErrorKind::Unauthorized, Some(4001)), "{path}");
        }
        let error = Conversation::attach(&stranger, id).await.unwrap_err();
        assert_eq!(
            error.kind(),
            conversation::ErrorKind::Unauthorized,
            "{error}"
        );
        let workspace = workspace(&stranger, &directory);
        let command = workspace.execute("echo a > ran").await.unwrap_err();
        let upload = workspace.write("ran", "a").await.unwrap_err();
        let download = workspace.download("ran").bytes().await.unwrap_err();
        let changes = workspace.git().changes().await.unwrap_err();
        for error in [command, upload, download, changes] {
            assert_eq!(error.kind(), OfWorkspace::Unauthorized, "{error}");
        }
        assert!(!directory.join("ran").exists());
    }
    let unknown = ConversationId::random();
    for path in [
        format!("/sockets/session/{unknown}?after_seq=-1"),
        format!("/sockets/events/{unknown}"),
    ] {
        let error = ending(&mut right.socket(&path).await.unwrap()).await;
        let reported = (error.kind(), error.close_code());
        assert_eq!(reported, (ErrorKind::NotFound, Some(4004)), "{path}");
    }
    let error = Conversation::attach(&right, unknown).await.unwrap_err();
    assert_eq!(error.kind(), conversation::ErrorKind::Gone, "{error}");
}

/// A provider whose key expires.
struct Expiring {
    key: SecretString,
    expired: Arc<AtomicBool>,
}

#[async_trait]
impl AuthProvider for Expiring {
    async fn session_api_key(&self) -> transport::Result<SecretString> {
        match self.expired.load(Ordering::SeqCst) {
            true => Ok("expired".into()),
            false => Ok(self.key.clone()),
        }
    }
}

pub(crate) async fn a_key_that_expires(stage: &Stage) {
    let proxy = Proxy::start(stage.server.address()).await.unwrap();
    let expired = Arc::<AtomicBool>::default();
    let provider = Expiring {
        key: stage.server.session_api_key().clone(),
        expired: expired.clone(),
    };
    let client = Client::builder(proxy.url()).ignore_environment();
    let client = client.auth_provider(provider).build().unwrap();
    let directory = stage.directory("expires");
    let (conversation, model) = start(&client, &directory).await;
    until(|| conversation.link().status() == LinkStatus::Live).await;
    expired.store(true, Ordering::SeqCst);
    proxy.cut();
    until(|| conversation.link().status() == LinkStatus::Ended).await;
    let sent = conversation.send("Go.").await.unwrap_err();
    let run = timeout(LONG, conversation.run())
        .await
        .unwrap()
        .unwrap_err();
    let attached = Conversation::attach(&client, conversation.id()).await;
    for error in [sent, run, attached.unwrap_err()] {
        assert_eq!(
            error.kind(),
            conversation::ErrorKind::Unauthorized,
            "{error}"
        );
    }
    let executed = workspace(&client, &directory).execute("echo a").await;
    assert_eq!(executed.unwrap_err().kind(), OfWorkspace::Unauthorized);
    // With a new key, the same client works again.
    expired.store(false, Ordering::SeqCst);
    let again = Conversation::attach(&client, conversation.id());
    let again = timeout(LONG, again).await.unwrap().unwrap();
    finishes(&again, &model, LinkStatus::Live).await;
}

pub(crate) async fn a_server_without_room_for_another_socket(stage: &Stage) {
    let client = direct(stage);
    let directory = stage.directory("room");
    let (conversation, model) = start(&client, &directory).await;
    let session = format!("/sockets/session/{}?after_seq=-1", conversation.id());
    for path in [session.as_str(), BASH] {
        let mut held = Vec::new();
        for _ in 0..ROOM {
            held.push(client.socket(path).await.unwrap());
        }
        let error = ending(&mut client.socket(path).await.unwrap()).await;
        let reported = (error.kind(), error.close_code(), error.is_transient());
        assert_eq!(
            reported,
            (ErrorKind::SocketClosed, Some(1013), true),
            "{path}: {error}"
        );
        if path == BASH {
            executes(&client, &directory).await;
            continue;
        }
        // Another client has no socket, and reads the log by REST.
        let other = direct(stage);
        let attached = Conversation::attach(&other, conversation.id());
        let attached = timeout(LONG, attached).await.unwrap().unwrap();
        finishes(&attached, &model, LinkStatus::Polling).await;
        drop(held);
        until(|| attached.link().status() == LinkStatus::Live).await;
    }
}

pub(crate) async fn close_codes_of_a_gateway(stage: &Stage) {
    const CODES: [u16; 10] = [1000, 1001, 1008, 1011, 1012, 1013, 3000, 4004, 4404, 4999];
    let proxy = Proxy::start(stage.server.address()).await.unwrap();
    proxy.record();
    let client = stage.client(proxy.url()).build().unwrap();
    let directory = stage.directory("codes");
    let short = Duration::from_millis(20);
    let (conversation, model) = start_with(&client, &directory, |it| {
        it.reconnect_after(short, 5 * short)
    })
    .await;
    until(|| conversation.link().status() == LinkStatus::Live).await;
    let other = Conversation::attach(&direct(stage), conversation.id());
    let other = other.await.unwrap();
    for code in CODES {
        let dials = proxy.requests_to("GET", SESSION).len();
        let close = Fault::close(code, "by a gateway").on("/sockets/session/");
        proxy.inject(close.times(1));
        let text = format!("Message {code}.");
        other.send(text.as_str()).await.unwrap();
        let arrived = || {
            let events = conversation.events();
            events.iter().any(|event| event.as_json().contains(&text))
        };
        until(arrived).await;
        until(|| proxy.requests_to("GET", SESSION).len() > dials).await;
        until(|| conversation.link().status() == LinkStatus::Live).await;

        let close = Fault::close(code, "by a gateway").on(BASH);
        proxy.inject(close.times(1));
        executes(&client, &directory).await;
    }
    finishes(&conversation, &model, LinkStatus::Live).await;
}

/// A network that offers a subprotocol on all sockets.
#[derive(Debug)]
struct Offering(Network);

#[async_trait]
impl SocketTransport for Offering {
    async fn connect(&self, url: &url::Url, headers: &HeaderMap) -> transport::Result<Socket> {
        let mut headers = headers.clone();
        headers.insert("sec-websocket-protocol", "chat, superchat".parse().unwrap());
        self.0.connect(url, &headers).await
    }
}

pub(crate) async fn subprotocols(stage: &Stage) {
    let relay = Relay::editing(stage.server.address(), |head| {
        match head.starts_with("HTTP/1.1 101 ") {
            true => head.replacen("\r\n", "\r\nSec-WebSocket-Protocol: superchat\r\n", 1),
            false => head,
        }
    })
    .await;
    // A gateway that selects what nobody offered is no way to the server.
    let client = stage.client(relay.url()).build().unwrap();
    client.call(&GetServerInfo::default()).await.unwrap();
    let error = client.socket(BASH).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
    let directory = stage.directory("subprotocol");
    converses(&client, &directory, LinkStatus::Polling).await;

    // What a program offers may be selected, or not.
    let network = Network::builder().ignore_environment().build().unwrap();
    for (name, url) in [
        ("selected", relay.url()),
        ("ignored", stage.server.url().to_string()),
    ] {
        let client = stage
            .client(url)
            .socket_transport(Offering(network.clone()));
        let directory = stage.directory(name);
        converses(&client.build().unwrap(), &directory, LinkStatus::Live).await;
    }
}
