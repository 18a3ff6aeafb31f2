//! Carries out one conversation of a batch, from its start to its result.

use std::{convert::Infallible, time::Duration};

use futures_util::future::{Either, select};
use oh_protocol::{ConversationId, calls::events::UserContent};
use oh_transport::Backoff;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::progress::{BulkCancel, BulkHandle, BulkStage, InProgress};
use crate::{
    Conversation, ConversationBuilder, Error, ErrorKind, Result, Run, RunOutcome, run::Budget,
};

/// The first delay before a rejected request is repeated without a finished run of the batch, and
/// before a run that continues after an interrupt is interrupted again.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) enum Job {
    Start(Box<ConversationBuilder>, Vec<UserContent>),
    Run(Conversation),
}

/// The result of one conversation of a [`Bulk`](crate::Bulk).
#[derive(Debug)]
#[non_exhaustive]
pub struct BulkResult {
    /// Position among the conversations added, from 0.
    pub index: usize,
    /// Id of the conversation. The conversation may exist even if the start failed.
    pub id: ConversationId,
    /// The conversation, still connected, unless it could not be created or connected. Also set if
    /// its first message or its run failed. Not set for a task: its server may be in use by others,
    /// see [`Bulk::collect`](crate::Bulk::collect).
    pub conversation: Option<Conversation>,
    /// The outcome of the run, or the error that prevented it.
    pub outcome: Result<RunOutcome>,
    /// The key of the task, if this is one: see [`Bulk::task`](crate::Bulk::task).
    pub task: Option<String>,
    /// Name of the task's server, if it got one.
    pub server: Option<String>,
    /// The cost of the task's conversation in US dollars, if it is known.
    pub cost: Option<f64>,
}

impl Job {
    pub(super) async fn result(
        self,
        index: usize,
        (timeout, budget): (Option<Duration>, Budget),
        handle: BulkHandle,
    ) -> BulkResult {
        let (id, mut conversation) = match &self {
            Self::Run(conversation) => (conversation.id(), Some(conversation.clone())),
            Self::Start(builder, _) => (builder.plan().id(), None),
        };
        let progress = handle.begin(index, id);
        let work = Work {
            id,
            timeout,
            budget,
            progress,
        };
        let outcome = match work.handle().cancelled() {
            Some(_) => Err(work.cancelled("the conversation was not started")),
            None => work.carry_out(self, &mut conversation).await,
        };
        work.progress.done();
        BulkResult {
            index,
            id,
            conversation,
            outcome,
            task: None,
            server: None,
            cost: None,
        }
    }
}

pub(super) struct Work {
    pub(super) id: ConversationId,
    pub(super) timeout: Option<Duration>,
    pub(super) budget: Budget,
    pub(super) progress: InProgress,
}

impl Work {
    pub(super) fn handle(&self) -> &BulkHandle {
        &self.progress.handle
    }

    pub(super) fn cancelled(&self, what: &str) -> Error {
        let what = format!("the batch was cancelled: {what}");
        Error::new(ErrorKind::Cancelled, self.id, what)
    }

    /// Returns an error if conversations that have not started to run must not run any more.
    pub(super) fn proceed(&self, what: &str) -> Result<()> {
        match self.handle().cancelled() {
            None | Some(BulkCancel::Finish) => Ok(()),
            Some(_) => Err(self.cancelled(what)),
        }
    }

    async fn carry_out(
        &self,
        job: Job,
        connected: &mut Option<Conversation>,
    ) -> Result<RunOutcome> {
        self.budget.check(self.id)?;
        let conversation = match job {
            Job::Run(conversation) => conversation,
            Job::Start(builder, message) => {
                let mut queue = Queue::new(self);
                // A full server rejects the creation too; nothing is created then.
                let created = loop {
                    self.proceed("the conversation was not created")?;
                    match builder.plan().create().await {
                        Err(error) if is_full(&error) => queue.wait().await,
                        created => break created?,
                    }
                };
                // A full server would reject the run of a first message here.
                let conversation = builder.connect(created, false).await?;
                *connected = Some(conversation.clone());
                self.progress.connected(&conversation);
                self.proceed("the first message was not sent")?;
                conversation.send_parts(message).await?;
                conversation
            }
        };
        self.progress.connected(&conversation);
        let mut queue = Queue::new(self);
        loop {
            self.proceed("the conversation was not run")?;
            self.progress.stage(BulkStage::Running);
            match self.run(&conversation).await {
                Err(error) if is_full(&error) => queue.wait().await,
                outcome => return outcome,
            }
        }
    }

    async fn run(&self, conversation: &Conversation) -> Result<RunOutcome> {
        let run = conversation.run().budgeted(self.budget);
        self.wait(conversation, run).await
    }

    /// Waits for the outcome of a run within the timeout, and interrupts it if the batch is
    /// cancelled.
    pub(super) async fn wait(
        &self,
        conversation: &Conversation,
        mut run: Run,
    ) -> Result<RunOutcome> {
        if let Some(limit) = self.timeout {
            run = run.timeout(limit);
        }
        let mut running = run.into_future();
        let cancels = Box::pin(self.handle().cancels(BulkCancel::Interrupt));
        if let Either::Left((outcome, _)) = select(&mut running, cancels).await {
            return outcome;
        }
        tokio::select! {
            biased;
            () = self.handle().cancels(BulkCancel::Leave) => {
                Err(self.cancelled("the run continues on the server"))
            }
            outcome = &mut running => outcome,
            never = self.interrupt(conversation) => match never {},
        }
    }

    /// Interrupts repeatedly while the run continues: the first interrupt may arrive before the run
    /// has started, or be lost.
    async fn interrupt(&self, conversation: &Conversation) -> Infallible {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        loop {
            if let Err(error) = conversation.interrupt().await {
                tracing::debug!(conversation = %self.id, %error, "cannot interrupt a run");
            }
            sleep(backoff.next_delay()).await;
            while !conversation.state().execution_status().is_running() {
                sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// Waits, with a rejected request, until the server has a free slot.
pub(super) struct Queue<'a> {
    work: &'a Work,
    backoff: Backoff,
    freed: watch::Receiver<usize>,
}

impl<'a> Queue<'a> {
    pub(super) fn new(work: &'a Work) -> Self {
        Self {
            work,
            backoff: Backoff::new(FIRST, LONGEST),
            freed: work.handle().freed(),
        }
    }

    /// Waits until a run of this batch has ended since the last wait, until a delay has passed, or
    /// until no more runs may start.
    pub(super) async fn wait(&mut self) {
        self.work.progress.stage(BulkStage::WaitingForServer);
        // Other programs may use the server too: it may have room although no run of this batch
        // ended.
        let room = timeout(self.backoff.next_delay(), self.freed.changed());
        let cancels = self.work.handle().cancels(BulkCancel::Interrupt);
        tokio::select! {
            _ = room => {}
            () = cancels => {}
        }
    }
}

pub(super) fn is_full(error: &Error) -> bool {
    error.kind() == ErrorKind::RateLimited
}
