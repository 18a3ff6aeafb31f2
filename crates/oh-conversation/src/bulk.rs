//! Many conversations from one client: a limited number of runs at a time, what is in flight, and
//! how to cancel the rest. Knows no mirrors; each conversation is started and run as any other.

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
use crate::{Conversation, ConversationBuilder};

/// How many conversations run at once by default: as many as a server takes by default.
const AT_ONCE: usize = 10;

/// Conversations to run, a limited number at a time.
///
/// A server takes 10 runs at once by default (`max_concurrent_runs`) and answers 429 beyond
/// that. Such a refusal is not a failure here: the request is repeated when one of these runs
/// ends, or after a while. Any other failure is reported in the [`BulkResult`] of its
/// conversation and ends no other.
///
/// ```no_run
/// # async fn fix(workspace: &impl oh_transport::WorkspaceHandle, agent: oh_protocol::config::Agent) {
/// use oh_conversation::{Bulk, BulkCancel, Conversation};
///
/// let mut bulk = Bulk::new().at_once(4);
/// for issue in ["#12", "#15", "#16"] {
///     let conversation = Conversation::builder(workspace, agent.clone()).tag("issue", &issue[1..]);
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
        }
    }

    /// Sets how many conversations are in flight at once; 0 counts as 1. Default: 10. More than
    /// the server takes wait until it does.
    pub fn at_once(mut self, conversations: usize) -> Self {
        self.at_once = conversations.max(1);
        self
    }

    /// Ends the wait for each run after this time, as [`Run::timeout`](crate::Run::timeout) does.
    /// The time until the server takes the run does not count. Default: no limit.
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

    /// Adds a run of a conversation that exists.
    pub fn resume(mut self, conversation: Conversation) -> Self {
        self.jobs.push_back(Job::Run(conversation));
        self
    }

    /// The number of conversations added.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Returns the results as a stream, in the order in which they come. There is one for each
    /// conversation that was added.
    ///
    /// All work is done while the stream is polled. While it is not, runs that have begun go on
    /// at the server, and no other begins. Dropping the stream leaves them there.
    pub fn run(self) -> BulkRun {
        let handle = BulkHandle::new(self.jobs.len());
        let (timeout, work) = (self.timeout, handle.clone());
        let results = stream::iter(self.jobs.into_iter().enumerate())
            .map(move |(index, job)| {
                // Named as a whole, so that the stream can be sent to another thread.
                Box::pin(job.result(index, timeout, work.clone()))
                    as Pin<Box<dyn Future<Output = BulkResult> + Send>>
            })
            .buffer_unordered(self.at_once);
        BulkRun {
            results: Box::pin(results),
            handle,
        }
    }
}

/// The results of a [`Bulk`], as they come.
#[must_use = "a stream does nothing until it is polled"]
pub struct BulkRun {
    results: Pin<Box<dyn Stream<Item = BulkResult> + Send>>,
    handle: BulkHandle,
}

impl BulkRun {
    /// Returns the next result, or `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no result is lost; work goes on with the next call.
    pub async fn next(&mut self) -> Option<BulkResult> {
        self.results.next().await
    }

    /// Returns a handle that reports progress and cancels, also from another task.
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
