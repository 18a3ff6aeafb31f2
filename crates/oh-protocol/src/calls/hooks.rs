//! Discovery of a project's hook files on the server.

use serde::Serialize;
use serde_json::value::RawValue;

use super::call;
use crate::{Answer, Request, Result, hooks::HookConfig};

/// `POST /api/hooks`: returns the hooks in `.openhands/hooks.json` of a project on the server. Has
/// no effect on conversations, which get hooks only with their start request.
///
/// Returns `None` if the file does not exist or is invalid; the server does not distinguish these
/// cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Discover {
    project_dir: Option<String>,
}

impl Discover {
    /// Creates a call for the project in this directory on the server.
    pub fn new(project_dir: impl Into<String>) -> Self {
        Self {
            project_dir: Some(project_dir.into()),
        }
    }
}

call!(Discover => Option<HookConfig>, POST "/api/hooks", Idempotent;
|this| Request::new(http::Method::POST, "/api/hooks").json(this);
|answer| {
    #[derive(serde::Deserialize)]
    struct Wire { #[serde(default)] hook_config: Option<Box<RawValue>> }
    let wire: Wire = Answer::json(&answer, "hooks of a project")?;
    let read = |raw: Box<RawValue>| -> Result<HookConfig> {
        serde_json::from_str(raw.get())
            .map_err(|error| crate::Error::decode("hooks of a project", error))
    };
    wire.hook_config.map(read).transpose()
});
