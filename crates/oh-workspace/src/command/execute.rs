//! Running a command line: checked, started, followed to its end, and stopped when nobody waits.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use oh_protocol::calls::{
    Scope,
    bash::{self, BashCommand, ExecuteRequest},
};
use oh_transport::{Client, WorkspaceHandle};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    end::{CommandOutput, excerpt},
    hub::Feed,
    running::Command,
};
use crate::{Error, ErrorKind, Result, Workspace};

/// How long the socket may take to tell of a command whose start got no answer.
const SIGHTING: Duration = Duration::from_millis(200);

/// A command about to run. Await it for the [`CommandOutput`], or [`start`](Self::start) it.
///
/// Output is pushed over the server's bash socket, so the result is there as soon as the command
/// ends; where there is no socket, it is asked for. A failure of the connection is an error with
/// the command's id, never an exit code: the command goes on, and
/// [`Workspace::command`] finds it again.
///
/// Dropping the future stops the command, unless it is [`detached`](Self::detached).
#[must_use = "a command does nothing until it is awaited or started"]
pub struct Execute<'a> {
    workspace: &'a Workspace,
    line: String,
    cwd: Option<String>,
    limit: Duration,
    env: Vec<(String, String)>,
    detached: bool,
}

impl<'a> Execute<'a> {
    pub(crate) fn new(workspace: &'a Workspace, line: String) -> Self {
        Self {
            workspace,
            line,
            cwd: None,
            limit: Duration::from_secs(300),
            env: Vec::new(),
            detached: false,
        }
    }

    /// Runs it in this directory of the server; a relative one is below the workspace's.
    pub fn cwd(mut self, directory: impl Into<String>) -> Self {
        self.cwd = Some(directory.into());
        self
    }

    /// How long it may take. Default 300 s. The server counts whole seconds, so it is told the
    /// next one up; a fraction is kept by whoever awaits, who stops the command in time.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// An environment variable. It becomes part of the command line, which the server keeps in
    /// its history: not a place for secrets.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Lets the command go on when the future is dropped.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Starts it, and gives the handle. Nobody stops it then but its time limit, in whole
    /// seconds, and [`Command::stop`]. A future dropped before it is done stops the command.
    ///
    /// # Errors
    ///
    /// When a value cannot be used, or the server cannot be asked.
    pub async fn start(self) -> Result<Command> {
        let (command, guard) = self.begin().await?;
        guard.keep();
        Ok(command)
    }

    async fn run(self) -> Result<CommandOutput> {
        let limit = self.limit;
        let (command, guard) = self.begin().await?;
        let begun = Instant::now();
        let mut ended = std::pin::pin!(command.collect(command.tail(), limit));
        let output = if limit < command.limit() {
            match timeout_at(begun + limit, &mut ended).await {
                Ok(output) => output,
                Err(_) => {
                    command.stop().await?;
                    ended.await
                }
            }
        } else {
            ended.await
        };
        // Also after an error: the command is found again by the id it carries.
        guard.keep();
        output
    }

    /// Starts the command. The guard stops it, if it is dropped.
    async fn begin(self) -> Result<(Command, StopOnDrop)> {
        let request = self.request()?;
        let (client, scope) = (self.workspace.client(), self.workspace.scope());
        // Listening before the start, so that nothing of it can be missed.
        let starting = match self.workspace.hub() {
            Some(hub) => Some(hub.begin().await),
            None => None,
        };
        let line = request.line.clone();
        let call = bash::Start::new(request.wire).scope(scope);
        let mut guard = StopOnDrop::starting(client, scope, call, self.detached);
        let command = match guard.started().await {
            Ok(command) => command,
            Err(error) => {
                let context = format!("command `{}` could not be started", excerpt(&self.line, 80));
                let error = Error::transport(context, error);
                // The answer was lost, but the socket tells what the request did.
                let lost = matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::Timeout);
                let id = match starting.filter(|_| lost) {
                    Some(starting) => {
                        tokio::time::sleep(SIGHTING).await;
                        starting.sighted(&line)
                    }
                    None => None,
                };
                return Err(match id {
                    Some(id) => error.of_command(&id),
                    None => error,
                });
            }
        };
        let feed: Option<Feed> = starting.map(|starting| starting.claim(&command.id));
        Ok((Command::new(self.workspace, command, feed), guard))
    }

    fn request(&self) -> Result<Prepared> {
        if self.line.trim().is_empty() {
            return Err(Error::invalid("an empty command line"));
        }
        if self.limit.is_zero() {
            return Err(Error::invalid("a timeout of zero ends the command at once"));
        }
        let mut line = String::new();
        for (name, value) in &self.env {
            let first = name
                .chars()
                .next()
                .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(Error::invalid(format!(
                    "`{name}` is no name for a variable"
                )));
            }
            line.push_str(&format!("export {name}={}; ", quoted(value)));
        }
        line.push_str(&self.line);
        if line.contains('\0') {
            return Err(Error::invalid("a command line cannot hold a NUL"));
        }
        let seconds = self.limit.as_secs() + u64::from(self.limit.subsec_nanos() > 0);
        let mut wire = ExecuteRequest::new(line.clone()).timeout(seconds);
        wire = wire.cwd(self.workspace.path(self.cwd.as_deref().unwrap_or("."))?);
        Ok(Prepared { wire, line })
    }
}

struct Prepared {
    wire: ExecuteRequest,
    line: String,
}

/// A word of a shell, whatever it holds.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl<'a> IntoFuture for Execute<'a> {
    type Output = Result<CommandOutput>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Execute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("line", &excerpt(&self.line, 80))
            .finish_non_exhaustive()
    }
}

/// Stops a command nobody waits for any more, also one whose start is still under way.
struct StopOnDrop {
    client: Client,
    scope: Scope,
    start: Option<JoinHandle<oh_transport::Result<BashCommand>>>,
    id: Option<String>,
    armed: bool,
}

impl StopOnDrop {
    /// Sends the start from a task of its own: a request that is dropped half-way may have
    /// started the command, and nobody would know its id.
    fn starting(client: &Client, scope: Scope, call: bash::Start, detached: bool) -> Self {
        let sender = client.clone();
        Self {
            client: client.clone(),
            scope,
            start: Some(tokio::spawn(async move { sender.call(&call).await })),
            id: None,
            armed: !detached,
        }
    }

    async fn started(&mut self) -> oh_transport::Result<BashCommand> {
        let Some(start) = &mut self.start else {
            unreachable!("a command is started once")
        };
        let started = start.await.unwrap_or_else(|error| {
            let context = "the runtime ended before the command was started";
            Err(
                oh_transport::Error::new(oh_transport::ErrorKind::Interrupted, context)
                    .with_source(error),
            )
        });
        self.start = None;
        let command = started?;
        self.id = Some(command.id.clone());
        Ok(command)
    }

    /// Lets the command go on.
    fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let (start, id) = (self.start.take(), self.id.take());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if !self.armed || (start.is_none() && id.is_none()) {
            return;
        }
        let (client, scope) = (self.client.clone(), self.scope);
        runtime.spawn(async move {
            let id = match (id, start) {
                (Some(id), _) => id,
                (None, Some(start)) => match start.await {
                    Ok(Ok(command)) => command.id,
                    _ => return,
                },
                (None, None) => return,
            };
            // Best effort: a command that ended meanwhile is fine.
            let stop = bash::Stop::new(id).scope(scope);
            let _ = client.call(&stop).timeout(Duration::from_secs(10)).await;
        });
    }
}
