//! A server's output arrives in tracing with its level, and without secrets at any level.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::common::StandIn;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

/// A tracing event: target, level, and its fields as text.
type Line = (String, Level, String);

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Line>>>);

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl<S: Subscriber> Layer<S> for Seen {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let meta = event.metadata();
        let line = (meta.target().to_owned(), *meta.level(), fields.0);
        self.0.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn pitfall_25_lines_are_tracing_events_and_no_secret_is_in_any() {
    let seen = Seen::default();
    // With one subscriber only, `tracing` decides by the thread that comes first whether a line is
    // ever logged.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    // Applies to this thread, which is the runtime's only one.
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    let stand_in = StandIn::new().await;
    let server = stand_in
        .builder("tell")
        .session_api_key("canary-of-the-session")
        .secret_key("canary-of-the-secret")
        .secret_env("TOKEN", "canary-of-the-token")
        .start()
        .await
        .unwrap();
    server.shutdown(Duration::from_secs(20)).await.unwrap();
    let seen = seen.0.lock().unwrap();
    let of_server: Vec<_> = seen
        .iter()
        .filter(|(target, ..)| target == "openhands::server")
        .collect();
    let reported = of_server.iter().find(|line| line.2.contains("telltale"));
    let (_, level, text) = reported.unwrap();
    assert_eq!(*level, Level::ERROR);
    assert!(text.contains("key <redacted>"), "{text}");
    let plain = of_server.iter().find(|line| line.2.contains("plain"));
    let (_, level, text) = plain.unwrap();
    assert_eq!(*level, Level::INFO);
    assert!(text.contains("plain <redacted> <redacted>"), "{text}");
    for (target, level, text) in seen.iter() {
        assert!(!text.contains("canary"), "{target} {level} {text}");
    }
}
