//! Carries out one task of a batch on a server of a fleet.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use oh_protocol::{ConversationId, calls::conversations::Created, config::InitialMessage};
use oh_transport::{Client, ServerLease, ServerSource, WorkspaceHandle};
use tokio::task::spawn_blocking;

use super::{
    journal::{Journal, TaskRecord, TaskState},
    progress::{BulkCancel, BulkHandle, BulkStage},
    work::{BulkResult, Queue, Work, is_full},
};
use crate::{
    Conversation, ConversationBuilder, Error, ErrorKind, Result, RunOutcome, RunStatus,
    run::Budget, start::builder::Plan,
};

/// Number of servers to which a task is offered, while none of them has seen it.
const SERVERS_TRIED: u32 = 3;

/// How long a run that reached its timeout may take to be interrupted.
const INTERRUPT: Duration = Duration::from_secs(10);

/// The place of a task on a server: the workspace for its conversation.
#[derive(Debug, Clone)]
pub struct TaskWorkspace {
    client: Client,
    directory: String,
}

impl WorkspaceHandle for TaskWorkspace {
    fn client(&self) -> &Client {
        &self.client
    }

    fn working_dir(&self) -> &str {
        &self.directory
    }
}

impl AsRef<Client> for TaskWorkspace {
    fn as_ref(&self) -> &Client {
        &self.client
    }
}

/// A task whose run has ended, while its server is still reserved: see
/// [`Bulk::collect`](crate::Bulk::collect).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TaskEnd {
    /// The key of the task.
    pub task: String,
    /// The conversation, still connected.
    pub conversation: Conversation,
    /// The workspace of the conversation.
    pub workspace: TaskWorkspace,
    /// The outcome of the run.
    pub outcome: RunOutcome,
}

pub(super) type Make = Box<dyn Fn(&TaskWorkspace) -> ConversationBuilder + Send + Sync>;
pub(super) type Collect =
    Arc<dyn Fn(TaskEnd) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The part of a batch that all tasks on a fleet share.
pub(super) struct Shared {
    pub(super) source: Option<Arc<dyn ServerSource>>,
    pub(super) journal: Option<Arc<Journal>>,
    pub(super) collect: Option<Collect>,
    pub(super) repeats: u32,
    /// The limit for the costs of all tasks.
    pub(super) total: Option<f64>,
}

pub(super) struct Task {
    pub(super) key: String,
    pub(super) make: Make,
    pub(super) message: InitialMessage,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.key).finish()
    }
}

/// How an attempt ended.
enum End {
    /// Nothing is left to do.
    Over(Result<RunOutcome>),
    /// The server has not seen the conversation.
    Unseen(Error),
    /// The server has failed, perhaps after it created the conversation.
    Lost(Result<RunOutcome>),
}

/// An attempt: a conversation of a task.
struct Attempt {
    number: u32,
    /// Name of the server, if the conversation may exist there already.
    resumed: Option<String>,
    cost: Option<f64>,
}

impl Task {
    pub(super) async fn result(
        self,
        index: usize,
        (timeout, budget): (Option<Duration>, Budget),
        shared: Arc<Shared>,
        handle: BulkHandle,
    ) -> BulkResult {
        let earlier = shared.journal.as_ref().and_then(|it| it.last(&self.key));
        let open = earlier.filter(|record| record.state == TaskState::Started);
        let id = open.map_or_else(ConversationId::random, |record| record.conversation);
        let attempt = Attempt {
            number: match earlier {
                Some(record) if open.is_some() => record.attempt,
                Some(record) => record.attempt.saturating_add(1),
                None => 1,
            },
            resumed: open.map(|record| record.server.clone()),
            cost: None,
        };
        let work = Work {
            id,
            timeout,
            budget,
            progress: handle.begin(index, id),
        };
        let mut running = Running {
            task: self,
            shared,
            work,
            attempt,
            server: None,
        };
        let outcome = running.carry_out().await;
        let Running {
            task,
            work,
            attempt,
            server,
            ..
        } = running;
        if let Some(cost) = attempt.cost {
            work.handle().spend(cost);
        }
        work.progress.done();
        BulkResult {
            index,
            id: work.id,
            conversation: None,
            outcome,
            task: Some(task.key),
            server,
            cost: attempt.cost,
        }
    }
}

struct Running {
    task: Task,
    shared: Arc<Shared>,
    work: Work,
    attempt: Attempt,
    server: Option<String>,
}

impl Running {
    async fn carry_out(&mut self) -> Result<RunOutcome> {
        self.work.budget.check(self.work.id)?;
        let mut tried = 1;
        loop {
            self.check("the conversation was not started")?;
            let Some(lease) = self.lease().await? else {
                // The server of an earlier driver ended with it.
                self.record(TaskState::Lost, None).await?;
                if self.repeat() {
                    continue;
                }
                let server = self.server.as_deref().unwrap_or_default();
                let what = format!("the server {server} of the conversation is gone");
                return Err(Error::new(ErrorKind::ServerGone, self.work.id, what));
            };
            self.server = Some(lease.name().to_owned());
            // The wait for the lease may have been long.
            self.check("the conversation was not started")?;
            match self.on(&*lease).await {
                End::Over(outcome) => return outcome,
                End::Unseen(error) => {
                    lease.discard("the server cannot be reached");
                    if tried >= SERVERS_TRIED {
                        self.record(TaskState::Rejected, Some(&error)).await?;
                        return Err(error);
                    }
                    tried += 1;
                }
                End::Lost(outcome) => {
                    lease.discard("the server failed during a task");
                    self.record(TaskState::Lost, outcome.as_ref().err()).await?;
                    if !self.repeat() {
                        return outcome.map_err(|error| self.lost(error));
                    }
                }
            }
        }
    }

    fn lost(&self, error: Error) -> Error {
        let what = "the server failed during the task, which was not repeated";
        Error::new(ErrorKind::ServerGone, self.work.id, what).with_source(error)
    }

    /// Begins another attempt, with another conversation, if the program wants that.
    fn repeat(&mut self) -> bool {
        let again = self.attempt.number <= self.shared.repeats;
        if again {
            if let Some(cost) = self.attempt.cost.take() {
                self.work.handle().spend(cost);
            }
            self.attempt.number += 1;
            self.attempt.resumed = None;
            self.work.id = ConversationId::random();
            self.work.progress.renamed(self.work.id);
        }
        again
    }

    /// Returns an error if the batch was cancelled, or has used up its budget.
    fn check(&self, what: &str) -> Result<()> {
        if self.work.handle().cancelled().is_some() {
            return Err(self.work.cancelled(what));
        }
        match self.remaining() {
            Some(left) if left <= 0.0 => {
                let what = format!("the budget of the batch is used up: {what}");
                Err(Error::new(ErrorKind::Cancelled, self.work.id, what))
            }
            _ => Ok(()),
        }
    }

    fn remaining(&self) -> Option<f64> {
        let total = self.shared.total?;
        Some(total - self.work.handle().spent())
    }

    /// Waits for a place on a server. Returns `None` if the conversation may be on a server that is
    /// gone.
    async fn lease(&mut self) -> Result<Option<Box<dyn ServerLease>>> {
        let id = self.work.id;
        let Some(source) = &self.shared.source else {
            let what = "the batch has tasks, but no servers: call `Bulk::on`";
            return Err(Error::new(ErrorKind::InvalidInput, id, what));
        };
        self.work.progress.stage(BulkStage::WaitingForLease);
        let resumed = self.attempt.resumed.clone();
        self.server.clone_from(&resumed);
        let leasing = async {
            match &resumed {
                Some(name) => source.lease_of(name).await,
                None => source.lease().await.map(Some),
            }
        };
        let leased = tokio::select! {
            leased = leasing => leased,
            () = self.work.handle().cancels(BulkCancel::Finish) => {
                return Err(self.work.cancelled("the conversation was not started"));
            }
        };
        self.work.progress.stage(BulkStage::Starting);
        leased.map_err(|error| {
            Error::new(ErrorKind::NoServer, id, "no server for the conversation").with_source(error)
        })
    }

    /// Carries the attempt out on a server.
    async fn on(&mut self, lease: &dyn ServerLease) -> End {
        let workspace = TaskWorkspace {
            client: lease.client().clone(),
            directory: lease.working_dir().to_owned(),
        };
        let builder = (self.task.make)(&workspace)
            .id(self.work.id)
            .initial_message(self.task.message.clone())
            .whole();
        let resumed = self.attempt.resumed.is_some();
        if !resumed && let Err(error) = self.record(TaskState::Started, None).await {
            return End::Over(Err(error));
        }
        let created = match self.create(builder.plan()).await {
            Ok(created) => created,
            Err(error) if error.kind() == ErrorKind::Cancelled => return End::Over(Err(error)),
            Err(error) if error.kind() == ErrorKind::Connect && !resumed => {
                return End::Unseen(error);
            }
            // The server may be back when the batch is resumed again.
            Err(error) if resumed => return End::Over(Err(error)),
            Err(error) if is_of_the_server(&error) => return End::Lost(Err(error)),
            Err(error) => {
                let recorded = self.record(TaskState::Rejected, Some(&error)).await;
                return End::Over(recorded.and(Err(error)));
            }
        };
        // From now on, the conversation must be found again.
        self.attempt.resumed = Some(lease.name().to_owned());
        let is_new = created.is_new;
        let conversation = match builder.connect(created, false).await {
            Ok(conversation) => conversation,
            Err(error) if is_of_the_server(&error) => return End::Lost(Err(error)),
            Err(error) => return self.failed(error).await,
        };
        self.work.progress.connected(&conversation);
        let outcome = self.run(&conversation, is_new).await;
        self.attempt.cost = conversation.usage().current().cost();
        let end = self.ended(&conversation, workspace, outcome).await;
        if let Err(error) = conversation.close().await {
            let id = self.work.id;
            tracing::debug!(conversation = %id, %error, "cannot close a conversation of a batch");
        }
        end
    }

    /// Creates the conversation with its first message, or finds it. A full server creates nothing.
    async fn create(&self, plan: &Plan) -> Result<Created> {
        let mut queue = Queue::new(&self.work);
        loop {
            self.work.proceed("the conversation was not created")?;
            match plan.create().await {
                Err(error) if is_full(&error) => queue.wait().await,
                created => return created,
            }
        }
    }

    /// Waits for the end of the run. A conversation that was found may have none in progress.
    async fn run(&self, conversation: &Conversation, is_new: bool) -> Result<RunOutcome> {
        let mut budget = self.work.budget;
        if let Some(left) = self.remaining() {
            let limit = budget.max_total_cost.unwrap_or(f64::INFINITY);
            budget.max_total_cost = Some(limit.min(left.max(0.0)));
        }
        self.work.progress.stage(BulkStage::Running);
        let joined = conversation.join().budgeted(budget);
        let outcome = self.work.wait(conversation, joined).await?;
        let unfinished = matches!(outcome.status, RunStatus::Idle | RunStatus::Paused);
        if is_new || !unfinished || self.work.handle().cancelled().is_some() {
            return Ok(outcome);
        }
        let mut queue = Queue::new(&self.work);
        loop {
            self.work.proceed("the conversation was not run")?;
            self.work.progress.stage(BulkStage::Running);
            let run = conversation.run().budgeted(budget);
            match self.work.wait(conversation, run).await {
                Err(error) if is_full(&error) => queue.wait().await,
                outcome => return outcome,
            }
        }
    }

    async fn ended(
        &self,
        conversation: &Conversation,
        workspace: TaskWorkspace,
        outcome: Result<RunOutcome>,
    ) -> End {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) if error.kind() == ErrorKind::Cancelled => return End::Over(Err(error)),
            Err(error) if is_of_the_server(&error) => return End::Lost(Err(error)),
            Err(error) => return self.failed(error).await,
        };
        match outcome.status {
            RunStatus::ServerGone => return End::Lost(Ok(outcome)),
            // The place is needed for the next task.
            RunStatus::StillRunning => {
                let interrupted = tokio::time::timeout(INTERRUPT, conversation.interrupt()).await;
                if !matches!(interrupted, Ok(Ok(()))) {
                    return End::Lost(Ok(outcome));
                }
            }
            // A resumed batch continues the conversation.
            RunStatus::Paused if self.work.handle().cancelled().is_some() => {
                return End::Over(Ok(outcome));
            }
            _ => {}
        }
        if let Some(collect) = &self.shared.collect {
            let end = TaskEnd {
                task: self.task.key.clone(),
                conversation: conversation.clone(),
                workspace,
                outcome: outcome.clone(),
            };
            collect(end).await;
        }
        let reason = Some(format!("{:?}", outcome.status));
        let recorded = self.append(TaskState::Ended, reason).await;
        End::Over(recorded.map(|()| outcome))
    }

    async fn failed(&self, error: Error) -> End {
        let recorded = self.record(TaskState::Failed, Some(&error)).await;
        End::Over(recorded.and(Err(error)))
    }

    async fn record(&self, state: TaskState, error: Option<&Error>) -> Result<()> {
        let reason = error.map(|error| format!("{:?}", error.kind()));
        self.append(state, reason).await
    }

    async fn append(&self, state: TaskState, reason: Option<String>) -> Result<()> {
        let Some(journal) = self.shared.journal.clone() else {
            return Ok(());
        };
        let record = TaskRecord {
            task: self.task.key.clone(),
            attempt: self.attempt.number,
            conversation: self.work.id,
            server: self.server.clone().unwrap_or_default(),
            state,
            reason,
            cost: self.attempt.cost,
        };
        let appended = spawn_blocking(move || journal.append(&record)).await;
        appended.unwrap_or_else(|_| {
            let what = "the runtime ended before the journal was written";
            Err(Error::new(ErrorKind::Journal, self.work.id, what))
        })
    }
}

/// Returns whether a failure may mean that the server has ended, so that the conversation is lost.
fn is_of_the_server(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ServerGone
            | ErrorKind::Connect
            | ErrorKind::Interrupted
            | ErrorKind::Timeout
            | ErrorKind::Ambiguous
    )
}
