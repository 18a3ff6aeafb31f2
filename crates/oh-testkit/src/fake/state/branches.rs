//! The log as a tree: paths from the root to an event, and the messages for a model.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fake::state::{
    conversation::{Conversation, Inner},
    message::text_of,
    pending::Pending,
};

#[derive(Deserialize)]
struct Node {
    id: String,
    #[serde(default)]
    parent_id: Option<String>,
}

/// Returns the events from the root to an event, with their `seq`, or the whole log without an
/// event.
fn path(inner: &mut Inner, to: Option<&str>) -> Vec<(usize, Bytes)> {
    let all = inner.page(0, usize::MAX);
    let Some(to) = to else {
        return all;
    };
    let mut parents = HashMap::new();
    for (_, raw) in &all {
        if let Ok(node) = serde_json::from_slice::<Node>(raw) {
            parents.insert(node.id, node.parent_id);
        }
    }
    let mut on_it = HashSet::new();
    let mut next = Some(to.to_owned());
    while let Some(id) = next {
        next = parents.get(&id).cloned().flatten();
        if !on_it.insert(id) {
            break;
        }
    }
    let here = |raw: &Bytes| {
        serde_json::from_slice::<Node>(raw).is_ok_and(|node| on_it.contains(&node.id))
    };
    all.into_iter().filter(|(_, raw)| here(raw)).collect()
}

/// Returns the events of the active branch.
pub(crate) fn active(conversation: &Conversation) -> Vec<Bytes> {
    active_in(&mut conversation.lock())
}

/// Returns the events of the active branch of a locked conversation.
pub(crate) fn active_in(inner: &mut Inner) -> Vec<Bytes> {
    if inner.leaf().is_none() && inner.len() > 0 && inner.head_is_empty {
        return Vec::new();
    }
    let leaf = inner.leaf().map(str::to_owned);
    let events = path(inner, leaf.as_deref());
    events.into_iter().map(|(_, raw)| raw).collect()
}

impl Conversation {
    /// Returns the actions on the active branch that have no result.
    pub(crate) fn pending(&self) -> Vec<Pending> {
        let mut inner = self.lock();
        let length = inner.len();
        if inner.unanswered.has_moved() {
            let branch = active_in(&mut inner);
            inner.unanswered.restart(&branch, length);
        }
        let from = inner.unanswered.looked_at();
        let news = inner.page(from, usize::MAX).into_iter();
        let news: Vec<_> = news.map(|(_, raw)| raw).collect();
        inner.unanswered.go_on(&news, length).to_vec()
    }
}

/// Copies a log, or the branch up to an event, to a conversation with an empty log.
pub(crate) fn copy(from: &Conversation, to: &Conversation, until: Option<&str>) {
    let (events, leaf, prompted, empty, asked) = {
        let mut inner = from.lock();
        let leaf = until.or(inner.leaf()).map(str::to_owned);
        (
            path(&mut inner, until),
            leaf,
            inner.prompted,
            until.is_none() && inner.head_is_empty,
            inner.asked.clone(),
        )
    };
    for (_, raw) in events {
        to.push(&raw);
    }
    let mut inner = to.lock();
    inner.prompted = prompted;
    inner.head_is_empty = empty;
    inner.asked = asked;
    inner.set_leaf(leaf);
    drop(inner);
    remember(to);
}

/// Moves the head to another event, or before the first one.
pub(crate) fn go(conversation: &Conversation, to: Option<&str>) {
    let mut inner = conversation.lock();
    inner.head_is_empty = to.is_none();
    inner.set_leaf(to.map(str::to_owned));
    drop(inner);
    remember(conversation);
}

/// Rebuilds the messages for a model from the active branch.
pub(crate) fn remember(conversation: &Conversation) {
    let messages = active(conversation);
    let messages: Vec<_> = messages.iter().filter_map(message).collect();
    conversation.lock().messages = messages;
}

/// Returns whether an event is part of the messages for a model.
pub(crate) fn is_shown(event: &Value) -> bool {
    const KINDS: [&str; 6] = [
        "SystemPromptEvent",
        "MessageEvent",
        "ActionEvent",
        "ObservationEvent",
        "UserRejectObservation",
        "AgentErrorEvent",
    ];
    event["kind"]
        .as_str()
        .is_some_and(|kind| KINDS.contains(&kind))
}

fn message(raw: &Bytes) -> Option<Value> {
    let event: Value = serde_json::from_slice(raw).ok()?;
    Some(match event["kind"].as_str()? {
        "MessageEvent" => {
            let message = &event["llm_message"];
            json!({"role": message["role"], "content": text_of(message)})
        }
        "ActionEvent" => {
            let call = &event["tool_call"];
            let (name, arguments) = (call["name"].as_str()?, call["arguments"].as_str()?);
            json!({"role": "assistant", "content": format!("{name} {arguments}")})
        }
        "ObservationEvent" => json!({"role": "tool", "content": text_of(&event["observation"])}),
        "UserRejectObservation" => json!({"role": "tool", "content": event["rejection_reason"]}),
        "AgentErrorEvent" => json!({"role": "tool", "content": event["error"]}),
        _ => return None,
    })
}
