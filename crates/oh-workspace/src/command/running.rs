//! A command that has been started: follow it, wait for it, stop it.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use oh_protocol::calls::bash::{self, BashCommand, BashOutput};
use oh_transport::WorkspaceHandle;
use tokio::time::Instant;

use super::{
    end::{CommandEnd, CommandOutput},
    hub::Feed,
    pieces::Pieces,
};
use crate::{Error, Result, Workspace};

/// What the server may be late with the end of a command that is out of time: it gives the
/// command a second to leave, then a second to die.
const GRACE: Duration = Duration::from_secs(15);

/// A command on the server. Cheap to clone; dropping it changes nothing there.
///
/// From [`Execute::start`](crate::Execute::start), or found again by its id with
/// [`Workspace::command`].
#[derive(Clone)]
pub struct Command(Arc<Inner>);

struct Inner {
    workspace: Workspace,
    command: BashCommand,
    /// Listens since the start; the first who reads takes it.
    feed: Mutex<Option<Feed>>,
}

/// A piece of what a command wrote, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputChunk {
    /// Written to stdout.
    Stdout(String),
    /// Written to stderr.
    Stderr(String),
    /// It has ended; nothing follows.
    Ended(CommandEnd),
}

/// What a command writes, as the server hands it out: a [`Stream`] of [`OutputChunk`]s from the
/// command's start to its end.
///
/// The server hands out a piece per 1 048 576 characters of stdout or of stderr, and the rest at
/// the end: a command that writes little shows nothing before it ends. Within stdout, and within
/// stderr, nothing is lost, doubled or out of order; between them the order is the server's.
/// Memory is bounded by a few pieces, however slowly it is read.
#[must_use = "streams do nothing unless polled"]
pub struct Output(Pin<Box<dyn Stream<Item = Result<OutputChunk>> + Send>>);

impl Command {
    pub(super) fn new(workspace: &Workspace, command: BashCommand, feed: Option<Feed>) -> Self {
        Self(Arc::new(Inner {
            workspace: workspace.clone(),
            command,
            feed: Mutex::new(feed),
        }))
    }

    /// The server's id of it.
    pub fn id(&self) -> &str {
        &self.0.command.id
    }

    /// The command line.
    pub fn line(&self) -> &str {
        &self.0.command.command
    }

    /// All it writes, from its start to its end. May be called again: each stream is complete.
    pub fn output(&self) -> Output {
        // Begun when it is first polled: only then is there a runtime for sure.
        let begin = (Err(self.clone()), Vec::new());
        let chunks = futures_util::stream::try_unfold(begin, |(tail, mut chunks)| async move {
            let mut tail = match tail {
                Ok(tail) => tail,
                Err(command) => command.tail(),
            };
            loop {
                if let Some(chunk) = chunks.pop() {
                    return Ok(Some((chunk, (Ok(tail), chunks))));
                }
                let Some((piece, end)) = tail.next(tail.limit()).await? else {
                    return Ok(None);
                };
                // The last first: they are popped.
                let end = end.map(OutputChunk::Ended);
                let written = [
                    piece.stderr.map(OutputChunk::Stderr),
                    piece.stdout.map(OutputChunk::Stdout),
                ];
                chunks.extend(end.into_iter().chain(written.into_iter().flatten()));
            }
        });
        Output(Box::pin(chunks))
    }

    /// Waits for its end, and gives all it wrote. Dropping the future changes nothing on the
    /// server.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be reached for a while: the command may go on.
    pub async fn wait(&self) -> Result<CommandOutput> {
        self.collect(self.tail(), self.limit()).await
    }

    /// Ends it: SIGTERM to its processes, SIGKILL a second later. No harm when it has ended.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub async fn stop(&self) -> Result<()> {
        let workspace = &self.0.workspace;
        let stop = bash::Stop::new(self.id()).scope(workspace.scope());
        match workspace.client().call(&stop).await {
            // What the server does not know any more has ended.
            Err(error) if error.kind() != oh_transport::ErrorKind::NotFound => {
                let context = "the command could not be stopped";
                Err(Error::transport(context, error).of_command(self.id()))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn collect(&self, mut tail: Tail, limit: Duration) -> Result<CommandOutput> {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        while let Some((piece, end)) = tail.next(limit).await? {
            stdout.push_str(piece.stdout.as_deref().unwrap_or_default());
            stderr.push_str(piece.stderr.as_deref().unwrap_or_default());
            if let Some(end) = end {
                return Ok(CommandOutput::new(
                    self.0.command.clone(),
                    end,
                    stdout,
                    stderr,
                ));
            }
        }
        // `next` gives an end before it gives nothing.
        Err(tail.overdue())
    }

    pub(super) fn tail(&self) -> Tail {
        let Inner {
            workspace,
            command,
            feed,
        } = &*self.0;
        let first = feed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pieces = |feed| Pieces::new(workspace.client(), workspace.scope(), self.id(), feed);
        let pieces = match (first, workspace.hub()) {
            (Some(feed), _) => pieces(Some(feed)).fresh(),
            (None, Some(hub)) => pieces(Some(hub.listen(self.id()))),
            (None, None) => pieces(None),
        };
        Tail {
            pieces,
            command: command.clone(),
            begun: Instant::now(),
        }
    }

    /// The time it has on the server.
    pub(super) fn limit(&self) -> Duration {
        limit(&self.0.command)
    }
}

fn limit(command: &BashCommand) -> Duration {
    Duration::from_secs(u64::try_from(command.timeout).unwrap_or(0))
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("id", &self.0.command.id)
            .finish_non_exhaustive()
    }
}

/// The pieces of a command together with the meaning of the last.
#[derive(Debug)]
pub(super) struct Tail {
    pieces: Pieces,
    command: BashCommand,
    begun: Instant,
}

impl Tail {
    /// The next piece, and the end if it is the last. Cancel-safe.
    pub(super) async fn next(
        &mut self,
        limit: Duration,
    ) -> Result<Option<(BashOutput, Option<CommandEnd>)>> {
        let last_call = self.begun + self.limit() + GRACE;
        let next = tokio::time::timeout_at(last_call, self.pieces.next());
        let Some(piece) = next.await.map_err(|_| self.overdue())?? else {
            return Ok(None);
        };
        let end = match piece.exit_code {
            Some(_) => {
                let waited = self.begun.elapsed();
                Some(CommandEnd::read(&self.command, &piece, limit, waited)?)
            }
            None => None,
        };
        Ok(Some((piece, end)))
    }

    fn limit(&self) -> Duration {
        limit(&self.command)
    }

    fn overdue(&self) -> Error {
        let context = "the server has not told the end of a command that is long out of time";
        Error::new(crate::ErrorKind::Timeout, context).of_command(&self.command.id)
    }
}

impl Stream for Output {
    type Item = Result<OutputChunk>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}
