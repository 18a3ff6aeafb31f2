//! The settings of a server in a sandbox of OpenHands Cloud, and their checks.

use crate::{
    Error, ErrorKind, Result,
    hosted::{
        cloud::api::CloudBuilder,
        settings::{AtEnd, Times, check_id},
    },
};

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) cloud: CloudBuilder,
    /// The sandbox to attach to, or `None` to start one.
    pub(crate) sandbox_id: Option<String>,
    pub(crate) spec: Option<String>,
    pub(crate) workspace: String,
    pub(crate) at_end: AtEnd,
    pub(crate) times: Times,
}

impl Options {
    pub(crate) fn new(cloud: CloudBuilder) -> Self {
        Self {
            cloud,
            sandbox_id: None,
            spec: None,
            workspace: "/workspace/project".to_owned(),
            at_end: AtEnd::default(),
            times: Times::default(),
        }
    }

    /// Rejects invalid values before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        self.times.check()?;
        if let Some(id) = &self.sandbox_id {
            check_id("sandbox_id", id)?;
        }
        let message = match &self.spec {
            Some(spec) if spec.trim().is_empty() => "sandbox_spec must not be empty".to_owned(),
            _ if !self.workspace.starts_with('/') => {
                format!("workspace {:?} must be absolute", self.workspace)
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, message))
    }
}
