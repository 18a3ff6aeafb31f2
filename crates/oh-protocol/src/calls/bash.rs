//! Shell commands on the server, apart from any agent.

mod history;

use std::fmt;

use serde::Serialize;

use super::{Scope, scope::scoped_call, segment};
use crate::{Error, Request, Result};

pub use history::{
    BashCommand, BashError, BashEvent, BashOutput, BashPage, BatchEvents, ClearEvents, GetEvent,
    OutputPage, SearchEvents, SearchOutput,
};

/// The request to run a command line with `/bin/sh -c`.
#[derive(Clone, Serialize)]
#[must_use]
pub struct ExecuteRequest {
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
    timeout: u64,
}

impl ExecuteRequest {
    /// A command line, in the server's directory, for at most 300 s.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            cwd: None,
            timeout: 300,
        }
    }

    /// The directory to run it in, in the server's notation.
    pub fn cwd(mut self, cwd: impl Into<String>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// After how many whole seconds the server ends it. At least 1: zero ends it at once.
    pub fn timeout(mut self, seconds: u64) -> Self {
        self.timeout = seconds;
        self
    }

    fn check(&self) -> Result<()> {
        if self.command.contains('\0') {
            return Err(Error::invalid("a command line cannot hold a NUL"));
        }
        if self.timeout == 0 {
            return Err(Error::invalid("a timeout of zero ends the command at once"));
        }
        Ok(())
    }
}

// A command line may hold secrets: only its size is shown.
impl fmt::Debug for ExecuteRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecuteRequest")
            .field("command_bytes", &self.command.len())
            .field("cwd", &self.cwd)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// `POST …/bash/start_bash_command`: starts a command and answers at once.
#[derive(Debug, Clone)]
pub struct Start {
    request: ExecuteRequest,
    scope: Scope,
}

impl Start {
    /// Starts this.
    pub fn new(request: ExecuteRequest) -> Self {
        Self {
            request,
            scope: Scope::Server,
        }
    }
}

scoped_call!(Start => BashCommand, POST "/bash/start_bash_command", Never;
    |this, base| {
        this.request.check()?;
        Request::new(http::Method::POST, base + "/bash/start_bash_command").json(&this.request)
    };
    |answer| answer.json("started command"));

/// `POST …/bash/execute_bash_command`: runs a command and answers when it has ended.
#[derive(Debug, Clone)]
pub struct Execute {
    request: ExecuteRequest,
    scope: Scope,
}

impl Execute {
    /// Runs this.
    pub fn new(request: ExecuteRequest) -> Self {
        Self {
            request,
            scope: Scope::Server,
        }
    }
}

scoped_call!(Execute => BashOutput, POST "/bash/execute_bash_command", Never;
    |this, base| {
        this.request.check()?;
        Request::new(http::Method::POST, base + "/bash/execute_bash_command").json(&this.request)
    };
    |answer| answer.json("output of a command"));

/// `POST …/bash/bash_commands/{id}/stop`: ends a command; no harm when it has ended.
#[derive(Debug, Clone)]
pub struct Stop {
    command_id: String,
    scope: Scope,
}

impl Stop {
    /// Ends the command with this id.
    pub fn new(command_id: impl Into<String>) -> Self {
        Self {
            command_id: command_id.into(),
            scope: Scope::Server,
        }
    }
}

scoped_call!(Stop => (), POST "/bash/bash_commands/{command_id}/stop", Idempotent;
    |this, base| Ok(Request::new(
        http::Method::POST,
        format!("{base}/bash/bash_commands/{}/stop", segment(&this.command_id)),
    ));
    |_answer| Ok(()));
