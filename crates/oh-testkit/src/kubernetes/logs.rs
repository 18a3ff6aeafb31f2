//! The output of pods: the subresource `log`.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    http::{self as server, BodySender, Response},
    kubernetes::{refusal::Refusal, store::Key, world::World},
};

/// Returns the output of a pod, and what follows if the request asks for it.
pub(crate) fn logs(
    world: &Arc<World>,
    pod: Key,
    query: &BTreeMap<String, String>,
) -> Result<Response, Refusal> {
    world.store.get(&pod)?;
    let get = |name: &str| query.get(name).map(String::as_str);
    let since: Option<Timestamp> = get("sinceTime").and_then(|time| time.parse().ok());
    let tail: Option<usize> = get("tailLines").and_then(|lines| lines.parse().ok());
    let follow = get("follow") == Some("true");
    let first = {
        let state = world.state();
        let lines = state.logs.get(&pod).map(Vec::as_slice).unwrap_or_default();
        let new = |(time, _): &&(Timestamp, String)| since.is_none_or(|since| *time >= since);
        let first = lines.len() - lines.iter().rev().take_while(new).count();
        first.max(lines.len().saturating_sub(tail.unwrap_or(usize::MAX)))
    };
    let (sender, body) = server::channel();
    let read = Arc::clone(world);
    world.spawn(async move { send(&read, pod, first, follow, sender).await });
    Ok(http::Response::new(body))
}

async fn send(world: &World, pod: Key, first: usize, follow: bool, sender: BodySender) {
    let mut written = world.written.subscribe();
    let mut changed = world.store.changed();
    let mut cuts = world.cuts.subscribe();
    let mut sent = first;
    loop {
        let new: Vec<String> = {
            let state = world.state();
            let lines = state.logs.get(&pod).map(Vec::as_slice).unwrap_or_default();
            let new = lines.iter().skip(sent);
            new.map(|(_, line)| format!("{line}\n")).collect()
        };
        for line in new {
            if !sender.send(line).await {
                return;
            }
            sent += 1;
        }
        if !follow || world.store.get(&pod).is_err() {
            return;
        }
        tokio::select! {
            written = written.changed() => if written.is_err() { return },
            changed = changed.changed() => if changed.is_err() { return },
            _ = cuts.changed() => return sender.cut().await,
        }
    }
}
