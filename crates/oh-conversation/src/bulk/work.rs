//! One conversation of a batch, from its start to its result.

use std::{convert::Infallible, time::Duration};

use futures_util::future::{Either, select};
use oh_protocol::{ConversationId, calls::events::UserContent};
use oh_transport::Backoff;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::progress::{BulkCancel, BulkHandle, BulkStage, InProgress};
use crate::{Conversation, ConversationBuilder, Error, ErrorKind, Result, RunOutcome};

/// How soon a refused request is repeated where none of our own runs has ended meanwhile, and a
/// run that goes on after an interrupt is interrupted again.
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
    /// Id of the conversation. The server may have it even where it could not be started.
    pub id: ConversationId,
    /// The conversation, still connected, unless it could not be created or connected to. It is
    /// here also where its first message or its run failed.
    pub conversation: Option<Conversation>,
    /// How the run ended, or what kept the conversation from running.
    pub outcome: Result<RunOutcome>,
}

impl Job {
    pub(super) async fn result(
        self,
        index: usize,
        limit: Option<Duration>,
        handle: BulkHandle,
    ) -> BulkResult {
        let (id, mut conversation) = match &self {
            Self::Run(conversation) => (conversation.id(), Some(conversation.clone())),
            Self::Start(builder, _) => (builder.plan().id(), None),
        };
        let progress = handle.begin(index, id);
        let work = Work {
            id,
            limit,
            progress,
        };
        let outcome = match work.handle().cancelled() {
            Some(_) => Err(work.cancelled("it was not started")),
            None => work.carry_out(self, &mut conversation).await,
        };
        work.progress.done();
        BulkResult {
            index,
            id,
            conversation,
            outcome,
        }
    }
}

struct Work {
    id: ConversationId,
    limit: Option<Duration>,
    progress: InProgress,
}

impl Work {
    fn handle(&self) -> &BulkHandle {
        &self.progress.handle
    }

    fn cancelled(&self, what: &str) -> Error {
        let what = format!("the batch was cancelled: {what}");
        Error::new(ErrorKind::Cancelled, self.id, what)
    }

    /// An error once what has not begun to run is not to be run.
    fn proceed(&self, what: &str) -> Result<()> {
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
        let conversation = match job {
            Job::Run(conversation) => conversation,
            Job::Start(builder, message) => {
                let mut queue = Queue::new(self);
                // A create is refused, too, while the server is full; nothing is made then.
                let created = loop {
                    self.proceed("it was not created")?;
                    match builder.plan().create().await {
                        Err(error) if is_full(&error) => queue.wait().await,
                        created => break created?,
                    }
                };
                let conversation = builder.connect(created).await?;
                *connected = Some(conversation.clone());
                self.progress.connected(&conversation);
                self.proceed("its first message was not sent")?;
                conversation.send_parts(message).await?;
                conversation
            }
        };
        self.progress.connected(&conversation);
        let mut queue = Queue::new(self);
        loop {
            self.proceed("it was not run")?;
            self.progress.stage(BulkStage::Running);
            match self.run(&conversation).await {
                Err(error) if is_full(&error) => queue.wait().await,
                outcome => return outcome,
            }
        }
    }

    async fn run(&self, conversation: &Conversation) -> Result<RunOutcome> {
        let mut run = conversation.run();
        if let Some(limit) = self.limit {
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
                Err(self.cancelled("its run was left at work on the server"))
            }
            outcome = &mut running => outcome,
            never = self.interrupt(conversation) => match never {},
        }
    }

    /// Interrupts, and again as long as the run goes on: the first may come before the run has
    /// begun, or be lost.
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

/// The wait of a refused request for room on the server.
struct Queue<'a> {
    work: &'a Work,
    backoff: Backoff,
    freed: watch::Receiver<usize>,
}

impl<'a> Queue<'a> {
    fn new(work: &'a Work) -> Self {
        Self {
            work,
            backoff: Backoff::new(FIRST, LONGEST),
            freed: work.handle().freed(),
        }
    }

    /// Waits until a run of our own has ended since the last wait, for a while, or until nothing
    /// is to be begun.
    async fn wait(&mut self) {
        self.work.progress.stage(BulkStage::WaitingForServer);
        // Others may use the server, too: it may have room although none of ours has ended.
        let room = timeout(self.backoff.next_delay(), self.freed.changed());
        let cancels = self.work.handle().cancels(BulkCancel::Interrupt);
        tokio::select! {
            _ = room => {}
            () = cancels => {}
        }
    }
}

fn is_full(error: &Error) -> bool {
    error.kind() == ErrorKind::RateLimited
}
