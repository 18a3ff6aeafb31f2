//! The history of commands and their output, and reading it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    Error, Request, Result,
    calls::{Scope, query, scope::scoped_call, segment},
};

/// A command the server has taken.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BashCommand {
    /// Its id, hex without dashes.
    pub id: String,
    /// When it was taken: UTC with a `Z`.
    #[serde(default)]
    pub timestamp: String,
    /// The command line.
    #[serde(default)]
    pub command: String,
    /// The directory it runs in; the server's own where none was asked for.
    #[serde(default)]
    pub cwd: Option<String>,
    /// After how many seconds the server ends it.
    #[serde(default)]
    pub timeout: i64,
}

// A command line may hold secrets: only its size is shown.
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

/// A piece of a command's output; the one with an exit code is the last.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BashOutput {
    /// Its own id, hex without dashes.
    #[serde(default)]
    pub id: String,
    /// When it was written: UTC with a `Z`.
    #[serde(default)]
    pub timestamp: String,
    /// The command's id, hex without dashes.
    pub command_id: String,
    /// Its place among the pieces of the command, from 0. Not quite unique: a piece of stdout
    /// and one of stderr written at the same time can share a place.
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

// So may what a command wrote.
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

/// What the bash socket says of a request it could not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BashError {
    /// The kind of error.
    pub code: String,
    /// What happened.
    #[serde(default)]
    pub detail: String,
}

/// An event of the history, or a frame of the bash socket.
#[derive(Clone, PartialEq, Serialize)]
#[serde(tag = "kind")]
#[non_exhaustive]
pub enum BashEvent {
    /// A command was taken.
    #[serde(rename = "BashCommand")]
    Command(BashCommand),
    /// A command wrote something, or ended.
    #[serde(rename = "BashOutput")]
    Output(BashOutput),
    /// A request over the socket failed.
    #[serde(rename = "BashError")]
    Error(BashError),
    /// Something a newer server says, as it came.
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
    /// Reads an event. One that is no known kind, or does not fit its kind, is `Unknown`.
    ///
    /// # Errors
    ///
    /// When it is not JSON.
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

/// `GET …/bash/bash_events/search`: a page of the history, oldest first.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct BashPage {
    /// The events.
    pub items: Vec<BashEvent>,
    /// Where the next page begins; absent on the last.
    #[serde(default)]
    pub next_page_id: Option<String>,
}

impl SearchEvents {
    /// The first page of everything, 100 events at most.
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

    /// Only events of this kind: `BashCommand` or `BashOutput`.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Only output of this command. The command's own event is not among it.
    pub fn command(mut self, command_id: impl Into<String>) -> Self {
        self.command_id = Some(command_id.into());
        self
    }

    /// Only events from this time on, in ISO 8601; without an offset it is UTC.
    pub fn since(mut self, timestamp: impl Into<String>) -> Self {
        self.since = Some(timestamp.into());
        self
    }

    /// Only events before this time, in ISO 8601; without an offset it is UTC.
    pub fn until(mut self, timestamp: impl Into<String>) -> Self {
        self.until = Some(timestamp.into());
        self
    }

    /// Only output after this `order`; commands have none, and are not left out.
    pub fn after(mut self, order: i64) -> Self {
        self.after = Some(order);
        self
    }

    /// Newest first.
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// Begins at the page an earlier answer named.
    pub fn page_id(mut self, page_id: impl Into<String>) -> Self {
        self.page_id = Some(page_id.into());
        self
    }

    /// How many events a page holds, 1 to 100.
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
            return Err(Error::invalid("a page of the bash history holds 1 to 100 events"));
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

/// `GET …/bash/bash_events/search` for one command: what it wrote, oldest first.
#[derive(Debug, Clone)]
#[must_use]
pub struct SearchOutput {
    scope: Scope,
    command_id: String,
    after: Option<i64>,
    page_id: Option<String>,
    limit: u32,
}

/// A page of a command's output.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct OutputPage {
    /// The pieces.
    pub items: Vec<BashOutput>,
    /// Where the next page begins; absent on the last.
    #[serde(default)]
    pub next_page_id: Option<String>,
}

impl SearchOutput {
    /// All output of a command.
    pub fn new(command_id: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            command_id: command_id.into(),
            after: None,
            page_id: None,
            limit: 100,
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

    /// How many pieces a page holds, 1 to 100. A piece can be over a million characters.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }
}

scoped_call!(SearchOutput => OutputPage, GET "/bash/bash_events/search", Idempotent;
    |this, base| {
        if !(1..=100).contains(&this.limit) {
            return Err(Error::invalid("a page of output holds 1 to 100 pieces"));
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

/// `GET …/bash/bash_events/{event_id}`. The id of a command is the id of its event.
#[derive(Debug, Clone)]
pub struct GetEvent {
    scope: Scope,
    event_id: String,
}

impl GetEvent {
    /// The event with this id, hex without dashes.
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

/// `GET …/bash/bash_events/`: many events at once; `None` for each the server does not have.
#[derive(Debug, Clone)]
pub struct BatchEvents {
    scope: Scope,
    event_ids: Vec<String>,
}

impl BatchEvents {
    /// The events with these ids, hex without dashes.
    pub fn new<I: Into<String>>(event_ids: impl IntoIterator<Item = I>) -> Self {
        Self {
            scope: Scope::Server,
            event_ids: event_ids.into_iter().map(Into::into).collect(),
        }
    }
}

scoped_call!(BatchEvents => Vec<Option<BashEvent>>, GET "/bash/bash_events/", Idempotent;
    // The server wants the ids in the body of a GET.
    |this, base| Request::new(http::Method::GET, base + "/bash/bash_events/").json(&this.event_ids);
    |answer| answer.json("events of the bash history"));

/// `DELETE …/bash/bash_events`: forgets the history; answers how many events it held.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClearEvents {
    scope: Scope,
}

impl ClearEvents {
    /// Forgets all of it.
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
    answer.json::<Wire>("count of forgotten events").map(|wire| wire.cleared_count)
});
