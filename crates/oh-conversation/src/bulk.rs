//! Many conversations from one client: so many at a time as are wanted and the server takes.
//! Knows no mirrors; each conversation is started and run as any other.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::{StreamExt, stream};
use oh_protocol::{ConversationId, calls::events::UserContent};
use oh_transport::Backoff;
use tokio::{sync::Notify, time::timeout};

use crate::{Conversation, ConversationBuilder, ErrorKind, Result, RunOutcome};

/// How many conversations run at once unless told otherwise: what a server takes by default.
const AT_ONCE: usize = 10;
/// How often a refused run is asked for again, where none of our own has ended meanwhile.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

/// Conversations to be run, so many at a time.
///
/// A server takes 10 runs at once by default (`max_concurrent_runs`) and answers 429 beyond
/// that. Such a refusal is no failure here: what was refused is asked for again when one of
/// these runs ends, or after a while. Whatever else happens to one conversation is told with it
/// and ends no other.
///
/// ```no_run
/// # use futures_util::StreamExt;
/// # async fn fix(workspace: &impl oh_transport::WorkspaceHandle, agent: oh_protocol::config::Agent) {
/// use oh_conversation::{Bulk, Conversation};
///
/// let mut bulk = Bulk::new().at_once(4);
/// for issue in ["#12", "#15", "#16"] {
///     let conversation = Conversation::builder(workspace, agent.clone()).tag("issue", &issue[1..]);
///     bulk = bulk.start(conversation, format!("Fix {issue}."));
/// }
/// let mut done = bulk.run();
/// while let Some(done) = done.next().await {
///     match done.outcome {
///         Ok(outcome) => println!("{}: {outcome}", done.index),
///         Err(error) => println!("{}: {error}", done.index),
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is run until `run` is called and its stream read"]
pub struct Bulk {
    jobs: VecDeque<Job>,
    at_once: usize,
    timeout: Option<Duration>,
}

#[derive(Debug)]
enum Job {
    Start(Box<ConversationBuilder>, Vec<UserContent>),
    Run(Conversation),
}

/// What came of one conversation.
#[derive(Debug)]
#[non_exhaustive]
pub struct Done {
    /// Which of those given it was, from 0.
    pub index: usize,
    /// Its id; the server may know it even where it could not be started.
    pub id: ConversationId,
    /// The conversation, where it was started. It is still connected.
    pub conversation: Option<Conversation>,
    /// How its run ended, or what kept it from running.
    pub outcome: Result<RunOutcome>,
}

impl Default for Bulk {
    fn default() -> Self {
        Self::new()
    }
}

impl Bulk {
    /// None yet, 10 at a time.
    pub fn new() -> Self {
        Self {
            jobs: VecDeque::new(),
            at_once: AT_ONCE,
            timeout: None,
        }
    }

    /// How many at a time, at least 1. More than the server takes wait for it.
    pub fn at_once(mut self, conversations: usize) -> Self {
        self.at_once = conversations.max(1);
        self
    }

    /// Ends the wait for each run after this long, as [`Run::timeout`](crate::Run::timeout) does.
    /// The wait for the server to take it does not count.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Adds a conversation that is yet to be started, with its first message.
    pub fn start(
        mut self,
        conversation: ConversationBuilder,
        message: impl Into<UserContent>,
    ) -> Self {
        let message = vec![message.into()];
        self.jobs
            .push_back(Job::Start(Box::new(conversation), message));
        self
    }

    /// Adds a run of a conversation that is there.
    pub fn resume(mut self, conversation: Conversation) -> Self {
        self.jobs.push_back(Job::Run(conversation));
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// What comes of them, in the order in which they are done.
    ///
    /// All of it happens while the stream is read: where it is not, those under way go on at the
    /// server, and no other begins. Dropping it leaves those at work that have begun.
    pub fn run(self) -> BulkRun {
        let freed = Arc::new(Notify::new());
        let timeout = self.timeout;
        let jobs = stream::iter(self.jobs.into_iter().enumerate());
        let done = jobs
            .map(move |(index, job)| {
                // The whole of it, so that it can be sent to another thread.
                Box::pin(job.done(index, timeout, freed.clone()))
                    as Pin<Box<dyn Future<Output = Done> + Send>>
            })
            .buffer_unordered(self.at_once);
        BulkRun(Box::pin(done))
    }
}

impl Job {
    async fn done(self, index: usize, limit: Option<Duration>, freed: Arc<Notify>) -> Done {
        let (id, started) = match self {
            Self::Run(conversation) => (conversation.id(), Ok(conversation)),
            Self::Start(builder, message) => {
                (builder.plan().id(), start(*builder, message, &freed).await)
            }
        };
        let (conversation, outcome) = match started {
            Ok(conversation) => {
                let outcome = run(&conversation, limit, &freed).await;
                (Some(conversation), outcome)
            }
            Err(error) => (None, Err(error)),
        };
        freed.notify_waiters();
        Done {
            index,
            id,
            conversation,
            outcome,
        }
    }
}

async fn start(
    builder: ConversationBuilder,
    message: Vec<UserContent>,
    freed: &Notify,
) -> Result<Conversation> {
    let mut backoff = Backoff::new(FIRST, LONGEST);
    let created = loop {
        // A create is refused, too, while the server is full; nothing of it is there then.
        match builder.plan().create().await {
            Err(error) if error.kind() == ErrorKind::RateLimited => wait(freed, &mut backoff).await,
            created => break created?,
        }
    };
    let conversation = builder.connect(created).await?;
    conversation.send_parts(message).await?;
    Ok(conversation)
}

async fn run(
    conversation: &Conversation,
    limit: Option<Duration>,
    freed: &Notify,
) -> Result<RunOutcome> {
    let mut backoff = Backoff::new(FIRST, LONGEST);
    loop {
        match conversation.run().within(limit).await {
            Err(error) if error.kind() == ErrorKind::RateLimited => wait(freed, &mut backoff).await,
            outcome => return outcome,
        }
    }
}

/// Until one of our runs has ended, or a while has passed: others may use the server, too.
async fn wait(freed: &Notify, backoff: &mut Backoff) {
    let _ = timeout(backoff.next_delay(), freed.notified()).await;
}

/// What comes of a [`Bulk`], as it comes.
#[must_use = "a stream does nothing until it is read"]
pub struct BulkRun(Pin<Box<dyn Stream<Item = Done> + Send>>);

impl Stream for BulkRun {
    type Item = Done;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Done>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for BulkRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BulkRun")
    }
}
