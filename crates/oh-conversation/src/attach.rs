//! Connecting to a conversation that exists, and how its link behaves. Knows no agents.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use oh_protocol::{ConversationId, calls::conversations::Get};
use oh_transport::{Backoff, Client};

use crate::{ClientTool, Conversation, Error, Origin, Result};

/// Fewer events are not held: a run looks back a little.
const FEWEST: usize = 1000;

/// How a link behaves.
#[derive(Debug, Clone)]
pub(crate) struct Following {
    /// How many events to hold at least; none: all.
    pub(crate) keep: Option<usize>,
    pub(crate) backoff: Backoff,
    pub(crate) tools: Vec<ClientTool>,
    pub(crate) resume_tools: bool,
    pub(crate) delete_on_close: bool,
}

impl Default for Following {
    fn default() -> Self {
        Self {
            keep: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            tools: Vec::new(),
            resume_tools: false,
            delete_on_close: false,
        }
    }
}

impl Following {
    pub(crate) fn keep_last(&mut self, events: usize) {
        self.keep = Some(events.max(FEWEST));
    }
}

/// A connection to a conversation that exists, to be awaited.
///
/// # Errors
///
/// When the server does not have the conversation, refuses the key, or cannot be asked.
#[derive(Debug)]
#[must_use = "nothing is connected until it is awaited"]
pub struct Attach {
    client: Client,
    id: ConversationId,
    following: Following,
}

impl Attach {
    pub(crate) fn new(client: &Client, id: ConversationId) -> Self {
        Self {
            client: client.clone(),
            id,
            following: Following::default(),
        }
    }

    /// Holds only the newest events in memory: at least these many, at least 1000, and up to a
    /// quarter more. Readers that begin earlier or fall further behind get the rest from the
    /// server, page by page; [`events`](Conversation::events) lists what is held. Default: all.
    pub fn keep_last(mut self, events: usize) -> Self {
        self.following.keep_last(events);
        self
    }

    /// How long to wait before the connection is made again: about `first`, then twice as long
    /// each time, up to `cap`. Default: 100 ms to 10 s.
    pub fn reconnect_after(mut self, first: Duration, cap: Duration) -> Self {
        self.following.backoff = Backoff::new(first, cap);
        self
    }
}

impl Attach {
    /// Carries out this tool when the agent calls it: one that the conversation was started
    /// with. Its handler, at least, must be of the program that is attached.
    pub fn client_tool(mut self, tool: ClientTool) -> Self {
        self.following.tools.push(tool);
        self
    }

    /// Also carries out calls of client tools that the log has no result for: those made while no
    /// program was attached, and those whose handler was cut off. A tool that gives no result
    /// looks as if it were cut off, each time. Default: no.
    pub fn resume_client_tools(mut self) -> Self {
        self.following.resume_tools = true;
        self
    }
}

impl IntoFuture for Attach {
    type Output = Result<Conversation>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                client,
                id,
                following,
            } = self;
            let info = match client.call(&Get::new(id)).await {
                Ok(info) => info,
                Err(error) => return Err(unfound(&client, id, error).await),
            };
            Conversation::follow(client, info, following, Origin::Attached).await
        })
    }
}

/// Why a conversation was not found: because what answers there is no agent server, if so.
async fn unfound(client: &Client, id: ConversationId, error: oh_transport::Error) -> Error {
    use oh_transport::ErrorKind as Wire;
    let odd = matches!(error.kind(), Wire::NotFound | Wire::Decode | Wire::Status);
    if !odd {
        return Error::transport(id, "attach", error);
    }
    match client.server_info().await {
        Err(other) if other.kind() == Wire::NotAnAgentServer => {
            Error::transport(id, "attach", other)
        }
        _ => Error::transport(id, "attach", error),
    }
}
