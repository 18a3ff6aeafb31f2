//! Attaching to an existing conversation, and the options of its link.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use oh_protocol::{ConversationId, calls::conversations::Get};
use oh_transport::Client;

use crate::{ClientTool, Conversation, Cursor, Error, Origin, Result};

/// The minimum number of events to keep, because a run looks back a little.
const FEWEST: usize = 1000;

/// The position in the log at which a mirror starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Begin {
    /// At the first event.
    #[default]
    Start,
    /// With this many of the newest events.
    Tail(usize),
    /// After the event with this `seq`.
    After(u64),
}

/// The time limits of a link. Each has a setter on [`Attach`] and on the builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The first and the longest delay before a reconnect.
    pub(crate) backoff: (Duration, Duration),
    /// How long a socket may be silent before the link is checked.
    pub(crate) silence: Duration,
    /// How long another server may hold the conversation's lease.
    pub(crate) lease: Duration,
    /// For how long the server must report that it does not have the conversation.
    pub(crate) missing: Duration,
    /// How long the server may be unreachable before waits end.
    pub(crate) unreachable: Duration,
    /// How long to wait for a missing event before it is fetched, when later events have arrived.
    pub(crate) gap: Duration,
    /// How long the log may take to show the effect of a request whose response was lost.
    pub(crate) answer: Duration,
    /// How long a run may be rejected although none is in progress, or be accepted and not start.
    pub(crate) wedged: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            silence: Duration::from_secs(45),
            lease: Duration::from_secs(90),
            missing: Duration::from_secs(2),
            unreachable: Duration::from_secs(60),
            gap: Duration::from_millis(200),
            answer: Duration::from_secs(15),
            wedged: Duration::from_secs(120),
        }
    }
}

/// The options of a link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Following {
    pub(crate) begin: Begin,
    /// The minimum number of events to keep; `None` keeps all.
    pub(crate) keep: Option<usize>,
    pub(crate) limits: Limits,
    pub(crate) tools: Vec<ClientTool>,
    pub(crate) resume_tools: bool,
    pub(crate) delete_on_close: bool,
}

impl Following {
    pub(crate) fn keep_last(&mut self, events: usize) {
        self.keep = Some(events.max(FEWEST));
    }
}

/// Setters that [`Attach`] and the builder share.
macro_rules! link_options {
    ($following:ident) => {
        /// Sets the delay before a reconnect: about `first`, then doubled each time, up to `cap`.
        /// Default: 100 ms to 10 s.
        pub fn reconnect_after(
            mut self,
            first: std::time::Duration,
            cap: std::time::Duration,
        ) -> Self {
            self.$following.limits.backoff = (first, cap);
            self
        }

        /// Sets how long the socket may be silent before the link is checked. Servers leave sockets
        /// open and silent when the conversation is deleted or its sandbox was paused. While the
        /// conversation is idle, the check opens a new socket, and the interval doubles each time,
        /// up to 30 minutes. While the conversation runs, the check requests the newest event with
        /// REST. Default: 45 s.
        pub fn silence_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.silence = limit;
            self
        }

        /// Sets how long another server may hold the conversation's lease before the link ends with
        /// [`ErrorKind::Leased`](crate::ErrorKind::Leased). The lease of a killed server expires
        /// after 45 s by default. Default: 90 s.
        pub fn lease_limit(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.lease = limit;
            self
        }

        /// Sets for how long the server must report that it does not have the conversation before
        /// the link ends with [`ErrorKind::Gone`](crate::ErrorKind::Gone). Default: 2 s.
        pub fn missing_limit(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.missing = limit;
            self
        }

        /// Sets how long the server may be unreachable before a run ends with
        /// [`RunStatus::ServerGone`](crate::RunStatus::ServerGone). The link keeps retrying. If the
        /// server's supervisor reports that the server has ended, the run ends at once. Default:
        /// 60 s.
        pub fn unreachable_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.unreachable = limit;
            self
        }

        /// Sets how long the log may take to show the effect of a message, a run or an approval
        /// whose response was lost, before the operation fails with
        /// [`ErrorKind::Ambiguous`](crate::ErrorKind::Ambiguous). Also limits how long a message or
        /// an approval may take to find out whether an action waits. Default: 15 s.
        pub fn ambiguous_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.answer = limit;
            self
        }

        /// Sets how long a run may be rejected although none is in progress, or be accepted and not
        /// start, before it ends with [`RunStatus::Wedged`](crate::RunStatus::Wedged). Default:
        /// 120 s.
        pub fn wedged_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.wedged = limit;
            self
        }
    };
}
pub(crate) use link_options;

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

    /// Keeps only the newest events in memory: at least `events` and at least 1000, and up to a
    /// quarter more. Readers that start earlier or fall further behind fetch older events from the
    /// server, page by page. [`events`](Conversation::events) lists the events held. Default: all.
    pub fn keep_last(mut self, events: usize) -> Self {
        self.following.keep_last(events);
        self
    }

    /// Starts with the newest `events` events instead of the first: attaching takes time and memory
    /// for these only, however long the log is. If actions may wait for approval, earlier events
    /// are fetched until the actions are found. Older events are fetched from the server when a
    /// reader needs them: use [`subscribe`](Conversation::subscribe) with [`Cursor::Start`], or
    /// [`search`](crate::EventLog::search) with `newest_first`.
    ///
    /// Later events are kept up to [`keep_last`](Self::keep_last), which defaults here to `events`,
    /// but at least 1000.
    pub fn tail(mut self, events: usize) -> Self {
        self.following.begin = Begin::Tail(events);
        self.following.keep.get_or_insert(events.max(FEWEST));
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
            Cursor::Start => self.following.begin = Begin::Start,
            Cursor::Now => return self.live(),
            Cursor::After(seq) => self.following.begin = Begin::After(seq),
        }
        self
    }

    link_options!(following);

    /// Executes this tool when the agent calls it. The conversation must have been started with a
    /// tool of this name; only its handler comes from this program.
    pub fn client_tool(mut self, tool: ClientTool) -> Self {
        self.following.tools.push(tool);
        self
    }

    /// Also executes calls of client tools that have no result in the log: calls made while no
    /// program was attached, and calls whose handler was interrupted. A tool that returns no result
    /// is executed again each time, because it looks interrupted. Default: no.
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
                Err(error) => return Err(not_found_reason(&client, id, error).await),
            };
            Conversation::follow(client, info, following, Origin::Attached).await
        })
    }
}

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
