//! Connecting to a conversation that exists, and how its link behaves.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use oh_protocol::{ConversationId, calls::conversations::Get};
use oh_transport::Client;

use crate::{ClientTool, Conversation, Cursor, Error, Origin, Result};

/// Fewer events are not held: a run looks back a little.
const FEWEST: usize = 1000;

/// The place in the log where a mirror begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Begin {
    /// At the first event.
    #[default]
    Start,
    /// With so many of the newest events.
    Tail(usize),
    /// After the event with this `seq`.
    After(u64),
}

/// The time limits of a link. Each has a setter on [`Attach`] and on the builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The delay before the first reconnect, and the longest.
    pub(crate) backoff: (Duration, Duration),
    /// How long a socket may be silent before the link is checked.
    pub(crate) silence: Duration,
    /// How long another server may hold the conversation's lease.
    pub(crate) lease: Duration,
    /// For how long the server must say that it does not have the conversation.
    pub(crate) missing: Duration,
    /// How long the server may be unreachable before waits end.
    pub(crate) unreachable: Duration,
    /// How long an event in front of others may be late before it is fetched.
    pub(crate) gap: Duration,
    /// How long the log may take to show what a request with a lost answer has done.
    pub(crate) answer: Duration,
    /// How long a run may be refused without one under way, or be taken and not begin.
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

/// How a link behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Following {
    pub(crate) begin: Begin,
    /// How many events to hold at least; `None` holds all.
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
        /// Sets how long to wait before the connection is made again: about `first`, then twice as
        /// long each time, up to `cap`. Default: 100 ms to 10 s.
        pub fn reconnect_after(
            mut self,
            first: std::time::Duration,
            cap: std::time::Duration,
        ) -> Self {
            self.$following.limits.backoff = (first, cap);
            self
        }

        /// Sets how long the socket may be silent before the link is checked: a server leaves
        /// sockets open and silent when the conversation is deleted or its sandbox was paused.
        /// While the conversation is idle, the check opens a new socket and takes twice as long
        /// each time, up to 30 minutes; while it runs, REST is asked for the newest event.
        /// Default: 45 s.
        pub fn silence_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.silence = limit;
            self
        }

        /// Sets how long another server may hold the conversation's lease before the link ends
        /// with [`ErrorKind::Leased`](crate::ErrorKind::Leased). The lease of a server that was
        /// killed runs out after 45 s by default. Default: 90 s.
        pub fn lease_limit(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.lease = limit;
            self
        }

        /// Sets for how long the server must say that it does not have the conversation before
        /// the link ends with [`ErrorKind::Gone`](crate::ErrorKind::Gone). Default: 2 s.
        pub fn missing_limit(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.missing = limit;
            self
        }

        /// Sets how long the server may be unreachable before a run ends with
        /// [`RunStatus::ServerGone`](crate::RunStatus::ServerGone). The link goes on trying. A server whose supervisor reports its end is gone at
        /// once. Default: 60 s.
        pub fn unreachable_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.unreachable = limit;
            self
        }

        /// Sets how long the log may take to show what became of a message, a run or an approval
        /// whose answer was lost, before the operation fails with
        /// [`ErrorKind::Ambiguous`](crate::ErrorKind::Ambiguous); and how long a message or an
        /// approval may take to find out whether an action waits. Default: 15 s.
        pub fn ambiguous_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.answer = limit;
            self
        }

        /// Sets how long a run may be refused without one under way, or be accepted and not
        /// begin, before it ends with [`RunStatus::Wedged`](crate::RunStatus::Wedged).
        /// Default: 120 s.
        pub fn wedged_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.limits.wedged = limit;
            self
        }
    };
}
pub(crate) use link_options;

/// A connection to a conversation that exists, to be awaited.
///
/// When it returns `Ok`, the conversation is *ready*: every event that the server had when it was
/// asked is here (of those that the options ask for), and [`Cursor::Now`] stands after them. That
/// also holds while a tool runs, when the server withholds its first snapshot: events are read by
/// REST then.
///
/// Handles of one process, made with clones of one [`Client`], share one link to a conversation if
/// their options allow it. Each is closed by itself; the link ends with the last.
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

    /// Begins with the newest `events` events instead of the first: attaching costs the time and
    /// memory of these, however long the log is. Where an action waits for approval, at least 100
    /// are read, so that it is among them. Older events are read from the server when a reader
    /// asks for them: [`subscribe`](Conversation::subscribe) with [`Cursor::Start`], or
    /// [`search_events`](Conversation::search_events) with `newest_first`.
    ///
    /// Later events are held up to [`keep_last`](Self::keep_last), here 1000 or `events` by
    /// default.
    pub fn tail(mut self, events: usize) -> Self {
        self.following.begin = Begin::Tail(events);
        self.following.keep.get_or_insert(events.max(FEWEST));
        self
    }

    /// Begins now: no earlier event is read, but for the last one. As [`tail(1)`](Self::tail).
    pub fn live(self) -> Self {
        self.tail(1)
    }

    /// Begins after a cursor of an earlier reader, such as
    /// [`EventStream::cursor`](crate::EventStream::cursor): attaching costs the events since then.
    pub fn from(mut self, cursor: Cursor) -> Self {
        match cursor {
            Cursor::Start => self.following.begin = Begin::Start,
            Cursor::Now => return self.live(),
            Cursor::After(seq) => self.following.begin = Begin::After(seq),
        }
        self
    }

    link_options!(following);

    /// Carries out this tool when the agent calls it: one that the conversation was started with.
    /// Its handler, at least, must be of the program that is attached.
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
                Err(error) => return Err(not_found_reason(&client, id, error).await),
            };
            Conversation::follow(client, info, following, Origin::Attached).await
        })
    }
}

/// Why a conversation was not found: because what answers there is no agent server, if so.
async fn not_found_reason(
    client: &Client,
    id: ConversationId,
    error: oh_transport::Error,
) -> Error {
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
