//! The event log over REST, and the control of a conversation: messages, pause, interrupt,
//! approval.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::fake::{
    agent::{self, Refused},
    state::{conversation::Conversation, executed::Permission, world::World},
    wire::{
        known::undone,
        reply::{self, Answered, Call, crash, detail, invalid, not_found, ok, page_limit},
    },
};

pub(crate) async fn route(
    world: &Arc<World>,
    conversation: &Arc<Conversation>,
    call: &Call,
    method: &str,
    rest: &[&str],
) -> Answered {
    match (method, rest) {
        ("GET", ["search"]) => search(conversation, call),
        ("GET", ["count"]) => {
            let filter = Filter::of(call);
            if filter.is_open() {
                // As on the server, this includes events that it cannot read.
                return Ok(ok(&conversation.lock().len()));
            }
            let (log, _) = filter.page(conversation, None, usize::MAX, false);
            Ok(ok(&log.len()))
        }
        ("GET", []) => {
            let ids: Vec<String> = serde_json::from_slice(&call.body).map_err(|_| {
                invalid("list_type", json!(["body"]), "Input should be a valid list")
            })?;
            let mut inner = conversation.lock();
            let found: Vec<_> = ids
                .iter()
                .map(|id| inner.log.find(id).and_then(|seq| inner.log.event(seq)))
                .collect();
            let found: Vec<_> = found
                .iter()
                .map(|event| event.as_ref().and_then(raw))
                .collect();
            Ok(ok(&found))
        }
        ("GET", [id]) => {
            let mut inner = conversation.lock();
            let seq = inner.log.find(id).ok_or_else(not_found)?;
            let event = inner.log.event(seq).ok_or_else(not_found)?;
            Ok(ok(&raw(&event).ok_or_else(not_found)?))
        }
        ("POST", []) => send(world, conversation, &call.json()?).await,
        ("POST", ["respond_to_confirmation"]) => {
            let request = call.json()?;
            match request["accept"].as_bool() {
                Some(true) => {
                    agent::look_first(world, conversation).await;
                    let started = agent::start(world, conversation, Permission::Response);
                    if started == Err(Refused::Full) {
                        return Err(reply::full().into());
                    }
                }
                Some(false) => {
                    let reason = request["reason"].as_str();
                    let reason = reason.unwrap_or("User rejected the action.");
                    // Collects the actions before it waits, like the agent server. Actions that a
                    // tool completes in the meantime are also rejected.
                    let pending = conversation.pending();
                    let _turn = conversation.turn().await;
                    agent::reject_all(conversation, &pending, reason);
                }
                None => {
                    return Err(
                        invalid("missing", json!(["body", "accept"]), "Field required").into(),
                    );
                }
            }
            Ok(ok(&json!({"success": true})))
        }
        _ => Err(undone(call).into()),
    }
}

async fn send(world: &Arc<World>, conversation: &Arc<Conversation>, message: &Value) -> Answered {
    let content = match &message["content"] {
        Value::Null => json!([]),
        content @ Value::Array(_) => content.clone(),
        _ => {
            let at = json!(["body", "content"]);
            return Err(invalid("list_type", at, "Input should be a valid list").into());
        }
    };
    let role = message["role"].as_str().unwrap_or("user");
    if role != "user" {
        return Err(crash("Only user messages are allowed to be sent to the agent.").into());
    }
    let run = (message["run"] == true).then_some(Permission::Message);
    let message = json!({"role": "user", "content": content});
    agent::take(world, conversation, &message, run)
        .await
        .map_err(|text| detail(StatusCode::TOO_MANY_REQUESTS, &text))?;
    Ok(ok(&json!({"success": true})))
}

fn search(conversation: &Conversation, call: &Call) -> Answered {
    let limit = page_limit(call)?;
    let descending = match call.query("sort_order").as_deref() {
        None | Some("TIMESTAMP") => false,
        Some("TIMESTAMP_DESC") => true,
        Some(_) => {
            let rule = "Input should be 'TIMESTAMP' or 'TIMESTAMP_DESC'";
            return Err(invalid("enum", json!(["query", "sort_order"]), rule).into());
        }
    };
    let page_id = call.query("page_id");
    let filter = Filter::of(call);
    let (items, next) = filter.page(conversation, page_id.as_deref(), limit, descending);
    let items: Vec<_> = items.iter().filter_map(raw).collect();
    let next = next.and_then(|event| {
        let head: Head<'_> = serde_json::from_slice(&event).ok()?;
        Some(head.id.to_owned())
    });
    Ok(ok(&Page {
        items,
        next_page_id: next,
    }))
}

#[derive(serde::Serialize)]
struct Page<'a> {
    items: Vec<&'a RawValue>,
    next_page_id: Option<String>,
}

fn raw(bytes: &Bytes) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}

#[derive(Deserialize)]
struct Head<'a> {
    id: &'a str,
    kind: &'a str,
    #[serde(default)]
    source: &'a str,
    #[serde(default)]
    timestamp: &'a str,
}

/// The filter of a search.
struct Filter {
    kind: Option<String>,
    source: Option<String>,
    body: Option<String>,
    from: Option<String>,
    before: Option<String>,
}

impl Filter {
    fn of(call: &Call) -> Self {
        // The fake server's time zone is UTC, so only an offset of zero is supported.
        let naive = |time: String| {
            time.trim_end_matches('Z')
                .trim_end_matches("+00:00")
                .to_owned()
        };
        Self {
            kind: call.query("kind"),
            source: call.query("source"),
            body: call.query("body").map(|body| body.to_lowercase()),
            from: call.query("timestamp__gte").map(naive),
            before: call.query("timestamp__lt").map(naive),
        }
    }

    fn is_open(&self) -> bool {
        let texts = [
            &self.kind,
            &self.source,
            &self.body,
            &self.from,
            &self.before,
        ];
        texts.into_iter().all(Option::is_none)
    }

    fn takes(&self, event: &Bytes) -> bool {
        if self.is_open() {
            return true;
        }
        let Ok(head) = serde_json::from_slice::<Head<'_>>(event) else {
            return false;
        };
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&self.kind, head.kind)
            && is(&self.source, head.source)
            && self
                .from
                .as_ref()
                .is_none_or(|from| head.timestamp >= from.as_str())
            && self
                .before
                .as_ref()
                .is_none_or(|before| head.timestamp < before.as_str())
            && self.body.as_ref().is_none_or(|words| {
                head.kind == "MessageEvent" && message_text(event).contains(words)
            })
    }

    /// Returns a page that starts at the event with this id, and the event after the page. An
    /// unknown id starts at the beginning.
    fn page(
        &self,
        conversation: &Conversation,
        from: Option<&str>,
        limit: usize,
        descending: bool,
    ) -> (Vec<Bytes>, Option<Bytes>) {
        let mut inner = conversation.lock();
        let length = inner.len();
        let found = from.and_then(|id| inner.log.find(id));
        let order: Box<dyn Iterator<Item = usize>> = match (descending, found) {
            (false, from) => Box::new(from.unwrap_or(0)..length),
            (true, from) => Box::new((0..from.map_or(length, |from| from + 1)).rev()),
        };
        let mut items = Vec::new();
        for seq in order {
            if !inner.log.is_readable(seq) {
                continue;
            }
            let Some(event) = inner.log.event(seq).filter(|event| self.takes(event)) else {
                continue;
            };
            if items.len() == limit {
                return (items, Some(event));
            }
            items.push(event);
        }
        (items, None)
    }
}

fn message_text(event: &Bytes) -> String {
    let event: Value = serde_json::from_slice(event).unwrap_or_default();
    let parts = event["llm_message"]["content"]
        .as_array()
        .into_iter()
        .flatten();
    let texts: Vec<_> = parts.filter_map(|part| part["text"].as_str()).collect();
    texts.join("\n").to_lowercase()
}
