//! Shell commands on the server, independent of an agent.

mod history;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Scope, scope::scoped_call, segment};
use crate::{Error, Request, Result, time::whole_seconds};

pub use history::{
    BashCommand, BashError, BashEvent, BashOutput, BashPage, BatchEvents, ClearEvents, GetEvent,
    OutputPage, SearchEvents, SearchOutput,
};

/// The request to run a command line with `/bin/sh -c`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct ExecuteRequest {
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
    timeout: u64,
}

impl ExecuteRequest {
    /// Creates a request for a command line in the server's current directory, with a timeout of
    /// 300 s.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            cwd: None,
            timeout: 300,
        }
    }

    /// Sets the working directory, in the server's notation.
    pub fn cwd(mut self, cwd: impl Into<String>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Sets the timeout, after which the server ends the command. The timeout is rounded up to
    /// whole seconds and must not be zero.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = whole_seconds(timeout);
        self
    }

    fn check(&self) -> Result<()> {
        if self.command.contains('\0') {
            return Err(Error::invalid(
                "the command line must not contain a NUL character",
            ));
        }
        if self.timeout == 0 {
            return Err(Error::invalid("the timeout must not be zero"));
        }
        Ok(())
    }
}

// A command line may contain secrets, so only its size is shown.
impl fmt::Debug for ExecuteRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecuteRequest")
            .field("command_bytes", &self.command.len())
            .field("cwd", &self.cwd)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// `POST …/bash/start_bash_command`: starts a command and returns immediately.
#[derive(Debug, Clone, PartialEq)]
pub struct StartCommand {
    request: ExecuteRequest,
    scope: Scope,
}

impl StartCommand {
    /// Creates a call for this request.
    pub fn new(request: ExecuteRequest) -> Self {
        Self {
            request,
            scope: Scope::Server,
        }
    }
}

scoped_call!(StartCommand => BashCommand, POST "/bash/start_bash_command", Never;
    |this, base| {
        this.request.check()?;
        Request::new(http::Method::POST, base + "/bash/start_bash_command").json(&this.request)
    };
    |answer| answer.json("started command"));

/// `POST …/bash/execute_bash_command`: runs a command and returns when it has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Execute {
    request: ExecuteRequest,
    scope: Scope,
}

impl Execute {
    /// Creates a call for this request.
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

/// `POST …/bash/bash_commands/{id}/stop`: ends a command. Has no effect if the command has already
/// ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StopCommand {
    command_id: String,
    scope: Scope,
}

impl StopCommand {
    /// Creates a call for the command with this id.
    pub fn new(command_id: impl Into<String>) -> Self {
        Self {
            command_id: command_id.into(),
            scope: Scope::Server,
        }
    }
}

scoped_call!(StopCommand => (), POST "/bash/bash_commands/{command_id}/stop", Idempotent;
    |this, base| Ok(Request::new(
        http::Method::POST,
        format!("{base}/bash/bash_commands/{}/stop", segment(&this.command_id)),
    ));
    |answer| answer.done("response"));
