//! Tests that secrets reach only the server: no log, error or `Debug` output contains them.

use std::{
    error::Error as _,
    fmt::{Debug, Write as _},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use oh_conversation::{Conversation, Conversations, Cursor, Error, ErrorKind, LinkStatus, Secret};
use oh_protocol::config::{Agent, Llm};
use oh_testkit::{FakeServer, Fault, Script};
use oh_transport::Client;
use tokio::time::timeout;

use crate::mock::Place;

const LONG: Duration = Duration::from_secs(60);
const SESSION_KEY: &str = "canary-session-key";
/// Prefix of every secret in this test.
const CANARY: &str = "canary-";

/// Collects the logs of all layers and all displayed texts.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u8>>>);

impl io::Write for Seen {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seen {
    fn show(&self, what: &impl Debug) {
        let text = format!("{what:?}\n{what:#?}\n");
        self.0.lock().unwrap().extend_from_slice(text.as_bytes());
    }

    fn fail(&self, error: &Error) {
        let mut text = format!("{error}\n");
        let mut source = error.source();
        while let Some(error) = source {
            writeln!(text, "{error} {error:?}").unwrap();
            source = error.source();
        }
        self.0.lock().unwrap().extend_from_slice(text.as_bytes());
        self.show(error);
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

// Single-threaded, so that the subscriber of this thread receives the logs of every task.
#[tokio::test]
async fn pitfall_25_no_secret_is_in_a_log_an_error_or_a_debug_text() {
    let seen = Seen::default();
    let writer = seen.clone();
    let logging = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber only, `tracing` decides by the thread that comes first whether a line is
    // ever logged.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logging = tracing::subscriber::set_default(logging);

    let server = FakeServer::builder()
        .session_api_key(SESSION_KEY)
        .script(Script::new().text("Done."))
        .start()
        .await
        .unwrap();
    let client = Client::builder(server.url())
        .session_api_key(SESSION_KEY)
        .header("x-proxy-token", "canary-header")
        .build()
        .unwrap();
    let place = Place(client.clone());
    let llm = || {
        Llm::new("m")
            .api_key("canary-llm-key")
            .extra_header("x-llm", "canary-llm-header")
    };
    let builder = Conversation::builder(&place, Agent::new(llm()))
        .secret("FIRST", "canary-first-secret")
        .initial_message("hello");
    seen.show(&builder);
    let conversation = builder
        .ambiguous_after(Duration::from_secs(2))
        .start()
        .await
        .unwrap();
    let mut events = conversation.subscribe(Cursor::Start);
    let secrets = [
        ("TEXT", Secret::text("canary-text")),
        (
            "COMPUTED",
            Secret::computed(|| async { Ok::<_, io::Error>("canary-computed") }),
        ),
    ];
    seen.show(&secrets);
    conversation.secrets().set(secrets.clone()).await.unwrap();
    let run = conversation.run();
    seen.show(&run);
    let outcome = timeout(LONG, run).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    seen.show(&outcome);

    // Every request fails in each of these ways.
    let failures = [
        (Fault::status(401), ErrorKind::Unauthorized),
        (Fault::status(422), ErrorKind::Validation),
        (Fault::status(500), ErrorKind::Timeout),
        (Fault::html(502), ErrorKind::Timeout),
    ];
    for (fault, kind) in failures {
        for path in ["/events", "/secrets", "/switch_llm"] {
            server.inject(fault.clone().on(path));
        }
        let send = conversation.send("hello again");
        seen.show(&send);
        let error = timeout(LONG, send.into_future())
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        seen.fail(&error);
        let error = timeout(LONG, conversation.secrets().set(secrets.clone()));
        seen.fail(&error.await.unwrap().unwrap_err());
        let error = timeout(LONG, conversation.settings().switch_llm(llm()));
        seen.fail(&error.await.unwrap().unwrap_err());
        server.heal();
    }
    let masked = conversation.secrets().set([("MASKED", "**********")]).await;
    seen.fail(&masked.unwrap_err());

    // The link is cut, refused and ended.
    server.inject(Fault::html(502).on("/sockets/").times(2));
    server.cut_sockets();
    conversation.send("after the cut").await.unwrap();
    while conversation.link().connections() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if let Some(last_error) = conversation.link().last_error() {
            seen.fail(&last_error);
        }
    }
    seen.show(&timeout(LONG, events.next()).await.unwrap());
    seen.show(&client);
    seen.show(&conversation);
    seen.show(&conversation.state());
    seen.show(&conversation.events());
    seen.show(&conversation.link().changes());
    seen.show(&conversation.states());
    seen.show(&conversation.tokens());
    seen.show(&conversation.usage());
    seen.show(&conversation.usage().current());
    seen.show(&conversation.usage().changes());
    seen.show(&conversation.link());
    seen.show(&conversation.origin());
    seen.show(&conversation.on_event(|_| {}));
    seen.show(&events);
    seen.show(&Conversation::attach(&client, conversation.id()));
    seen.show(&Conversations::of(&client).list());
    // The server can close only a socket that it has accepted.
    let mut links = conversation.link().changes();
    let live = async { while links.next().await != Some(LinkStatus::Live) {} };
    timeout(LONG, live).await.unwrap();
    server.close_sockets(4001, "");
    let ended = async { while links.next().await.is_some() {} };
    timeout(LONG, ended).await.unwrap();
    seen.fail(&conversation.link().last_error().unwrap());
    seen.fail(
        &conversation
            .send("too late")
            .await
            .err()
            .unwrap_or_else(|| conversation.link().last_error().unwrap()),
    );
    conversation.close().await.unwrap();

    let text = seen.text();
    for expected in ["TRACE", "connection ended", "hyper", "/secrets"] {
        assert!(
            text.contains(expected),
            "{expected} should be in the log: {text}"
        );
    }
    let leak = text.lines().find(|line| line.contains(CANARY));
    assert_eq!(leak, None);
}
