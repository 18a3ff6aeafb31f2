//! Tests of the behaviour of other servers and of intermediaries: event order, changed logs,
//! rejected sockets, silence, and hanging requests.

use std::time::Duration;

use oh_protocol::{
    ConversationId,
    calls::{
        conversations::{self, Run},
        events,
    },
};
use oh_testkit::{
    FakeConversation, FakeServer, Fault, Gate, Proxy, Script, Step,
    fake::{Observation, Permission, UpgradeRefusal},
};
use oh_transport::{Client, ErrorKind, Message, Socket};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    fake::{client, create, next, rest},
    support::request_with,
};

/// Long enough to notice events that should not arrive.
const NEVER: Duration = Duration::from_millis(300);

async fn open(client: &Client, id: ConversationId, after: i64) -> Socket {
    let path = format!("/sockets/session/{id}?after_seq={after}");
    client.socket(&path).await.unwrap()
}

/// Returns the sequence numbers of a socket's next events.
async fn seqs(socket: &mut Socket, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        let frame = next(socket).await.unwrap();
        seqs.extend(frame["seq"].as_u64());
    }
    seqs
}

fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(future))
}

/// A server, alone or behind a proxy that injects the faults, with a client.
struct Way {
    server: FakeServer,
    proxy: Option<Proxy>,
    client: Client,
}

impl Way {
    async fn both() -> [Self; 2] {
        let own = FakeServer::start().await.unwrap();
        let behind = FakeServer::start().await.unwrap();
        let proxy = Proxy::start(behind.address()).await.unwrap();
        proxy.record();
        let through = Client::builder(proxy.url()).session_api_key(behind.session_api_key());
        let own = Self {
            client: client(&own),
            server: own,
            proxy: None,
        };
        let behind = Self {
            client: through.build().unwrap(),
            server: behind,
            proxy: Some(proxy),
        };
        [own, behind]
    }

    fn address(&self) -> std::net::SocketAddr {
        match &self.proxy {
            Some(proxy) => proxy.address(),
            None => self.server.address(),
        }
    }

    fn inject(&self, fault: Fault) {
        match &self.proxy {
            Some(proxy) => proxy.inject(fault),
            None => self.server.inject(fault),
        }
    }

    fn lift(&self, name: &str) {
        match &self.proxy {
            Some(proxy) => proxy.lift(name),
            None => self.server.lift(name),
        }
    }

    fn silence(&self) {
        match &self.proxy {
            Some(proxy) => proxy.silence(),
            None => self.server.silence_sockets(),
        }
    }

    fn statuses(&self, method: &str, route: &str) -> Vec<u16> {
        let seen = match &self.proxy {
            Some(proxy) => proxy.requests_to(method, route),
            None => self.server.requests_to(method, route),
        };
        seen.iter().map(|seen| seen.status).collect()
    }
}

#[tokio::test]
async fn a_message_follows_its_update_on_servers_before_1_58() {
    let server = FakeServer::builder()
        .version("1.57.0")
        .updates_before_messages()
        .script(Script::new().text("One.").text("Two."))
        .start()
        .await
        .unwrap();
    let client = client(&server);
    let id: ConversationId = create(&server, Value::Null).await.parse().unwrap();
    let conversation = server.conversation(id).unwrap();
    let mut live = open(&client, id, -1).await;
    // The socket is listening once it has received the state.
    for _ in 0..2 {
        next(&mut live).await.unwrap();
    }
    conversation.say("one");
    conversation.idle().await;
    // The prompt, the update before its message, and then the agent's events.
    assert_eq!(seqs(&mut live, 4).await, [0, 2, 1, 3]);
    // The log itself is in order.
    let all = conversation.len() as u64;
    let mut replayed = open(&client, id, -1).await;
    let replay = seqs(&mut replayed, conversation.len()).await;
    assert!(replay.into_iter().eq(0..all));
    let kinds: Vec<_> = conversation.events()[1..3]
        .iter()
        .map(|event| event.kind().to_owned())
        .collect();
    assert_eq!(kinds, ["MessageEvent", "ConversationStateUpdateEvent"]);
}

#[tokio::test]
async fn a_log_can_be_cut_deleted_and_recreated() {
    let server = FakeServer::builder()
        .script(Script::new().text("Done."))
        .start()
        .await
        .unwrap();
    let client = client(&server);
    let id: ConversationId = create(&server, json!({"tags": {"a": "b"}}))
        .await
        .parse()
        .unwrap();
    let conversation = server.conversation(id).unwrap();
    conversation.fill(9, 500).await;
    conversation.lose(2).unwrap();
    let before = conversation.events();
    conversation.rewind(5);
    assert_eq!(conversation.len(), 5);
    conversation.say("go on");
    conversation.idle().await;
    // Other events have these numbers now, even for a client with an older cursor.
    let mut socket = open(&client, id, 4).await;
    let frame = loop {
        let frame = next(&mut socket).await.unwrap();
        if frame["type"] == "durable" {
            break frame;
        }
    };
    assert_eq!(frame["seq"], 5);
    assert_ne!(frame["event"]["id"], before[4].id());
    let ids = |conversation: &FakeConversation| {
        let events = conversation.events();
        events.iter().map(|e| e.id().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&conversation)[..2], ids_of(&before)[..2]);

    let again = conversation.recreate();
    assert!(again.is_empty() && again.id() == id);
    let info = rest(
        &server,
        "GET",
        &format!("/api/conversations/{id}"),
        Value::Null,
    )
    .await;
    assert_eq!(info.json()["tags"]["a"], "b");
    again.fill(2, 500).await;
    let mut fresh = open(&client, id, -1).await;
    assert_eq!(seqs(&mut fresh, 2).await, [0, 1]);
    // The socket of the deleted conversation receives nothing from the new one.
    while let Ok(frame) = timeout(NEVER, next(&mut socket)).await {
        let frame = frame.unwrap();
        assert!(frame["seq"].as_u64().is_none_or(|seq| seq > 4), "{frame}");
    }
    again.delete();
    let gone = client.call(&conversations::Get::new(id)).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    // A conversation created by the test can also be recreated.
    assert!(server.create().recreate().is_empty());
}

fn ids_of(events: &[oh_protocol::Event]) -> Vec<String> {
    events.iter().map(|event| event.id().to_owned()).collect()
}

#[tokio::test]
async fn sockets_can_be_rejected_in_each_way_while_requests_work() {
    for way in Way::both().await {
        let conversation = way.server.create();
        let id = conversation.id();
        let path = format!("/sockets/session/{id}");
        let head = format!(
            "X-Session-API-Key: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
            way.server.session_api_key()
        );
        let mut open_before = open(&way.client, id, -1).await;
        for how in [200, 400, 403, 404, 426, 502]
            .map(UpgradeRefusal::Status)
            .into_iter()
            .chain([UpgradeRefusal::NoAcceptKey, UpgradeRefusal::Close])
        {
            way.inject(Fault::refuse_upgrade(how).named("gateway"));
            let answer = request_with(way.address(), "GET", &path, &head, "").await;
            let status = match how {
                UpgradeRefusal::Status(status) => status,
                UpgradeRefusal::NoAcceptKey => 101,
                _ => 0,
            };
            assert_eq!(answer.status, status, "{how:?}: {answer:?}");
            assert!(!answer.head.contains("sec-websocket-accept"), "{answer:?}");
            assert_eq!(answer.body.contains("<html>"), status == 200, "{answer:?}");
            way.client.socket(&path).await.unwrap_err();
            let get = conversations::Get::new(id);
            way.client.call(&get).await.unwrap();
            way.lift("gateway");
        }
        open(&way.client, id, -1).await;
        conversation.fill(1, 500).await;
        assert_eq!(seqs(&mut open_before, 1).await, [0]);
        let handshakes = way.statuses("GET", "/sockets/session/{id}");
        assert!(
            handshakes.contains(&426) && handshakes.contains(&0),
            "{handshakes:?}"
        );
    }
}

#[tokio::test]
async fn a_gateway_answers_every_request_until_it_is_removed() {
    for way in Way::both().await {
        let id = way.server.create().id();
        for status in [404, 403, 502] {
            way.inject(Fault::html(status).named("gateway"));
            let get = conversations::Get::new(id);
            let refused = way.client.call(&get).await.unwrap_err();
            assert_eq!(refused.status().map(|s| s.as_u16()), Some(status));
            let path = format!("/sockets/session/{id}");
            let refused = way.client.socket(&path).await.unwrap_err();
            assert_eq!(refused.status().map(|s| s.as_u16()), Some(status));
            way.lift("gateway");
            way.client.call(&get).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_request_hangs_until_its_fault_is_lifted() {
    for way in Way::both().await {
        let id = way.server.create().id();
        let count = format!("/api/conversations/{id}/events/count");
        way.inject(
            Fault::hang()
                .method("GET")
                .on("/events/count")
                .named("count"),
        );
        way.inject(Fault::status(503).on("/nothing").named("other"));
        let client = way.client.clone();
        let hanging = spawn(async move { client.call(&events::Count::new(id)).await });
        while way.statuses("GET", &count).is_empty() {
            tokio::task::yield_now().await;
        }
        // Other requests are not affected, and no other fault is lifted.
        way.client.call(&conversations::Get::new(id)).await.unwrap();
        way.lift("other");
        assert!(!hanging.is_finished());
        assert_eq!(way.statuses("GET", &count), [0]);
        way.lift("count");
        assert_eq!(hanging.await.unwrap().unwrap(), 0);
        assert_eq!(way.statuses("GET", &count), [200]);
    }
}

#[tokio::test]
async fn a_request_takes_effect_although_its_response_is_withheld() {
    for way in Way::both().await {
        let conversation = way.server.create();
        let id = conversation.id();
        // The fault applies to only one of the two requests that send something.
        let sending = "/api/conversations/{id}/events";
        way.inject(
            Fault::hold_answer()
                .method("POST")
                .on(sending)
                .named("kept"),
        );
        let client = way.client.clone();
        let said = spawn(async move {
            let said = events::SendMessage::new(id, vec!["hello".into()]);
            client.call(&said).await
        });
        while !conversation
            .events()
            .iter()
            .any(|event| event.kind() == "MessageEvent")
        {
            tokio::task::yield_now().await;
        }
        way.client.call(&events::Search::new(id)).await.unwrap();
        assert!(!said.is_finished());
        way.lift("kept");
        said.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_link_stays_silent_and_a_new_link_works() {
    for way in Way::both().await {
        let conversation = way.server.create();
        let mut old = open(&way.client, conversation.id(), -1).await;
        // The first messages of the socket.
        next(&mut old).await.unwrap();
        next(&mut old).await.unwrap();
        way.silence();
        conversation.fill(2, 500).await;
        assert!(timeout(NEVER, old.recv()).await.is_err());
        let mut fresh = open(&way.client, conversation.id(), -1).await;
        assert_eq!(seqs(&mut fresh, 2).await, [0, 1]);
        conversation.fill(1, 500).await;
        assert_eq!(seqs(&mut fresh, 1).await, [2]);
        // The server ignores its messages too.
        let said = r#"{"role":"user","content":"hello"}"#;
        let _ = old.send(Message::Text(said.into())).await;
        assert!(timeout(NEVER, old.recv()).await.is_err());
        assert_eq!(conversation.len(), 3);
    }
}

#[tokio::test]
async fn a_frozen_server_continues_at_its_position() {
    let gate = Gate::new();
    let server = FakeServer::builder()
        .script(Script::new().step(Step::text("Done.").hold(&gate)))
        .start()
        .await
        .unwrap();
    let client = client(&server);
    let conversation = server.create();
    let id = conversation.id();
    let mut socket = open(&client, id, -1).await;
    for _ in 0..2 {
        next(&mut socket).await.unwrap();
    }
    conversation.say("go");
    gate.arrived(1).await;
    let before = conversation.len();
    seqs(&mut socket, before).await;
    server.freeze();
    gate.open();
    let asking = client.clone();
    let hanging = spawn(async move { asking.call(&events::Count::new(id)).await });
    assert!(timeout(NEVER, socket.recv()).await.is_err());
    assert!(!hanging.is_finished());
    assert_eq!(
        (conversation.len(), conversation.status().as_str()),
        (before, "running")
    );
    server.thaw();
    hanging.await.unwrap().unwrap();
    conversation.idle().await;
    assert_eq!(conversation.status(), "finished");
    let after = conversation.len() - before;
    assert_eq!(seqs(&mut socket, after).await[0], before as u64);
}

/// A server before 1.57 checks the status under the lock, after the tool has ended.
#[tokio::test]
async fn a_run_waits_for_the_tool_and_then_approves_waiting_actions() {
    let building = Gate::new();
    let tool = building.clone();
    let call = |command: &str| Step::call("terminal", json!({"command": command}));
    let asked = Gate::new();
    let server = FakeServer::builder()
        .runs_wait_for_tools()
        .script(
            Script::new()
                .step(call("first"))
                .step(call("second").hold(&asked))
                .finish("Done."),
        )
        .tool("terminal", move |arguments| {
            match arguments["command"] == "first" {
                true => Observation::text("").hold(&tool),
                false => Observation::text(""),
            }
        })
        .start()
        .await
        .unwrap();
    let client = client(&server);
    let policy = json!({"confirmation_policy": {"kind": "AlwaysConfirm"}});
    let id: ConversationId = create(&server, policy).await.parse().unwrap();
    let conversation = server.conversation(id).unwrap();
    conversation.say("go");
    conversation.idle().await;
    client.call(&Run::new(id)).await.unwrap();
    building.arrived(1).await;
    let asking = client.clone();
    let run = spawn(async move { asking.call(&Run::new(id)).await });
    while server
        .requests_to("POST", "/api/conversations/{id}/run")
        .len()
        < 2
    {
        tokio::task::yield_now().await;
    }
    assert!(!run.is_finished());
    building.open();
    // The run continues: the model is queried, and the state is not locked.
    asked.arrived(1).await;
    let busy = run.await.unwrap().unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    asked.open();
    conversation.idle().await;
    assert_eq!(conversation.status(), "waiting_for_confirmation");
    let runs = server.requests_to("POST", "/api/conversations/{id}/run");
    let statuses: Vec<_> = runs.iter().map(|run| run.status).collect();
    assert_eq!(statuses, [200, 409]);
    let permissions: Vec<_> = server.executed().iter().map(|e| e.permission).collect();
    assert_eq!(permissions, [Permission::Run]);
}

#[tokio::test]
async fn requests_are_counted_by_kind_and_keep_their_bodies() {
    let server = FakeServer::start().await.unwrap();
    let client = client(&server);
    let ids = [server.create().id(), server.create().id()];
    for id in ids {
        client.call(&conversations::Get::new(id)).await.unwrap();
        let said = events::SendMessage::new(id, vec!["hello".into()]).run(true);
        client.call(&said).await.unwrap();
    }
    let counts = server.request_counts();
    assert_eq!(counts["GET /api/conversations/{id}"], 2);
    assert_eq!(counts["POST /api/conversations/{id}/events"], 2);
    let said = server.requests_to("POST", &format!("/api/conversations/{}/events", ids[1]));
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].json()["run"], true);
    server.forget_requests();
    assert!(server.requests().is_empty());
    rest(
        &server,
        "GET",
        "/api/conversations/search?limit=1",
        Value::Null,
    )
    .await;
    assert_eq!(server.requests()[0].query, "limit=1");
}

#[tokio::test]
async fn a_reload_restores_the_settings_of_the_start() {
    let server = FakeServer::start().await.unwrap();
    let made = json!({"confirmation_policy": {"kind": "ConfirmRisky", "threshold": "LOW"}});
    let id = create(&server, made).await;
    let path = format!("/api/conversations/{id}");
    let never = json!({"policy": {"kind": "NeverConfirm"}});
    rest(
        &server,
        "POST",
        &format!("{path}/confirmation_policy"),
        never,
    )
    .await;
    let analyzer = json!({"security_analyzer": {"kind": "LLMSecurityAnalyzer"}});
    rest(
        &server,
        "POST",
        &format!("{path}/security_analyzer"),
        analyzer,
    )
    .await;
    let conversation = server.conversation(&id).unwrap();
    conversation.reload();
    let said = json!({"content": [{"type": "text", "text": "hello"}]});
    rest(&server, "POST", &format!("{path}/events"), said).await;
    let info = rest(&server, "GET", &path, Value::Null).await.json();
    let policy = json!({"kind": "ConfirmRisky", "threshold": "LOW", "confirm_unknown": true});
    assert_eq!(info["confirmation_policy"], policy);
    assert_eq!(info["security_analyzer"], Value::Null);
}
