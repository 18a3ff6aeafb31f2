//! Tests of faults as a client sees them: alone, combined, repeated with the same seed, and faults
//! of bytes after faults of messages.

use std::time::Duration;

use oh_protocol::calls::{conversations, files};
use oh_testkit::{Chance, FakeConversation, FakeServer, Fault, Link, Proxy, fake::Repository};
use oh_transport::{Client, ErrorKind, Message};
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use crate::fake::{client, next};

/// Returns what a socket receives until it ends or falls silent: sequence numbers, and how it
/// ended.
async fn listen(client: &Client, conversation: &FakeConversation) -> (Vec<u64>, String) {
    let path = format!("/sockets/session/{}?after_seq=-1", conversation.id());
    let mut socket = client.socket(&path).await.unwrap();
    let mut seqs = Vec::new();
    loop {
        match timeout(Duration::from_millis(400), socket.recv()).await {
            Err(_) => return (seqs, "silent".to_owned()),
            Ok(Err(error)) => {
                let code = error.close_code();
                return (seqs, format!("{:?} {code:?}", error.kind()));
            }
            Ok(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_slice(&text).unwrap();
                if frame["type"] == "durable" {
                    seqs.push(frame["seq"].as_u64().unwrap());
                }
                // The snapshot follows the replay, so the replay is complete.
                if frame["type"] == "transient" {
                    return (seqs, "whole".to_owned());
                }
            }
            Ok(Ok(other)) => panic!("{other:?}"),
        }
    }
}

/// The source of faults: the server itself, or a proxy in front of a server without faults.
struct Weather {
    server: FakeServer,
    proxy: Option<Proxy>,
    client: Client,
}

impl Weather {
    async fn both() -> [Self; 2] {
        let own = FakeServer::start().await.unwrap();
        let well = FakeServer::start().await.unwrap();
        let proxy = Proxy::start(well.address()).await.unwrap();
        // New connections are parsed from here on.
        proxy.inject(Fault::gap().times(0));
        let through = Client::builder(proxy.url()).session_api_key(well.session_api_key());
        let own = Self {
            client: client(&own),
            server: own,
            proxy: None,
        };
        let through = Self {
            client: through.build().unwrap(),
            server: well,
            proxy: Some(proxy),
        };
        [own, through]
    }

    fn inject(&self, fault: Fault) {
        match &self.proxy {
            Some(proxy) => proxy.inject(fault),
            None => self.server.inject(fault),
        }
    }

    fn heal(&self) {
        match &self.proxy {
            Some(proxy) => proxy.heal(),
            None => self.server.heal(),
        }
    }
}

#[tokio::test]
async fn each_fault_of_an_answer_is_seen_by_the_client() {
    for weather in Weather::both().await {
        answers_fail(&weather).await;
    }
}

async fn answers_fail(weather: &Weather) {
    let Weather { server, client, .. } = weather;
    let conversation = server.create();
    let run = conversations::Run::new(conversation.id());
    for (name, fault, kind, status) in [
        ("busy", Fault::status(503), ErrorKind::Server, Some(503)),
        (
            "asked to wait",
            Fault::status(429).retry_after(Duration::from_secs(3)),
            ErrorKind::RateLimited,
            Some(429),
        ),
        ("broken", Fault::status(500), ErrorKind::Server, Some(500)),
        ("a page", Fault::html(502), ErrorKind::Server, Some(502)),
        (
            "torn",
            Fault::wrong_length(),
            ErrorKind::Interrupted,
            Some(200),
        ),
        ("lost", Fault::lost_answer(), ErrorKind::Interrupted, None),
        (
            "replaced",
            Fault::replaced_answer(504),
            ErrorKind::Server,
            Some(504),
        ),
    ] {
        weather.inject(fault.times(1));
        let before = server.requests().len();
        let error = client.call(&run).await.unwrap_err();
        // A rejected request is not executed; one with a torn, lost or replaced response is.
        let deeds = server.requests().split_off(before);
        let done = deeds.iter().filter(|seen| seen.status == 200).count();
        let executed = kind == ErrorKind::Interrupted || name == "replaced";
        assert_eq!(done, usize::from(executed), "{name}");
        conversation.idle().await;
        let reported = error.status().map(|status| status.as_u16());
        assert_eq!((error.kind(), reported), (kind, status), "{name}: {error}");
        assert!(!error.to_string().contains("<html"), "{name}: {error}");
        weather.heal();
    }
    // The fault is over.
    client.call(&run).await.unwrap();
    conversation.idle().await;
}

#[tokio::test]
async fn each_fault_of_a_socket_is_seen_by_the_client() {
    for weather in Weather::both().await {
        sockets_fail(&weather).await;
    }
}

async fn sockets_fail(weather: &Weather) {
    let Weather { server, client, .. } = weather;
    let conversation = server.create();
    conversation.fill(6, 300).await;
    let all = [0, 1, 2, 3, 4, 5];
    for (fault, seqs, end) in [
        (Fault::cut().after(3), &all[..3], "Interrupted None"),
        (Fault::tear().after(3), &all[..3], "Interrupted None"),
        (Fault::stall().after(3), &all[..3], "silent"),
        (
            Fault::close(1013, "slow_consumer").after(3),
            &all[..3],
            "SocketClosed Some(1013)",
        ),
        (
            Fault::close(1012, "restart").after(0),
            &[],
            "SocketClosed Some(1012)",
        ),
        (Fault::duplicate().after(3), &[0, 1, 2, 3, 3, 4, 5], "whole"),
        (Fault::gap().after(3), &[0, 1, 2, 4, 5], "whole"),
        (Fault::swap().after(3), &[0, 1, 2, 4, 3, 5], "whole"),
        (Fault::oversized(70_000).after(3), &all, "whole"),
        (Fault::drip(Duration::from_millis(2)), &all, "whole"),
    ] {
        let shown = format!("{fault:?}");
        weather.inject(fault.times(1));
        let (seen, ended) = listen(client, &conversation).await;
        assert_eq!(seen, seqs, "{shown}");
        assert_eq!(ended, end, "{shown}");
        weather.heal();
    }
}

/// Checks that a parsing proxy does not change bodies of any kind, in both directions.
#[tokio::test]
async fn a_proxy_that_reads_changes_nothing() {
    let [_, weather] = Weather::both().await;
    let Weather { server, client, .. } = &weather;
    let long = bytes::Bytes::from(vec![7; 3_000_000]);
    let upload = files::Upload::new("/w/long", long.clone());
    client.call(&upload).await.unwrap();
    assert_eq!(server.read_file("/w/long").unwrap(), long);
    let download = files::Download::new("/w/long");
    assert_eq!(client.call(&download).await.unwrap().bytes(), &long);
    let conversation = server.create();
    conversation.fill(300, 2_000).await;
    let (seqs, end) = listen(client, &conversation).await;
    assert!(seqs.into_iter().eq(0..300));
    assert_eq!(end, "whole");
    // The client's messages on a socket arrive.
    let path = format!("/sockets/session/{}", conversation.id());
    let mut socket = client.socket(&path).await.unwrap();
    let said = r#"{"role":"user","content":"hello"}"#;
    socket.send(Message::Text(said.into())).await.unwrap();
    while next(&mut socket).await.unwrap()["event"]["kind"] != "MessageEvent" {}
    conversation.idle().await;
}

/// Checks both kinds of faults on one link: a duplicate event, and then a cut.
#[tokio::test]
async fn a_link_acts_on_data_that_faults_left() {
    let [_, weather] = Weather::both().await;
    let proxy = weather.proxy.as_ref().unwrap();
    let conversation = weather.server.create();
    conversation.fill(30, 1000).await;
    proxy.next(Link::new().cut_after(12_345));
    proxy.inject(Fault::duplicate().after(2).times(1));
    let (seqs, end) = listen(&weather.client, &conversation).await;
    assert_eq!(&seqs[..5], [0, 1, 2, 2, 3]);
    assert!(
        (8..14).contains(&seqs.len()) && end.starts_with("Interrupted"),
        "{seqs:?} {end}"
    );
}

#[tokio::test]
async fn the_same_seed_gives_the_same_weather_through_a_proxy() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    conversation.fill(40, 300).await;
    let play = async |seed| {
        let proxy = Proxy::seeded(server.address(), seed).await.unwrap();
        proxy.inject(Fault::duplicate().one_in(5));
        proxy.inject(Fault::cut().one_in(30));
        let client = Client::builder(proxy.url()).session_api_key(server.session_api_key());
        let client = client.build().unwrap();
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(listen(&client, &conversation).await);
        }
        seen
    };
    let first = play(11).await;
    assert_eq!(first, play(11).await);
    assert_ne!(first, play(12).await);
}

#[tokio::test]
async fn two_simultaneous_faults_both_act() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    conversation.fill(8, 300).await;
    let client = client(&server);
    server.inject(Fault::duplicate().after(1).times(1));
    server.inject(Fault::gap().after(3).times(1));
    server.inject(Fault::tear().after(6).times(1));
    let (seqs, end) = listen(&client, &conversation).await;
    assert_eq!(seqs, [0, 1, 1, 2, 4, 5]);
    assert!(end.starts_with("Interrupted"), "{end}");
    // Two faults of the same event: sent twice, after an oversized frame.
    server.inject(Fault::duplicate().after(2).times(1));
    server.inject(Fault::oversized(10_000).after(2).times(1));
    let (seqs, end) = listen(&client, &conversation).await;
    assert_eq!(
        (seqs.as_slice(), end.as_str()),
        (&[0, 1, 2, 2, 3, 4, 5, 6, 7][..], "whole")
    );
    // Two faults of the same response: delayed, and then rejected.
    server.inject(Fault::delay(Duration::from_millis(50)).times(1));
    server.inject(Fault::status(503).retry_after(Duration::ZERO).times(1));
    let begun = std::time::Instant::now();
    let run = conversations::Run::new(conversation.id());
    let refused = client.call(&run).await.unwrap_err();
    assert_eq!(refused.status().map(|status| status.as_u16()), Some(503));
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bad_weather() {
    let play = async |seed| {
        let server = FakeServer::builder().seed(seed).start().await.unwrap();
        let conversation = server.create();
        conversation.fill(40, 300).await;
        let client = client(&server);
        server.inject(Fault::duplicate().one_in(5));
        server.inject(Fault::gap().one_in(7));
        server.inject(Fault::cut().one_in(30));
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(listen(&client, &conversation).await);
        }
        seen
    };
    let first = play(11).await;
    assert!(first.iter().any(|(_, end)| end != "whole"), "{first:?}");
    assert_eq!(first, play(11).await);
    assert_ne!(first, play(12).await);
}

#[tokio::test]
async fn bytes_and_messages_fail_together() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    conversation.fill(30, 1000).await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let client = Client::builder(proxy.url())
        .session_api_key(server.session_api_key())
        .build()
        .unwrap();
    // Cut at an exact byte in the middle of a frame, after a duplicate event.
    proxy.next(
        Link::new()
            .cut_after(12_345)
            .drip(700, Duration::from_millis(1)),
    );
    server.inject(Fault::duplicate().after(2).times(1));
    let (seqs, end) = listen(&client, &conversation).await;
    assert_eq!(&seqs[..5], [0, 1, 2, 2, 3]);
    assert!(
        (8..14).contains(&seqs.len()) && end.starts_with("Interrupted"),
        "{seqs:?} {end}"
    );
    // Half-open: nothing arrives and nothing ends. Held data is delivered late.
    let mut socket = client
        .socket(format!("/sockets/session/{}", conversation.id()))
        .await
        .unwrap();
    next(&mut socket).await.unwrap();
    next(&mut socket).await.unwrap();
    proxy.hold();
    conversation.fill(1, 500).await;
    assert!(
        timeout(Duration::from_millis(300), socket.recv())
            .await
            .is_err()
    );
    proxy.release();
    assert_eq!(next(&mut socket).await.unwrap()["seq"], 30);
    // The same seed gives the same links.
    let links = |seed| {
        let mut chance = Chance::new(seed);
        (0..9)
            .map(|_| chance.pick(1..=1_000_000))
            .collect::<Vec<_>>()
    };
    assert_eq!(links(3), links(3));
}

#[tokio::test]
async fn a_server_that_refuses_connections_keeps_running() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    let client = client(&server);
    let (_, end) = listen(&client, &conversation).await;
    assert_eq!(end, "whole");
    let path = format!("/sockets/session/{}", conversation.id());
    let mut socket = client.socket(&path).await.unwrap();
    next(&mut socket).await.unwrap();
    server.refuse();
    while next(&mut socket).await.is_ok() {}
    for _ in 0..20 {
        let refused = TcpStream::connect(server.address()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    conversation.log("agent", "PauseEvent", serde_json::json!({}));
    server.accept().unwrap();
    assert_eq!(listen(&client, &conversation).await.0, [0]);
    // Restarts repeatedly on the same port.
    for _ in 0..20 {
        server.kill();
        TcpStream::connect(server.address()).await.unwrap_err();
        server.come_back();
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let silent = timeout(Duration::from_millis(5), stream.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
    }
}

#[tokio::test]
async fn a_restart_keeps_stored_data_and_forgets_the_rest() {
    let server = FakeServer::start().await.unwrap();
    server.set_repository("/w", Repository::new());
    server.write_file("/w/a", "kept").unwrap();
    let conversation = server.create();
    conversation.fill(3, 300).await;
    conversation.set(
        "confirmation_policy",
        serde_json::json!({"kind": "AlwaysConfirm"}),
    );
    let before = conversation.len();
    server.kill();
    server.come_back();
    // Reading a conversation still shows the changed setting; using it resets the setting.
    let call = conversations::Get::new(conversation.id());
    for policy in ["AlwaysConfirm", "NeverConfirm"] {
        let info = client(&server).call(&call).await.unwrap();
        let reported = info.state().get("confirmation_policy").unwrap();
        assert!(format!("{reported:?}").contains(policy), "{reported:?}");
        let update = conversations::Update::title(conversation.id(), "In use");
        client(&server).call(&update).await.unwrap();
    }
    assert_eq!(conversation.len(), before);
    assert_eq!(server.read_file("/w/a").unwrap(), "kept");
    server.kill();
    server.come_back_empty();
    let gone = client(&server).call(&call).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    // The disk outlives the conversations.
    assert_eq!(server.read_file("/w/a").unwrap(), "kept");
}
