//! Attaching to an existing conversation.

use oh_protocol::{ConversationId, calls::conversations::Get};
use oh_transport::Client;

use crate::{
    ClientTool, Conversation, Cursor, Error, Origin, Result,
    link::shared::Begin,
    request::{Polled, operation},
    start::options::{FEWEST, Following, link_options},
};

/// A connection to an existing conversation. Await it.
///
/// When the future returns `Ok`, the conversation is *ready*: the mirror has every event that the
/// server had at the time of the request (of those that the options select), and [`Cursor::Now`] is
/// after them. This also holds while a tool runs, when the server withholds its first snapshot: the
/// events are then fetched with REST.
///
/// Handles of one process, made with clones of one [`Client`], share one link to a conversation if
/// their options allow it. Each handle is closed separately; the link ends with the last.
///
/// ```no_run
/// # async fn again(client: &oh_transport::Client, id: oh_protocol::ConversationId)
/// # -> oh_conversation::Result<()> {
/// use oh_conversation::Conversation;
///
/// // Reads the last 50 events now, and older ones on demand.
/// let conversation = Conversation::attach(client, id).tail(50).await?;
/// println!("{:?}", conversation.state().execution_status());
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// Returns an error if the server does not have the conversation, rejects the key, or cannot be
/// reached.
#[derive(Debug, Clone)]
#[must_use = "nothing is connected until it is awaited"]
pub struct Attach {
    client: Client,
    id: ConversationId,
    following: Following,
    polled: Polled<Conversation>,
}

impl Conversation {
    /// Connects to an existing conversation. Await the result.
    pub fn attach(client: &Client, id: ConversationId) -> Attach {
        Attach::new(client, id)
    }
}

impl Attach {
    pub(crate) fn new(client: &Client, id: ConversationId) -> Self {
        Self {
            client: client.clone(),
            id,
            following: Following::default(),
            polled: Polled::default(),
        }
    }

    /// Keeps only the newest events in memory: at least `events` and at least 1000, and up to a
    /// quarter more. Readers that start earlier or fall further behind fetch older events from the
    /// server, page by page. [`events`](Conversation::events) lists the events held. Default: all.
    pub fn keep_last(mut self, events: usize) -> Self {
        self.following.keep_last(events);
        self
    }

    /// Starts with the newest `events` events instead of the first: attaching takes time and memory
    /// for these only, however long the log is. If actions may wait for approval, earlier events
    /// are fetched until the actions are found. If the server cannot read some of the events, there
    /// may be fewer. While a tool runs, the socket is silent: the events are then fetched with
    /// REST, and the server counts the events of the whole log once. Older events are fetched from
    /// the server when a reader needs them: use [`subscribe`](Conversation::subscribe) with
    /// [`Cursor::Start`], or [`search`](crate::EventLog::search) with `newest_first`.
    ///
    /// Later events are kept up to [`keep_last`](Self::keep_last), which defaults here to `events`,
    /// but at least 1000.
    pub fn tail(mut self, events: usize) -> Self {
        self.following.link.begin = Begin::Tail(events);
        self.following.link.keep.get_or_insert(events.max(FEWEST));
        self
    }

    /// Starts now: no earlier event is fetched, except the last one. Same as
    /// [`tail(1)`](Self::tail).
    pub fn live(self) -> Self {
        self.tail(1)
    }

    /// Starts after the cursor of an earlier reader, such as
    /// [`EventStream::cursor`](crate::EventStream::cursor): attaching costs only the events since
    /// then.
    pub fn from(mut self, cursor: Cursor) -> Self {
        match cursor {
            Cursor::Start => self.following.link.begin = Begin::Start,
            Cursor::Now => return self.live(),
            Cursor::After(seq) => self.following.link.begin = Begin::After(seq),
        }
        self
    }

    link_options!(following);

    /// Sets whether the conversation is part of the report to an automation environment, if this
    /// process runs in one: see
    /// [`ConversationBuilder::automation`](crate::ConversationBuilder::automation). Default: yes.
    pub fn automation(mut self, yes: bool) -> Self {
        self.following.unreported = !yes;
        self
    }

    /// Executes this tool when the agent calls it. The conversation must have been started with a
    /// tool of this name; only its handler comes from this program.
    pub fn client_tool(mut self, tool: ClientTool) -> Self {
        self.following.tools.push(tool);
        self
    }

    /// Also executes calls of client tools that have no result in the log: calls made while no
    /// program was attached, and calls whose handler was interrupted. The whole log is read for
    /// this, also with [`tail`](Self::tail) or [`keep_last`](Self::keep_last). A tool that returns
    /// no result is executed again each time, because it looks interrupted. Default: no.
    pub fn resume_client_tools(mut self) -> Self {
        self.following.resume_tools = true;
        self
    }
}

impl Attach {
    async fn connect(self) -> Result<Conversation> {
        let Self {
            client,
            id,
            following,
            ..
        } = self;
        let info = match client.call(&Get::new(id)).await {
            Ok(info) => info,
            Err(error) => return Err(not_found_reason(&client, id, error).await),
        };
        Conversation::follow(client, info, following, Origin::Attached).await
    }
}

operation!(
    Attach,
    Conversation,
    |attach: &mut Attach| attach.clone(),
    Attach::connect
);

/// Returns the reason why a conversation was not found, which may be that the address is not an
/// agent server.
async fn not_found_reason(
    client: &Client,
    id: ConversationId,
    error: oh_transport::Error,
) -> Error {
    use oh_transport::ErrorKind as Wire;
    let odd = matches!(
        error.kind(),
        Wire::NotFound | Wire::NotAnAgentServer | Wire::Decode | Wire::Status
    );
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
