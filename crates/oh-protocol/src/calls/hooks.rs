//! Hooks that a project keeps in its own files, found by the server.

use serde::Serialize;
use serde_json::value::RawValue;

use super::call;
use crate::{Answer, Request, Result, hooks::HookConfig};

/// `POST /api/hooks`: reads `.openhands/hooks.json` of a project on the server. It changes
/// nothing; conversations get hooks only with their start request.
///
/// Gives nothing where there is no such file or it is not valid: the server does not say which.
#[derive(Debug, Clone, Serialize)]
pub struct Discover {
    project_dir: Option<String>,
}

impl Discover {
    /// Of the project in this directory of the server.
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
