//! Batches of conversations: a limited number of runs at a time, with progress and cancellation.

mod progress;
mod work;

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::{StreamExt, stream};
use oh_protocol::calls::events::UserContent;

use self::work::Job;
pub use self::{
    progress::{BulkCancel, BulkHandle, BulkProgress, BulkStage, InFlight},
    work::BulkResult,
};
use crate::{Conversation, ConversationBuilder, run::Budget};

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
#[derive(Debug)]
#[must_use = "nothing is run until `run` is called and its stream is polled"]
pub struct Bulk {
    jobs: VecDeque<Job>,
    at_once: usize,
    timeout: Option<Duration>,
    budget: Budget,
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
            jobs: VecDeque::new(),
            at_once: AT_ONCE,
            timeout: None,
            budget: Budget::default(),
        }
    }

    /// Sets how many conversations are in flight at once; 0 counts as 1. Default: 10. If the server
    /// accepts fewer, the rest wait.
    pub fn at_once(mut self, conversations: usize) -> Self {
        self.at_once = conversations.max(1);
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
    /// There is no limit for the batch as a whole: add up the costs of the results, and call
    /// [`BulkHandle::cancel`].
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
        self.jobs
            .push_back(Job::Start(Box::new(conversation), message));
        self
    }

    /// Adds a run of an existing conversation.
    pub fn resume(mut self, conversation: Conversation) -> Self {
        self.jobs.push_back(Job::Run(conversation));
        self
    }

    /// Returns the number of conversations added.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Returns whether no conversation was added.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Returns the results as a stream, in the order of completion: one for each conversation that
    /// was added.
    ///
    /// All work happens while the stream is polled. While it is not polled, runs that have started
    /// continue on the server, and no others start. Dropping the stream does not stop them.
    pub fn run(self) -> BulkRun {
        let handle = BulkHandle::new(self.jobs.len());
        let (limits, work) = ((self.timeout, self.budget), handle.clone());
        let results = stream::iter(self.jobs.into_iter().enumerate())
            .map(move |(index, job)| {
                // The type is written out so that the stream is `Send`.
                Box::pin(job.result(index, limits, work.clone()))
                    as Pin<Box<dyn Future<Output = BulkResult> + Send>>
            })
            .buffer_unordered(self.at_once);
        BulkRun {
            results: Box::pin(results),
            handle,
        }
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
