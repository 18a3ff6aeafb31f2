//! The history of commands and their output.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    Error, Request, Result,
    calls::{Scope, query, scope::scoped_call, segment},
};

/// A command that the server accepted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BashCommand {
    /// The id, as hex without dashes.
    pub id: String,
    /// The time at which the command was accepted, in UTC with a `Z`.
    #[serde(default)]
    pub timestamp: String,
    /// The command line.
    #[serde(default)]
    pub command: String,
    /// The working directory. If none was requested, the server's current directory.
    #[serde(default)]
    pub cwd: Option<String>,
    /// The timeout in seconds.
    #[serde(default)]
    pub timeout: i64,
}

// A command line may contain secrets, so only its size is shown.
impl fmt::Debug for BashCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BashCommand")
            .field("id", &self.id)
            .field("timestamp", &self.timestamp)
            .field("command_bytes", &self.command.len())
            .field("cwd", &self.cwd)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// A part of a command's output. The last part has an exit code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BashOutput {
    /// The id of this part, as hex without dashes.
    #[serde(default)]
    pub id: String,
    /// The time at which the output was written, in UTC with a `Z`.
    #[serde(default)]
    pub timestamp: String,
    /// The id of the command, as hex without dashes.
    pub command_id: String,
    /// The position among the command's parts, starting at 0. Not always unique: parts of stdout
    /// and stderr that were written at the same time can have the same position.
    #[serde(default)]
    pub order: i64,
    /// The exit code. −1 for a timeout or a command that could not start, −N for signal N.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The stdout since the previous part.
    #[serde(default)]
    pub stdout: Option<String>,
    /// The stderr since the previous part.
    #[serde(default)]
    pub stderr: Option<String>,
}

// Output may contain secrets too.
impl fmt::Debug for BashOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |text: &Option<String>| text.as_ref().map(String::len);
        f.debug_struct("BashOutput")
            .field("id", &self.id)
            .field("timestamp", &self.timestamp)
            .field("command_id", &self.command_id)
            .field("order", &self.order)
            .field("exit_code", &self.exit_code)
            .field("stdout_bytes", &bytes(&self.stdout))
            .field("stderr_bytes", &bytes(&self.stderr))
            .finish()
    }
}

/// The error that the bash socket returns for a rejected request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BashError {
    /// The error code.
    pub code: String,
    /// The error message.
    #[serde(default)]
    pub detail: String,
}

/// An event of the history, or a frame of the bash socket.
#[derive(Clone, PartialEq, Serialize)]
#[serde(tag = "kind")]
#[non_exhaustive]
pub enum BashEvent {
    /// A command was accepted.
    #[serde(rename = "BashCommand")]
    Command(BashCommand),
    /// A command wrote output or ended.
    #[serde(rename = "BashOutput")]
    Output(BashOutput),
    /// A request over the socket failed.
    #[serde(rename = "BashError")]
    Error(BashError),
    /// An event of a newer server, as JSON.
    #[serde(untagged)]
    Unknown(Value),
}

impl fmt::Debug for BashEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => command.fmt(f),
            Self::Output(output) => output.fmt(f),
            Self::Error(error) => error.fmt(f),
            Self::Unknown(value) => {
                let kind = value.get("kind").and_then(Value::as_str);
                write!(f, "Unknown({:?})", kind.unwrap_or_default())
            }
        }
    }
}

impl BashEvent {
    /// Decodes an event. An event of an unknown kind, or one that does not match its kind, becomes
    /// `Unknown`.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not valid JSON.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Kind {
            #[serde(default)]
            kind: String,
        }
        let kind = serde_json::from_slice::<Kind>(bytes).map(|header| header.kind);
        let known = match kind.as_deref() {
            Ok("BashCommand") => serde_json::from_slice(bytes).map(Self::Command).ok(),
            Ok("BashOutput") => serde_json::from_slice(bytes).map(Self::Output).ok(),
            Ok("BashError") => serde_json::from_slice(bytes).map(Self::Error).ok(),
            _ => None,
        };
        match known {
            Some(event) => Ok(event),
            None => serde_json::from_slice(bytes)
                .map(Self::Unknown)
                .map_err(|error| Error::decode("event of the bash history", error)),
        }
    }
}

impl<'de> Deserialize<'de> for BashEvent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_json(raw.get().as_bytes()).map_err(serde::de::Error::custom)
    }
}

/// `GET …/bash/bash_events/search`: returns a page of the history, oldest first.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct SearchEvents {
    scope: Scope,
    kind: Option<String>,
    command_id: Option<String>,
    since: Option<String>,
    until: Option<String>,
    after: Option<i64>,
    descending: bool,
    page_id: Option<String>,
    limit: u32,
}

/// A page of the history.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct BashPage {
    /// The events.
    pub items: Vec<BashEvent>,
    /// The id of the next page. `None` for the last page.
    #[serde(default)]
    pub next_page_id: Option<String>,
}

impl SearchEvents {
    /// Creates a call for the first page of all events, at most 100.
    pub fn new() -> Self {
        Self {
            scope: Scope::Server,
            kind: None,
            command_id: None,
            since: None,
            until: None,
            after: None,
            descending: false,
            page_id: None,
            limit: 100,
        }
    }

    /// Limits the page to events of this kind: `BashCommand` or `BashOutput`.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Limits the page to output of this command. The command's own event is not included.
    pub fn command(mut self, command_id: impl Into<String>) -> Self {
        self.command_id = Some(command_id.into());
        self
    }

    /// Limits the page to events from this time on, in ISO 8601. A time without an offset is UTC.
    pub fn since(mut self, timestamp: impl Into<String>) -> Self {
        self.since = Some(timestamp.into());
        self
    }

    /// Limits the page to events before this time, in ISO 8601. A time without an offset is UTC.
    pub fn until(mut self, timestamp: impl Into<String>) -> Self {
        self.until = Some(timestamp.into());
        self
    }

    /// Limits the page to output after this `order`. Commands have no `order` and are still
    /// included.
    pub fn after(mut self, order: i64) -> Self {
        self.after = Some(order);
        self
    }

    /// Sets the order to newest first.
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// Sets the id of the page, from an earlier response.
    pub fn page_id(mut self, page_id: impl Into<String>) -> Self {
        self.page_id = Some(page_id.into());
        self
    }

    /// Sets the number of events per page, from 1 to 100.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }
}

impl Default for SearchEvents {
    fn default() -> Self {
        Self::new()
    }
}

scoped_call!(SearchEvents => BashPage, GET "/bash/bash_events/search", Idempotent;
    |this, base| {
        if !(1..=100).contains(&this.limit) {
            return Err(Error::invalid(
                "the page limit of the bash history must be between 1 and 100",
            ));
        }
        let mut target = base + "/bash/bash_events/search";
        query(&mut target, "limit", &this.limit.to_string());
        let filters = [
            ("kind__eq", &this.kind),
            ("command_id__eq", &this.command_id),
            ("timestamp__gte", &this.since),
            ("timestamp__lt", &this.until),
            ("page_id", &this.page_id),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                query(&mut target, name, value);
            }
        }
        if let Some(order) = this.after {
            query(&mut target, "order__gt", &order.to_string());
        }
        let order = if this.descending { "TIMESTAMP_DESC" } else { "TIMESTAMP" };
        query(&mut target, "sort_order", order);
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("page of the bash history"));

/// `GET …/bash/bash_events/search` for one command: returns its output, oldest first.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct SearchOutput {
    scope: Scope,
    command_id: String,
    after: Option<i64>,
    page_id: Option<String>,
    limit: u32,
}

/// A page of a command's output.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct OutputPage {
    /// The parts of the output.
    pub items: Vec<BashOutput>,
    /// The id of the next page. `None` for the last page.
    #[serde(default)]
    pub next_page_id: Option<String>,
}

impl SearchOutput {
    /// Creates a call for all output of a command.
    pub fn new(command_id: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            command_id: command_id.into(),
            after: None,
            page_id: None,
            limit: 100,
        }
    }

    /// Limits the page to output after this `order`.
    pub fn after(mut self, order: i64) -> Self {
        self.after = Some(order);
        self
    }

    /// Sets the id of the page, from an earlier response.
    pub fn page_id(mut self, page_id: impl Into<String>) -> Self {
        self.page_id = Some(page_id.into());
        self
    }

    /// Sets the number of parts per page, from 1 to 100. A part can have more than a million
    /// characters.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }
}

scoped_call!(SearchOutput => OutputPage, GET "/bash/bash_events/search", Idempotent;
    |this, base| {
        if !(1..=100).contains(&this.limit) {
            return Err(Error::invalid(
                "the page limit of command output must be between 1 and 100",
            ));
        }
        let mut target = base + "/bash/bash_events/search?kind__eq=BashOutput";
        query(&mut target, "limit", &this.limit.to_string());
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

/// `GET …/bash/bash_events/{event_id}`: returns an event. The id of a command is also the id of its
/// event.
#[derive(Debug, Clone, PartialEq)]
pub struct GetEvent {
    scope: Scope,
    event_id: String,
}

impl GetEvent {
    /// Creates a call for the event with this id, as hex without dashes.
    pub fn new(event_id: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            event_id: event_id.into(),
        }
    }
}

scoped_call!(GetEvent => BashEvent, GET "/bash/bash_events/{event_id}", Idempotent;
    |this, base| Ok(Request::new(
        http::Method::GET,
        format!("{base}/bash/bash_events/{}", segment(&this.event_id)),
    ));
    |answer| BashEvent::from_json(&answer.body));

/// `GET …/bash/bash_events/`: returns several events, with `None` for each unknown id.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchEvents {
    scope: Scope,
    event_ids: Vec<String>,
}

impl BatchEvents {
    /// Creates a call for the events with these ids, as hex without dashes.
    pub fn new<I: Into<String>>(event_ids: impl IntoIterator<Item = I>) -> Self {
        Self {
            scope: Scope::Server,
            event_ids: event_ids.into_iter().map(Into::into).collect(),
        }
    }
}

scoped_call!(BatchEvents => Vec<Option<BashEvent>>, GET "/bash/bash_events/", Idempotent;
    // The server expects the ids in the body of a GET request.
    |this, base| Request::new(http::Method::GET, base + "/bash/bash_events/").json(&this.event_ids);
    |answer| answer.json("events of the bash history"));

/// `DELETE …/bash/bash_events`: clears the history and returns the number of deleted events.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ClearEvents {
    scope: Scope,
}

impl ClearEvents {
    /// Creates a call that clears the whole history.
    pub fn new() -> Self {
        Self::default()
    }
}

scoped_call!(ClearEvents => u64, DELETE "/bash/bash_events", Idempotent;
|_this, base| Ok(Request::new(http::Method::DELETE, base + "/bash/bash_events"));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        cleared_count: u64,
    }
    answer.json::<Wire>("count of deleted events").map(|wire| wire.cleared_count)
});
