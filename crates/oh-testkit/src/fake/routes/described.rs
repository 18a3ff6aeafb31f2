//! The description of a conversation in responses.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::state::conversation::Conversation;
use crate::http::{self as server, Response};

pub(crate) fn runtime() -> Value {
    json!({"runtime_status": "available", "can_resume": true, "runtime_error": null})
}

pub(crate) fn info(conversation: &Conversation) -> Value {
    let inner = conversation.lock();
    let mut info = Value::Object(inner.info.clone());
    // The real state is saved at the end of a step. Until then, a pause shows in the log only.
    if inner.running && info["execution_status"] == "paused" {
        info["execution_status"] = "running".into();
    }
    info["runtime_info"] = runtime();
    info
}

/// Returns the response for a conversation derived from another one.
pub(crate) fn made(conversation: &Conversation) -> Response {
    let mut info = info(conversation);
    info["runtime_info"] = Value::Null;
    server::json(StatusCode::CREATED, &info)
}
