//! The routes of the browser editor, which is disabled.

use serde_json::json;

use crate::fake::wire::{
    known::undone,
    reply::{Answered, Call, ok, unavailable},
};

/// Handles the routes of the browser editor, which is disabled.
pub(crate) fn vscode(call: &Call, method: &str, rest: &[&str]) -> Answered {
    match (method, rest) {
        ("GET", ["url"]) => {
            let off = "VSCode is disabled in configuration. Set enable_vscode=true to enable.";
            Err(unavailable(off).into())
        }
        ("GET", ["status"]) => Ok(ok(&json!({
            "running": false,
            "enabled": false,
            "message": "VSCode is disabled in configuration",
        }))),
        _ => Err(undone(call).into()),
    }
}
