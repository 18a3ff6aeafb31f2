//! A started command: follow it, wait for it, stop it.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use jiff::Timestamp;
use oh_protocol::calls::bash::{self, BashCommand, BashOutput};
use oh_transport::WorkspaceHandle;
use tokio::time::{Instant, timeout_at};

use super::{
    end::{CommandEnd, CommandOutput},
    guard::StopOnDrop,
    hub::Feed,
    pieces::{Pieces, Span},
    stop::stop_soon,
};
use crate::{Error, ErrorKind, Request, Result, Workspace, place::Place};

/// Maximum delay of the server's report of a command's end, after the command's timeout. The server
/// allows one second for SIGTERM, then one for SIGKILL.
const GRACE: Duration = Duration::from_secs(15);

/// A command on the server. Cheap to clone; dropping the handle does not affect the command.
///
/// Returned by [`Execute::start`](crate::Execute::start), or found by its id with
/// [`Workspace::command`].
///
/// ```no_run
/// # async fn build(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
/// let build = workspace.execute("cargo build").start().await?;
/// let id = build.id().to_owned();
///
/// // Later, or in another process:
/// let output = workspace.command(id).await?.wait().await?;
/// println!("exit code {:?}", output.exit_code());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Command(Arc<Inner>);

struct Inner {
    workspace: Workspace,
    command: BashCommand,
    /// The command line without the lines put in front of it.
    line: String,
    /// The requested timeout. The server rounds up to whole seconds.
    limit: Duration,
    /// A local time at which the server had the command.
    begun: Instant,
    /// The start by the server's clock, when this program did not start the command.
    there: Option<Timestamp>,
    /// The secrets, which the command reads and removes when it starts.
    secrets: Option<Arc<Place>>,
    /// The subscription that began before the start. The first reader takes it.
    feed: Mutex<Option<Feed>>,
}

/// A piece of a command's output, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputChunk {
    /// Output on stdout.
    Stdout(String),
    /// Output on stderr.
    Stderr(String),
    /// The command has ended; nothing follows.
    Ended(CommandEnd),
}

/// The output of a command: a [`Stream`] of [`OutputChunk`]s from the command's start to its end.
///
/// The server sends a piece for every 1 048 576 characters of stdout or of stderr, and the rest at
/// the end. A command with little output therefore yields nothing before it ends. Within stdout and
/// within stderr nothing is lost, duplicated or reordered; the order between the two is the
/// server's. Memory is limited to a few pieces, however slowly the stream is read.
///
/// ```no_run
/// # async fn follow(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
/// use oh_workspace::OutputChunk;
///
/// let mut output = workspace.execute("cargo build").stream().await?;
/// while let Some(chunk) = output.next().await {
///     match chunk? {
///         OutputChunk::Stdout(text) => print!("{text}"),
///         OutputChunk::Stderr(text) => eprint!("{text}"),
///         OutputChunk::Ended(end) => println!("exit code {:?}", end.exit_code()),
///         _ => {}
///     }
/// }
/// # Ok(()) }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Output(Pin<Box<dyn Stream<Item = Result<OutputChunk>> + Send>>);

impl Command {
    /// Creates the handle of a command that this client has just started.
    pub(super) fn started(
        workspace: &Workspace,
        command: BashCommand,
        line: String,
        limit: Duration,
        feed: Option<Feed>,
        secrets: Option<Arc<Place>>,
    ) -> Self {
        Self(Arc::new(Inner {
            workspace: workspace.clone(),
            command,
            line,
            limit,
            begun: Instant::now(),
            there: None,
            secrets,
            feed: Mutex::new(feed),
        }))
    }

    /// Creates the handle of a command that any program started at any time.
    pub(super) fn found(workspace: &Workspace, command: BashCommand) -> Self {
        Self(Arc::new(Inner {
            workspace: workspace.clone(),
            line: command.command.clone(),
            limit: granted(&command),
            begun: Instant::now(),
            there: command.timestamp.parse().ok(),
            command,
            secrets: None,
            feed: Mutex::default(),
        }))
    }

    /// Returns the command's id on the server.
    pub fn id(&self) -> &str {
        &self.0.command.id
    }

    /// Returns the command line. For a command [found again](Workspace::command), the line begins
    /// with its environment variables.
    pub fn line(&self) -> &str {
        &self.0.line
    }

    /// Returns the output from the command's start to its end. Every call returns a complete
    /// stream. Dropping the stream does not affect the command.
    pub fn output(&self) -> Output {
        Output::of(self.clone(), None)
    }

    /// Waits until the command ends, and returns its whole output. Dropping the future does not
    /// affect the command.
    ///
    /// # Errors
    ///
    /// Returns an error if the server rejects the request, or stays unreachable for a while. The
    /// command may still be running.
    pub fn wait(&self) -> Request<CommandOutput> {
        let this = self.clone();
        Request::new(async move {
            let mut tail = this.tail();
            let (mut stdout, mut stderr) = (String::new(), String::new());
            loop {
                let Some((piece, end)) = tail.next().await? else {
                    let context = "the output ended, but the end of the command was not reported";
                    return Err(Error::new(ErrorKind::OutputLost, context).of_command(this.id()));
                };
                append(&mut stdout, piece.stdout);
                append(&mut stderr, piece.stderr);
                if let Some(end) = end {
                    let (line, id) = (this.line().to_owned(), this.id().to_owned());
                    return Ok(CommandOutput::new(line, id, end, stdout, stderr));
                }
            }
        })
    }

    /// Stops the command: sends SIGTERM to its processes, and SIGKILL a second later. Does nothing
    /// if the command has ended.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails; [`ErrorKind::NotRemoved`] if the command may not have
    /// read its secrets, and they cannot be removed.
    pub fn stop(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            let workspace = &this.0.workspace;
            let stop = bash::StopCommand::new(this.id()).scope(workspace.scope());
            let stopped = match workspace.client().call(&stop).await {
                // A command that the server no longer has in its table has ended.
                Err(error) if error.kind() != oh_transport::ErrorKind::NotFound => {
                    let context = "cannot stop the command";
                    Err(Error::transport(context, error).of_command(this.id()))
                }
                _ => Ok(()),
            };
            match (&this.0.secrets, stopped) {
                (None, stopped) => stopped,
                (Some(secrets), Ok(())) => this.of_it(secrets.remove().await),
                (Some(secrets), Err(error)) => Err(secrets.removed_after(error).await),
            }
        })
    }

    fn of_it<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.of_command(self.id()))
    }

    fn tail(&self) -> Tail {
        let Inner {
            workspace,
            command,
            limit,
            begun,
            there,
            feed,
            ..
        } = &*self.0;
        let first = feed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let granted = granted(command);
        let span = Span {
            begun: *begun,
            there: *there,
            limit: granted.saturating_add(GRACE),
        };
        let (client, scope) = (workspace.client(), workspace.scope());
        let pieces = |feed| Pieces::new(client, scope, self.id(), feed, span);
        let pieces = match (first, workspace.hub()) {
            (Some(feed), _) => pieces(Some(feed)).fresh(),
            (None, Some(hub)) => pieces(Some(hub.listen(self.id()))),
            (None, None) => pieces(None),
        };
        Tail {
            pieces,
            command: self.clone(),
            stop_at: begun.checked_add(*limit).filter(|_| *limit < granted),
            expired: false,
            last: None,
        }
    }
}

fn append(text: &mut String, piece: Option<String>) {
    match piece {
        Some(piece) if text.is_empty() => *text = piece,
        Some(piece) => text.push_str(&piece),
        None => {}
    }
}

/// Returns the timeout on the server.
fn granted(command: &BashCommand) -> Duration {
    Duration::from_secs(u64::try_from(command.timeout).unwrap_or(0))
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("id", &self.0.command.id)
            .finish_non_exhaustive()
    }
}

/// The pieces of a command's output, with the end decoded from the last one. Enforces sub-second
/// timeouts, which the server does not support.
#[derive(Debug)]
struct Tail {
    pieces: Pieces,
    command: Command,
    stop_at: Option<Instant>,
    /// Whether the client stopped the command at its timeout.
    expired: bool,
    /// The last piece, until the end has been settled.
    last: Option<BashOutput>,
}

impl Tail {
    /// Returns the next piece, with the command's end if the piece is the last. Cancel-safe.
    async fn next(&mut self) -> Result<Option<(BashOutput, Option<CommandEnd>)>> {
        if self.last.is_none() {
            match self.piece().await {
                Ok(Some(piece)) if piece.exit_code.is_some() => self.last = Some(piece),
                Ok(piece) => return Ok(piece.map(|piece| (piece, None))),
                Err(error) => return Err(self.without_secrets(error).await),
            }
        }
        // The piece stays in `last` until the end is settled, so that a dropped future loses
        // nothing.
        let Some(last) = &self.last else {
            return Ok(None);
        };
        let Inner {
            command,
            limit,
            begun,
            secrets,
            ..
        } = &*self.command.0;
        let end = CommandEnd::read(command, last, *limit, begun.elapsed(), self.expired);
        let end = match (end, secrets) {
            (Ok(end), None) => end,
            (Ok(end), Some(secrets)) => {
                let stderr = last.stderr.as_deref().unwrap_or_default();
                if secrets.failed_to_take(end.exit_code(), stderr) {
                    let context = "the command did not run, because the shell could not read the \
                                   file with its secrets";
                    let error = Error::new(ErrorKind::NotStarted, context).at(secrets.path());
                    return Err(self
                        .without_secrets(error.of_command(self.command.id()))
                        .await);
                }
                // A killed command may have ended before it read its secrets.
                if end.exit_code().is_none_or(|code| code < 0) {
                    self.command.of_it(secrets.remove().await)?;
                }
                end
            }
            (Err(error), _) => return Err(self.without_secrets(error).await),
        };
        Ok(self.last.take().map(|last| (last, Some(end))))
    }

    /// Returns the error, after removing secrets that the command may not have read.
    async fn without_secrets(&self, error: Error) -> Error {
        match &self.command.0.secrets {
            Some(secrets) if error.kind() != ErrorKind::Interrupted => {
                secrets.removed_after(error).await
            }
            _ => error,
        }
    }

    /// Returns the next piece. Stops the command at its timeout.
    async fn piece(&mut self) -> Result<Option<BashOutput>> {
        loop {
            match self.stop_at {
                Some(at) => match timeout_at(at, self.pieces.next()).await {
                    Ok(piece) => return piece,
                    Err(_) => {
                        (self.stop_at, self.expired) = (None, true);
                        // If the stop fails, the server ends the command within a second.
                        let Inner { workspace, .. } = &*self.command.0;
                        let stop =
                            stop_soon(workspace.client(), workspace.scope(), self.command.id());
                        tokio::spawn(stop);
                    }
                },
                None => return self.pieces.next().await,
            }
        }
    }
}

impl Output {
    /// Creates the stream. With a guard, dropping the stream before its end stops the command.
    pub(super) fn of(command: Command, guard: Option<StopOnDrop>) -> Self {
        // The tail starts on the first poll, because a runtime is guaranteed only then.
        let begin = (Err(command), Vec::new(), guard);
        let chunks =
            futures_util::stream::try_unfold(begin, |(tail, mut chunks, mut guard)| async {
                let mut tail = match tail {
                    Ok(tail) => tail,
                    Err(command) => command.tail(),
                };
                loop {
                    if let Some(chunk) = chunks.pop() {
                        return Ok(Some((chunk, (Ok(tail), chunks, guard))));
                    }
                    let next = tail.next().await;
                    if !matches!(next, Ok(Some((_, None))))
                        && let Some(guard) = guard.take()
                    {
                        // The command has ended, or can be found by the id in the error.
                        guard.keep();
                    }
                    let Some((piece, end)) = next? else {
                        return Ok(None);
                    };
                    // In reverse order, because chunks are popped from the end.
                    let end = end.map(OutputChunk::Ended);
                    let written = [
                        piece.stderr.map(OutputChunk::Stderr),
                        piece.stdout.map(OutputChunk::Stdout),
                    ];
                    chunks.extend(end.into_iter().chain(written.into_iter().flatten()));
                }
            });
        Self(Box::pin(chunks))
    }
}

impl Output {
    /// Waits for the next piece. Returns `None` after the command has ended and all its output was
    /// returned. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<OutputChunk>> {
        futures_util::StreamExt::next(self).await
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
