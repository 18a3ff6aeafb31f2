//! A command with much output over a socket that loses, repeats and breaks at random, with REST
//! that fails now and then: the output is complete, in order, and not duplicated.

use std::{
    future::IntoFuture,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use http::{HeaderMap, Response};
use oh_testkit::Chance;
use oh_transport::{
    Body, Client, Error, ErrorKind, HttpTransport, Result, Socket, SocketTransport,
};
use oh_workspace::Workspace;
use serde_json::{Value, json};
use tokio::time::timeout;
use url::Url;

/// A server whose command writes both streams, one piece per millisecond.
#[derive(Clone)]
struct Server(Arc<Mutex<Inner>>);

struct Inner {
    chance: Chance,
    /// The pieces still to be written, in reverse order.
    plan: Vec<Value>,
    log: Vec<Value>,
    started: bool,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

const COMMAND: &str = r#"{"kind":"BashCommand","id":"c","timestamp":"2026-01-01T00:00:00Z",
    "command":"x","cwd":"/w","timeout":300}"#;

impl Server {
    /// Creates the server. Also returns the command's output on stdout and stderr.
    fn new(seed: u64) -> (Self, String, String) {
        let mut chance = Chance::new(seed);
        let (mut plan, mut out, mut err) = (Vec::new(), String::new(), String::new());
        let mut before: Option<(&str, usize)> = None;
        for n in 0..chance.pick(0..=30) {
            let (name, all) = match chance.hit(1, 2) {
                true => ("stdout", &mut out),
                false => ("stderr", &mut err),
            };
            // A piece of the other stream that is written at the same time gets the same order
            // number.
            let order = match before {
                Some((other, place))
                    if other != name && place + 1 == plan.len() && chance.hit(1, 2) =>
                {
                    place
                }
                _ => plan.len(),
            };
            before = Some((name, order));
            let text = format!("{n} ");
            all.push_str(&text);
            plan.push(
                json!({"kind": "BashOutput", "id": format!("o{n}"), "command_id": "c",
                "order": order, "timestamp": "2026-01-01T00:00:01Z", name: text}),
            );
        }
        plan.push(
            json!({"kind": "BashOutput", "id": "end", "command_id": "c", "exit_code": 0,
            "order": plan.len(), "timestamp": "2026-01-01T00:00:02Z"}),
        );
        plan.reverse();
        let inner = Inner {
            chance,
            plan,
            log: Vec::new(),
            started: false,
        };
        (Self(Arc::new(Mutex::new(inner))), out, err)
    }

    fn hit(&self, times: u64, of: u64) -> bool {
        self.0.lock().unwrap().chance.hit(times, of)
    }

    fn search(&self, query: &str) -> Value {
        let inner = self.0.lock().unwrap();
        let read = |name: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find_map(|(key, value)| (key == name).then(|| value.parse::<i64>().unwrap()))
        };
        let after = read("order__gt").unwrap_or(-1);
        let limit = usize::try_from(read("limit").unwrap()).unwrap();
        let all = inner.log.iter();
        let found: Vec<_> = all
            .filter(|piece| piece["order"].as_i64() > Some(after))
            .collect();
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let page = pairs.find_map(|(key, value)| (key == "page_id").then_some(value));
        // An unknown page starts at the first piece, as on the server.
        let from = page.and_then(|id| found.iter().position(|piece| piece["id"] == *id));
        let found = &found[from.unwrap_or(0)..];
        let next = found.get(limit).map(|piece| &piece["id"]);
        json!({"items": &found[..found.len().min(limit)], "next_page_id": next})
    }
}

#[async_trait]
impl HttpTransport for Server {
    async fn send(&self, request: http::Request<Body>) -> Result<Response<Body>> {
        let answer = |text: String| Response::new(Body::from(bytes::Bytes::from(text)));
        if request.uri().path().ends_with("/start_bash_command") {
            self.0.lock().unwrap().started = true;
            return Ok(answer(COMMAND.to_owned()));
        }
        if self.hit(1, 4) {
            return Err(Error::new(ErrorKind::Interrupted, "by chance"));
        }
        Ok(answer(
            self.search(request.uri().query().unwrap()).to_string(),
        ))
    }
}

#[async_trait]
impl SocketTransport for Server {
    async fn connect(&self, _: &Url, _: &HeaderMap) -> Result<Socket> {
        if self.hit(1, 3) {
            return Err(Error::new(ErrorKind::Connect, "by chance"));
        }
        let (socket, mut peer) = Socket::pair(64);
        let (server, mut reported) = (self.clone(), 0);
        tokio::spawn(async move {
            peer.recv().await;
            // Only pieces written from here on are sent, as on the server.
            reported += server.0.lock().unwrap().log.len();
            let mut begun = server.0.lock().unwrap().started;
            loop {
                tokio::select! {
                    _ = peer.recv() => return,
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                }
                let mut frames = Vec::new();
                {
                    let inner = server.0.lock().unwrap();
                    if inner.started && !std::mem::replace(&mut begun, true) {
                        frames.push(COMMAND.to_owned());
                    }
                    for piece in &inner.log[reported..] {
                        frames.push(piece.to_string());
                    }
                    reported = inner.log.len();
                }
                for frame in frames {
                    if server.hit(1, 8) {
                        continue;
                    }
                    if server.hit(1, 20) {
                        let _ = peer.end(Error::closed(1006, "by chance")).await;
                        return;
                    }
                    for _ in 0..1 + u8::from(server.hit(1, 8)) {
                        if peer.text(frame.clone()).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(socket)
    }
}

#[tokio::test(start_paused = true)]
async fn pitfall_18_output_is_complete_in_order_and_once_under_faults() {
    for seed in 0..300 {
        let (server, out, err) = Server::new(seed);
        let writer = server.clone();
        let writing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let mut inner = writer.0.lock().unwrap();
                if inner.started {
                    match inner.plan.pop() {
                        Some(piece) => inner.log.push(piece),
                        None => return,
                    }
                }
            }
        });
        let client = Client::builder("http://server.test")
            .http_transport(server.clone())
            .socket_transport(server)
            .build()
            .unwrap();
        let workspace = Workspace::new(&client, "/w");
        let running = workspace.execute("x").into_future();
        let output = timeout(Duration::from_secs(250), running).await;
        let output = output.unwrap_or_else(|_| panic!("seed {seed}: never ended"));
        let output = output.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        assert_eq!(
            (output.stdout(), output.stderr()),
            (&*out, &*err),
            "seed {seed}"
        );
        assert_eq!(output.exit_code(), Some(0), "seed {seed}");
        writing.await.unwrap();
    }
}
