//! Shell commands on the server, apart from any agent.

use serde::{Deserialize, Serialize};

use super::{call, query, segment};
use crate::{Error, Request, Result};

/// The request to run a command line with `/bin/sh -c`.
#[derive(Debug, Clone, Serialize)]
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

/// `POST /api/bash/start_bash_command`: starts a command and answers at once.
#[derive(Debug, Clone)]
pub struct Start(ExecuteRequest);

impl Start {
    /// Starts this.
    pub fn new(request: ExecuteRequest) -> Self {
        Self(request)
    }
}

call!(Start => BashCommand, POST "/api/bash/start_bash_command", Never;
    |this| {
        this.0.check()?;
        Request::new(http::Method::POST, "/api/bash/start_bash_command").json(&this.0)
    };
    |answer| answer.json("started command"));

/// `POST /api/bash/execute_bash_command`: runs a command and answers when it has ended.
#[derive(Debug, Clone)]
pub struct Execute(ExecuteRequest);

impl Execute {
    /// Runs this.
    pub fn new(request: ExecuteRequest) -> Self {
        Self(request)
    }
}

call!(Execute => BashOutput, POST "/api/bash/execute_bash_command", Never;
    |this| {
        this.0.check()?;
        Request::new(http::Method::POST, "/api/bash/execute_bash_command").json(&this.0)
    };
    |answer| answer.json("output of a command"));

/// `POST /api/bash/bash_commands/{id}/stop`: ends a command; no harm when it has ended.
#[derive(Debug, Clone)]
pub struct Stop(String);

impl Stop {
    /// Ends the command with this id.
    pub fn new(command_id: impl Into<String>) -> Self {
        Self(command_id.into())
    }
}

call!(Stop => (), POST "/api/bash/bash_commands/{command_id}/stop", Idempotent;
    |this| Ok(Request::new(
        http::Method::POST,
        format!("/api/bash/bash_commands/{}/stop", segment(&this.0)),
    ));
    |_answer| Ok(()));

/// `GET /api/bash/bash_events/search`: what a command printed, by `order`.
#[derive(Debug, Clone)]
#[must_use]
pub struct SearchOutput {
    command_id: String,
    after: Option<i64>,
    page_id: Option<String>,
}

impl SearchOutput {
    /// All output of a command.
    pub fn new(command_id: impl Into<String>) -> Self {
        Self {
            command_id: command_id.into(),
            after: None,
            page_id: None,
        }
    }

    /// Only output after this `order`.
    pub fn after(mut self, order: i64) -> Self {
        self.after = Some(order);
        self
    }

    /// Begins at the page an earlier answer named.
    pub fn page_id(mut self, page_id: impl Into<String>) -> Self {
        self.page_id = Some(page_id.into());
        self
    }
}

call!(SearchOutput => BashPage, GET "/api/bash/bash_events/search", Idempotent;
    |this| {
        let mut target = "/api/bash/bash_events/search?kind__eq=BashOutput&limit=100".to_owned();
        query(&mut target, "sort_order", "TIMESTAMP");
        query(&mut target, "command_id__eq", &this.command_id);
        if let Some(order) = this.after {
            query(&mut target, "order__gt", &order.to_string());
        }
        if let Some(page_id) = &this.page_id {
            query(&mut target, "page_id", page_id);
        }
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("output of a command"));

/// A page of output.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct BashPage {
    /// The pieces.
    pub items: Vec<BashOutput>,
    /// Where the next page begins; absent on the last.
    pub next_page_id: Option<String>,
}

/// A command the server has taken.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct BashCommand {
    /// Its id, hex without dashes.
    pub id: String,
}

/// A piece of a command's output; the one with an exit code is the last.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct BashOutput {
    /// The command's id, hex without dashes.
    pub command_id: String,
    /// Its place among the pieces of the command.
    #[serde(default)]
    pub order: i64,
    /// −1 for a timeout or a command that could not start, −N for signal N.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// What it wrote to stdout since the piece before.
    #[serde(default)]
    pub stdout: Option<String>,
    /// What it wrote to stderr since the piece before.
    #[serde(default)]
    pub stderr: Option<String>,
}
