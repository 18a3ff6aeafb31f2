//! Batches of conversations: a limited number of runs at a time, with progress and cancellation.

mod journal;
mod progress;
mod task;
mod work;

use std::{
    collections::BTreeSet,
    fmt,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::{StreamExt, stream};
use oh_protocol::{calls::events::UserContent, config::InitialMessage};
use oh_transport::ServerSource;

use self::{
    journal::Journal,
    task::{Shared, Task},
    work::Job,
};
pub use self::{
    journal::{TaskRecord, TaskState},
    progress::{BulkCancel, BulkHandle, BulkProgress, BulkStage, InFlight},
    task::{TaskEnd, TaskWorkspace},
    work::BulkResult,
};
use crate::{Conversation, ConversationBuilder, Result, run::Budget};

/// The default number of conversations at once: the server's default limit.
const AT_ONCE: usize = 10;

/// A batch of conversations, of which a limited number runs at a time.
///
/// By default a server accepts 10 runs at once (`max_concurrent_runs`) and returns 429 beyond that.
/// In a batch, this response is not a failure: the request is repeated when one of the batch's runs
/// ends, or after a delay. Any other failure is reported in the [`BulkResult`] of its conversation
/// and does not affect the others.
///
/// ```no_run
/// # async fn fix(workspace: &impl oh_transport::WorkspaceHandle, agent: oh_protocol::config::Agent) {
/// use oh_conversation::{Bulk, BulkCancel, Conversation};
///
/// let mut bulk = Bulk::new().at_once(4);
/// for issue in ["#12", "#15", "#16"] {
///     let conversation = Conversation::builder(workspace, agent.clone());
///     let conversation = conversation.tag("issue", &issue[1..]);
///     bulk = bulk.start(conversation, format!("Fix {issue}."));
/// }
/// let mut results = bulk.run();
/// while let Some(result) = results.next().await {
///     match result.outcome {
///         Ok(outcome) => println!("{}: {outcome}", result.index),
///         Err(error) => {
///             println!("{}: {error}", result.index);
///             results.handle().cancel(BulkCancel::Interrupt);
///         }
///     }
///     println!("in flight: {:?}", results.handle().progress());
/// }
/// # }
/// ```
///
/// # On a fleet
///
/// [`task`](Self::task) adds a conversation without a server. Its server is one of a fleet, which
/// [`on`](Self::on) sets. With a [`journal`](Self::journal), a batch whose program was killed can
/// be resumed.
///
/// ```no_run
/// # async fn fix(
/// #     fleet: std::sync::Arc<dyn oh_transport::ServerSource>,
/// #     agent: oh_protocol::config::Agent,
/// # ) -> oh_conversation::Result<()> {
/// use oh_conversation::{Bulk, Conversation};
///
/// let mut bulk = Bulk::new().on(fleet).journal("fixes.jsonl")?.budget(20.0);
/// for issue in ["#12", "#15", "#16"] {
///     let agent = agent.clone();
///     bulk = bulk.task(issue, format!("Fix {issue}."), move |workspace| {
///         Conversation::builder(workspace, agent.clone())
///     });
/// }
/// let mut results = bulk.run();
/// while let Some(result) = results.next().await {
///     println!("{:?} {:?} {:?}", result.task, result.server, result.outcome);
/// }
/// # Ok(()) }
/// ```
#[must_use = "nothing is run until `run` is called and its stream is polled"]
pub struct Bulk {
    items: Vec<Item>,
    at_once: Option<usize>,
    timeout: Option<Duration>,
    budget: Budget,
    shared: Shared,
}

#[derive(Debug)]
enum Item {
    Job(Job),
    Task(Task),
}

impl Item {
    /// Returns the key of a task.
    fn key(&self) -> Option<&str> {
        match self {
            Self::Job(_) => None,
            Self::Task(task) => Some(&task.key),
        }
    }
}

impl Default for Bulk {
    fn default() -> Self {
        Self::new()
    }
}

impl Bulk {
    /// Creates an empty batch that runs up to 10 conversations at once.
    pub fn new() -> Self {
        Self {
            items: Vec::new(),
            at_once: None,
            timeout: None,
            budget: Budget::default(),
            shared: Shared {
                source: None,
                journal: None,
                collect: None,
                repeats: 0,
                total: None,
            },
        }
    }

    /// Sets how many conversations are in flight at once; 0 counts as 1. Default: 10, or the number
    /// of places of the fleet. If the servers accept fewer, the rest wait.
    pub fn at_once(mut self, conversations: usize) -> Self {
        self.at_once = Some(conversations.max(1));
        self
    }

    /// Sets the timeout of the wait for each run, as [`Run::timeout`](crate::Run::timeout) does.
    /// The time until the server accepts the run does not count. Default: no limit.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Limits the cost of each run in US dollars, as [`Run::max_cost`](crate::Run::max_cost) does.
    /// Default: no limit.
    ///
    /// For a limit for all tasks together, see [`budget`](Self::budget).
    ///
    /// With an invalid limit, every result is an error of kind
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), and nothing is sent.
    pub fn max_cost(mut self, dollars: f64) -> Self {
        self.budget.max_cost = Some(dollars);
        self
    }

    /// Limits the total cost of each conversation in US dollars, as
    /// [`Run::max_total_cost`](crate::Run::max_total_cost) does. Default: no limit. Otherwise works
    /// like [`max_cost`](Self::max_cost).
    pub fn max_total_cost(mut self, dollars: f64) -> Self {
        self.budget.max_total_cost = Some(dollars);
        self
    }

    /// Limits the tokens of each run, as [`Run::max_tokens`](crate::Run::max_tokens) does. Default:
    /// no limit.
    pub fn max_tokens(mut self, tokens: u64) -> Self {
        self.budget.max_tokens = Some(tokens);
        self
    }

    /// Adds a conversation to start, with its first message.
    pub fn start(
        mut self,
        conversation: ConversationBuilder,
        message: impl Into<UserContent>,
    ) -> Self {
        let message = vec![message.into()];
        let job = Job::Start(Box::new(conversation), message);
        self.items.push(Item::Job(job));
        self
    }

    /// Adds a run of an existing conversation.
    pub fn resume(mut self, conversation: Conversation) -> Self {
        self.items.push(Item::Job(Job::Run(conversation)));
        self
    }

    /// Sets the fleet whose servers run the tasks of [`task`](Self::task). The batch keeps the
    /// fleet until the stream is dropped.
    pub fn on(mut self, servers: Arc<dyn ServerSource>) -> Self {
        self.shared.source = Some(servers);
        self
    }

    /// Adds a task for a server of the fleet. `key` names the task in the journal and must be
    /// unique in the batch. `conversation` is called with the place on the server, again for each
    /// attempt. The batch sets the id of the conversation, and sends `message` as its first message
    /// when it is created.
    ///
    /// A run that reaches its [`timeout`](Self::timeout) is interrupted, because the next task
    /// needs the place. A task that no server has seen is offered to three servers. After that, a
    /// task whose server fails is not repeated, unless [`repeat_lost`](Self::repeat_lost) is set.
    pub fn task(
        mut self,
        key: impl Into<String>,
        message: impl Into<InitialMessage>,
        conversation: impl Fn(&TaskWorkspace) -> ConversationBuilder + Send + Sync + 'static,
    ) -> Self {
        self.items.push(Item::Task(Task {
            key: key.into(),
            make: Box::new(conversation),
            message: message.into(),
        }));
        self
    }

    /// Sets a function to call with each task whose run has ended, while its server is still
    /// reserved: for example to read files of the workspace. The task ends when the future does. In
    /// a batch that is resumed after a crash, the function may be called again for a task.
    pub fn collect<F>(mut self, collect: impl Fn(TaskEnd) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.shared.collect = Some(Arc::new(move |end| Box::pin(collect(end))));
        self
    }

    /// Repeats a task up to `times` times, with another conversation on another server, if its
    /// server fails after it may have created the conversation. Default: 0, so that nothing is done
    /// twice outside of the server.
    pub fn repeat_lost(mut self, times: u32) -> Self {
        self.shared.repeats = times;
        self
    }

    /// Limits the cost of all tasks together in US dollars, including the costs in the journal.
    /// Default: no limit.
    ///
    /// When it is used up, no other task is started: its result is an error of kind
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled). The limit for each run is at most the
    /// rest of the budget when the run starts. So the total can exceed the budget by the costs of
    /// the runs that are in progress.
    pub fn budget(mut self, dollars: f64) -> Self {
        self.shared.total = Some(dollars);
        self
    }

    /// Keeps a journal of the tasks in a file: opens it, or creates it with mode 0600.
    ///
    /// Each line is a [`TaskRecord`] in JSON, without secrets and messages. The line that a
    /// conversation was started is on the disk before the conversation is created. When the batch
    /// is built again with the same tasks and journal, for example after a crash:
    ///
    /// - A task that has ended is not run again, and has no result: see [`BulkProgress::earlier`].
    /// - A task that was started is continued, if the fleet finds its server. Otherwise its result
    ///   is [`ErrorKind::ServerGone`](crate::ErrorKind::ServerGone), and its state
    ///   [`TaskState::Lost`].
    /// - All other tasks are run.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Journal`](crate::ErrorKind::Journal) if the file cannot be opened, has an
    /// invalid line, or is in use by another program. An incomplete last line is removed.
    pub fn journal(mut self, path: impl AsRef<Path>) -> Result<Self> {
        self.shared.journal = Some(Arc::new(Journal::open(path.as_ref())?));
        Ok(self)
    }

    /// Returns the lines of a journal, also while a batch writes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Journal`](crate::ErrorKind::Journal) if the file cannot be read, or has an
    /// invalid line.
    pub fn read_journal(path: impl AsRef<Path>) -> Result<Vec<TaskRecord>> {
        Journal::read(path.as_ref())
    }

    /// Returns the number of conversations added.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether no conversation was added.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the results as a stream, in the order of completion: one for each conversation that
    /// was added, except tasks that have ended according to the journal.
    ///
    /// Of tasks with the same key, only the first is run.
    ///
    /// All work happens while the stream is polled. While it is not polled, runs that have started
    /// continue on the server, and no others start. Dropping the stream does not stop them.
    pub fn run(self) -> BulkRun {
        let places = self.shared.source.as_ref().map(|source| source.places());
        let at_once = self.at_once.or(places).unwrap_or(AT_ONCE).max(1);
        let shared = Arc::new(self.shared);
        let journal = shared.journal.as_ref();
        let mut keys = BTreeSet::new();
        let mut earlier = 0;
        let mut items: Vec<_> = self.items.into_iter().enumerate().collect();
        items.retain(|(_, item)| {
            let Some(key) = item.key() else { return true };
            let record = journal.and_then(|journal| journal.last(key));
            let settled = record.is_some_and(|record| record.is_settled(shared.repeats));
            let first = keys.insert(key.to_owned());
            earlier += usize::from(settled && first);
            first && !settled
        });
        let spent = journal.map_or(0.0, |journal| journal.spent());
        let handle = BulkHandle::new(items.len(), earlier, spent);
        let (limits, work) = ((self.timeout, self.budget), handle.clone());
        let results = stream::iter(items)
            .map(move |(index, item)| {
                let (work, shared) = (work.clone(), shared.clone());
                // The type is written out so that the stream is `Send`.
                let result: Pin<Box<dyn Future<Output = BulkResult> + Send>> = match item {
                    Item::Job(job) => Box::pin(job.result(index, limits, work)),
                    Item::Task(task) => Box::pin(task.result(index, limits, shared, work)),
                };
                result
            })
            .buffer_unordered(at_once);
        BulkRun {
            results: Box::pin(results),
            handle,
        }
    }
}

impl fmt::Debug for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulk")
            .field("items", &self.items)
            .field("at_once", &self.at_once)
            .finish_non_exhaustive()
    }
}

/// A stream of the results of a [`Bulk`].
#[must_use = "a stream does nothing until it is polled"]
pub struct BulkRun {
    results: Pin<Box<dyn Stream<Item = BulkResult> + Send>>,
    handle: BulkHandle,
}

impl BulkRun {
    /// Waits for the next result. Returns `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no result is lost; work continues with the next call.
    pub async fn next(&mut self) -> Option<BulkResult> {
        self.results.next().await
    }

    /// Returns a handle that reports progress and cancels the batch, also from another task.
    pub fn handle(&self) -> BulkHandle {
        self.handle.clone()
    }
}

impl Stream for BulkRun {
    type Item = BulkResult;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BulkResult>> {
        self.results.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for BulkRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkRun")
            .field("progress", &self.handle.progress())
            .finish_non_exhaustive()
    }
}
