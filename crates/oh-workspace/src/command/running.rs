//! A command that has been started: follow it, wait for it, stop it.

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
use crate::{Error, ErrorKind, Result, Workspace, place::Place, shell};

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
    /// The line without what was put before it.
    line: String,
    /// The time it has. The server counts whole seconds, so it may grant more.
    limit: Duration,
    /// The server had it by then.
    begun: Instant,
    /// When it began by the server's clock, where this program did not start it.
    there: Option<Timestamp>,
    /// The secrets it takes when it begins, unless something prevents that.
    secrets: Option<Arc<Place>>,
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
    /// A command that this client has just started.
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

    /// A command that any program started at any time.
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

    /// The server's id of it.
    pub fn id(&self) -> &str {
        &self.0.command.id
    }

    /// The command line. Of a command [found again](Workspace::command) it begins with the
    /// variables it was given.
    pub fn line(&self) -> &str {
        &self.0.line
    }

    /// All it writes, from its start to its end. May be called again: each stream is complete.
    /// Dropping the stream changes nothing on the server.
    pub fn output(&self) -> Output {
        Output::of(self.clone(), None)
    }

    /// Waits for its end, and gives all it wrote. Dropping the future changes nothing on the
    /// server.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be reached for a while: the command may go on.
    pub async fn wait(&self) -> Result<CommandOutput> {
        let mut tail = self.tail();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        loop {
            let Some((piece, end)) = tail.next().await? else {
                let context = "nothing more was told of a command that has not ended";
                return Err(Error::new(ErrorKind::OutputLost, context).of_command(self.id()));
            };
            append(&mut stdout, piece.stdout);
            append(&mut stderr, piece.stderr);
            if let Some(end) = end {
                let (line, id) = (self.line().to_owned(), self.id().to_owned());
                return Ok(CommandOutput::new(line, id, end, stdout, stderr));
            }
        }
    }

    /// Ends the command: SIGTERM to its processes, SIGKILL a second later. No harm when it has
    /// ended.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked; [`ErrorKind::NotRemoved`] when the command may not have
    /// taken its secrets, and they cannot be removed.
    pub async fn stop(&self) -> Result<()> {
        let workspace = &self.0.workspace;
        let stop = bash::Stop::new(self.id()).scope(workspace.scope());
        let stopped = match workspace.client().call(&stop).await {
            // What the server does not know any more has ended.
            Err(error) if error.kind() != oh_transport::ErrorKind::NotFound => {
                let context = "the command could not be stopped";
                Err(Error::transport(context, error).of_command(self.id()))
            }
            _ => Ok(()),
        };
        match (&self.0.secrets, stopped) {
            (None, stopped) => stopped,
            (Some(secrets), Ok(())) => self.of_it(secrets.remove().await),
            (Some(secrets), Err(error)) => Err(secrets.removed_after(error).await),
        }
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

/// The time it has on the server.
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

/// The pieces of a command together with the meaning of the last. Keeps a limit that the server
/// cannot count.
#[derive(Debug)]
struct Tail {
    pieces: Pieces,
    command: Command,
    stop_at: Option<Instant>,
    /// It was stopped because its time was over.
    expired: bool,
    /// The last piece, while the rest of the end is awaited.
    last: Option<BashOutput>,
}

impl Tail {
    /// The next piece, and the end if it is the last. Cancel-safe.
    async fn next(&mut self) -> Result<Option<(BashOutput, Option<CommandEnd>)>> {
        if self.last.is_none() {
            match self.piece().await {
                Ok(Some(piece)) if piece.exit_code.is_some() => self.last = Some(piece),
                Ok(piece) => return Ok(piece.map(|piece| (piece, None))),
                Err(error) => return Err(self.without_secrets(error).await),
            }
        }
        // Stays here until it is settled, so that a reader that leaves meanwhile loses nothing.
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
                if shell::failed_to_take(secrets, end.exit_code(), stderr) {
                    let context = "the command could not take its secrets, so it did not run";
                    let error = Error::new(ErrorKind::NotStarted, context).at(secrets.path());
                    return Err(self
                        .without_secrets(error.of_command(self.command.id()))
                        .await);
                }
                // One that was killed may not have come so far.
                if end.exit_code().is_none_or(|code| code < 0) {
                    self.command.of_it(secrets.remove().await)?;
                }
                end
            }
            (Err(error), _) => return Err(self.without_secrets(error).await),
        };
        Ok(self.last.take().map(|last| (last, Some(end))))
    }

    /// The error, once the secrets of a command that may not have taken them are removed.
    async fn without_secrets(&self, error: Error) -> Error {
        match &self.command.0.secrets {
            Some(secrets) if error.kind() != ErrorKind::Interrupted => {
                secrets.removed_after(error).await
            }
            _ => error,
        }
    }

    /// The next piece. Stops the command when its time is over.
    async fn piece(&mut self) -> Result<Option<BashOutput>> {
        loop {
            match self.stop_at {
                Some(at) => match timeout_at(at, self.pieces.next()).await {
                    Ok(piece) => return piece,
                    Err(_) => {
                        (self.stop_at, self.expired) = (None, true);
                        // If that fails, the server ends it within the second.
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
    /// With a guard, the command is stopped when the stream is dropped before its end.
    pub(super) fn of(command: Command, guard: Option<StopOnDrop>) -> Self {
        // Begun when it is first polled: only then is there a runtime for sure.
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
                        // It has ended, or is found again by the id in the error.
                        guard.keep();
                    }
                    let Some((piece, end)) = next? else {
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
        Self(Box::pin(chunks))
    }
}

impl Output {
    /// Waits for the next piece; `None` once the command has ended and all that it wrote was given. Cancel-safe.
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
