//! Watches: endless responses with one change in each line.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::{
    http::{self as server, BodySender, Response},
    kubernetes::{refusal::Refusal, store::Key, world::World},
};

/// Changes of other objects after which a bookmark is sent.
const BOOKMARK: u64 = 20;

/// A request for the changes of some objects.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) plural: String,
    pub(crate) namespace: String,
    /// Only the object with this name, if set.
    pub(crate) name: Option<String>,
    pub(crate) api_version: String,
    pub(crate) kind: &'static str,
    pub(crate) version: u64,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Duration,
}

impl Watch {
    fn matches(&self, key: &Key) -> bool {
        key.plural == self.plural
            && key.namespace == self.namespace
            && self.name.as_ref().is_none_or(|name| *name == key.name)
    }
}

/// Returns the response of a watch.
pub(crate) fn watch(world: &Arc<World>, watch: Watch) -> Response {
    let (sender, body) = server::channel();
    let watched = Arc::clone(world);
    world.spawn(async move { send(&watched, watch, sender).await });
    let mut response = http::Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

async fn send(world: &World, watch: Watch, sender: BodySender) {
    let mut changed = world.store.changed();
    let mut cuts = world.cuts.subscribe();
    let end = Instant::now() + watch.timeout;
    let mut version = watch.version;
    let mut last_sent = version;
    loop {
        let (changes, newest) = match world.store.since(version, |key| watch.matches(key)) {
            Ok(found) => found,
            Err(gone) => {
                sender.send(line("ERROR", &gone.status())).await;
                return;
            }
        };
        for change in changes {
            if !sender.send(line(change.kind, &change.object)).await {
                return;
            }
            last_sent = change.version;
        }
        if watch.bookmarks && newest >= last_sent + BOOKMARK {
            let bookmark = json!({
                "apiVersion": watch.api_version, "kind": watch.kind,
                "metadata": {"resourceVersion": newest.to_string()},
            });
            if !sender.send(line("BOOKMARK", &bookmark)).await {
                return;
            }
            last_sent = newest;
        }
        version = newest;
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            _ = cuts.changed() => return sender.cut().await,
            () = sleep_until(end) => return,
        }
    }
}

fn line(kind: &str, object: &Value) -> String {
    let event = json!({"type": kind, "object": object});
    format!("{event}\n")
}

/// Reads the version from which a watch starts.
pub(crate) fn start(version: &str) -> Result<u64, Refusal> {
    match version {
        "" => Ok(0),
        version => version.parse().map_err(|_| {
            Refusal::new(
                400,
                "BadRequest",
                format!("invalid resource version {version:?}"),
            )
        }),
    }
}
