//! Running a command line: validates it, starts it, follows it to its end, and stops it when its
//! future is dropped.

use std::{fmt, future::IntoFuture, sync::Arc, time::Duration};

use oh_transport::WorkspaceHandle;
use secrecy::{ExposeSecret, SecretString};

use super::{
    end::{CommandBytes, CommandOutput},
    guard::{Failed, StopOnDrop},
    live::{LiveOutput, STDERR, STDOUT},
    order::{Order, marked},
    running::{Command, Output},
};
use crate::{Error, Request, Result, Workspace, place::Place, shell};

/// A command that has not started. Await it for its [`CommandOutput`], or [`start`](Self::start)
/// it.
///
/// Output is pushed over the server's bash socket, so the result arrives as soon as the command
/// ends. When there is no socket, the server is polled. A connection failure is an error with the
/// command's id, never an exit code: the command continues, and [`Workspace::command`] finds it
/// again.
///
/// Output is text: see [`CommandOutput::stdout`]. For exact bytes use [`bytes`](Self::bytes).
///
/// Dropping the future stops the command, unless it is [`detached`](Self::detached). Stopping needs
/// the runtime that the future ran on. If that runtime ends too, the command continues until its
/// timeout.
///
/// ```no_run
/// # async fn test(workspace: &oh_workspace::Workspace) -> Result<(), oh_workspace::Error> {
/// use std::time::Duration;
///
/// let tests = workspace.execute("cargo test").env("CI", "1").timeout(Duration::from_secs(600));
/// let output = tests.await?;
/// if !output.success() {
///     println!("{:?}\n{}", output.exit_code(), output.stderr());
/// }
/// # Ok(()) }
/// ```
#[must_use = "a command does nothing until it is awaited or started"]
pub struct Execute {
    workspace: Workspace,
    line: String,
    cwd: Option<String>,
    limit: Duration,
    env: Vec<(String, String)>,
    secrets: Vec<(String, SecretString)>,
    detached: bool,
    output: Option<Arc<Place>>,
}

impl Workspace {
    /// Runs a command line with `/bin/sh -c` in the directory and waits until it ends.
    ///
    /// Dropping the future before then stops the command.
    pub fn execute(&self, line: impl Into<String>) -> Execute {
        Execute {
            workspace: self.clone(),
            line: line.into(),
            cwd: None,
            limit: Duration::from_secs(300),
            env: Vec::new(),
            secrets: Vec::new(),
            detached: false,
            output: None,
        }
    }
}

impl Execute {
    /// Sets the working directory on the server. A relative path is relative to the workspace's
    /// directory.
    pub fn cwd(mut self, directory: impl Into<String>) -> Self {
        self.cwd = Some(directory.into());
        self
    }

    /// Sets the timeout. Default 300 s, at most 136 years. Zero is rejected.
    ///
    /// The server supports whole seconds only, so the client sends the next whole second, and
    /// enforces a sub-second timeout itself while it waits for the command. A negative timeout does
    /// not compile:
    ///
    /// ```compile_fail
    /// # fn run(workspace: &oh_workspace::Workspace) {
    /// let _ = workspace.execute("pwd").timeout(-0.5);
    /// # }
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets an environment variable. The variable becomes part of the command line, which the
    /// server stores in its history. For secrets use [`secret_env`](Self::secret_env), which also
    /// documents the size limits.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets an environment variable that appears in no command line, history or log. Name and value
    /// together must be shorter than 128 KiB, and all variables of a command together shorter than
    /// 1 MiB. Otherwise the command is rejected before anything is sent.
    ///
    /// The value reaches the command through a file that only the server's user can read, which
    /// takes two more requests. The command's shell removes the file before it exports the first
    /// value; if that fails, the command does not run. If anything fails earlier, this client
    /// removes the file, and reports a failure to do so as an error. If the client is gone, the
    /// server removes the file within five minutes; the file remains only if the server's machine
    /// goes down in that time. Requires a POSIX shell on the server.
    ///
    /// While the command runs, other processes of the server's user can read its variables, as with
    /// any process.
    pub fn secret_env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.secrets.push((name.into(), value.into()));
        self
    }

    /// Lets the command continue when the future is dropped.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Starts the command and returns a handle to it. After this, only its timeout or
    /// [`Command::stop`] ends the command. Dropping this future before it completes stops the
    /// command.
    ///
    /// Sub-second timeouts are enforced by the client while it reads the command's output;
    /// otherwise the server ends the command at the next whole second.
    ///
    /// # Errors
    ///
    /// Returns an error if a value is invalid, or the request fails.
    pub async fn start(self) -> Result<Command> {
        let (command, guard) = self.begin().await?;
        guard.keep();
        Ok(command)
    }

    /// Starts the command and returns its output as a stream. Dropping the stream before its end
    /// stops the command, unless it is [`detached`](Self::detached).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`start`](Self::start). The stream yields the errors of
    /// [`Command::wait`].
    pub async fn stream(self) -> Result<Output> {
        let (command, guard) = self.begin().await?;
        Ok(Output::of(command, Some(guard)))
    }

    /// Runs the command and returns the exact bytes of its output.
    /// [`CommandOutput`](CommandOutput::stdout) cannot provide them, because the server decodes
    /// output in pieces as UTF-8.
    ///
    /// The output goes through two files in a private directory on the server, which takes four
    /// more requests. The directory is removed before this method returns. The whole output is kept
    /// in memory; for large output let the command write a file, and
    /// [download](Workspace::download) that file. The files are written by the command's shell, so
    /// a background process does not keep the command running, and the later output of that process
    /// is lost. Requires a POSIX shell on the server.
    ///
    /// ```no_run
    /// # async fn run(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
    /// let picture = workspace.execute("git show HEAD:logo.png").bytes().await?;
    /// std::fs::write("logo.png", picture.stdout()).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of awaiting the command and of
    /// [`Download::bytes`](crate::Download::bytes);
    /// [`ErrorKind::NotRemoved`](crate::ErrorKind::NotRemoved) if the directory cannot be removed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the command, unless it is [`detached`](Self::detached), and
    /// removes the directory.
    pub async fn bytes(mut self) -> Result<CommandBytes> {
        // Validates before anything is sent.
        self.order()?;
        let place = Arc::new(Place::for_output(&self.workspace).await?);
        let workspace = place.workspace().clone();
        self.output = Some(Arc::clone(&place));
        let read = async {
            let output = self.run().await?;
            let read = async |file| {
                let download = workspace.download(place.file(file)).growing();
                let bytes = download.bytes().await;
                bytes.map_err(|error| error.of_command(output.id()))
            };
            let (stdout, stderr) = (read(STDOUT).await?, read(STDERR).await?);
            Ok(CommandBytes::new(output, stdout, stderr))
        };
        match read.await {
            Ok(output) => place.remove().await.map(|()| output),
            Err(error) => Err(place.removed_after(error).await),
        }
    }

    /// Starts the command and returns the exact bytes of its output while they are written.
    /// [`stream`](Self::stream) yields a piece only after a MiB of output, or at the end.
    ///
    /// Output is read every 50 ms to 500 ms, from two files in a private directory on the server.
    /// The directory is removed at the end, and when the stream is dropped. As with
    /// [`bytes`](Self::bytes), the later output of a background process is lost. The order between
    /// stdout and stderr is approximate. Memory is limited to a few pieces, however slowly the
    /// stream is read. Requires a POSIX shell on the server.
    ///
    /// ```no_run
    /// # async fn build(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
    /// use oh_workspace::LiveChunk;
    ///
    /// let mut output = workspace.execute("make").live().await?;
    /// while let Some(chunk) = output.next().await {
    ///     match chunk? {
    ///         LiveChunk::Stdout(bytes) | LiveChunk::Stderr(bytes) => println!("{bytes:?}"),
    ///         LiveChunk::Ended(end) => println!("exit code {:?}", end.exit_code()),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`start`](Self::start). The stream yields the errors of
    /// [`bytes`](Self::bytes).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future or the stream stops the command, unless it is
    /// [`detached`](Self::detached), and removes the directory.
    pub async fn live(mut self) -> Result<LiveOutput> {
        // Validates before anything is sent.
        self.order()?;
        let place = Arc::new(Place::for_output(&self.workspace).await?);
        self.output = Some(Arc::clone(&place));
        match self.begin().await {
            Ok((command, guard)) => Ok(LiveOutput::new(command, guard, place)),
            Err(error) => Err(place.removed_after(error).await),
        }
    }

    async fn run(self) -> Result<CommandOutput> {
        let (command, guard) = self.begin().await?;
        let output = command.wait().await;
        // After an error too: the error contains the command's id.
        guard.keep();
        output
    }

    /// Starts the command. Dropping the guard stops it.
    async fn begin(self) -> Result<(Command, StopOnDrop)> {
        let mut order = self.order()?;
        let (client, scope) = (self.workspace.client(), self.workspace.scope());
        if let Some(place) = &self.output {
            let redirect = place.redirect(STDOUT, STDERR);
            order.line.insert_str(0, &redirect);
        }
        let secrets = match self.secrets.is_empty() {
            true => None,
            false => {
                const FILE: &str = "env";
                let exports = shell::exports(&self.secrets);
                let place = Place::with_secret(&self.workspace, FILE, exports).await?;
                order.line.insert_str(0, &place.take(FILE));
                Some(Arc::new(place))
            }
        };
        // Listens before the start, so that no event is missed.
        let listening = match self.workspace.hub() {
            Some(hub) => Some(hub.begin().await),
            None => None,
        };
        let mut guard = StopOnDrop::starting(client, scope, order, listening, !self.detached);
        guard.secrets = secrets.clone();
        match guard.started().await {
            Ok((command, feed)) => {
                if let Some(secrets) = &secrets {
                    secrets.leave();
                }
                let (line, limit) = (self.line, self.limit);
                let command =
                    Command::started(&self.workspace, command, line, limit, feed, secrets);
                Ok((command, guard))
            }
            Err(Failed { error, id }) => {
                // The caller can find the command by the id in the error, if there is one.
                guard.keep();
                let mut error = Error::transport("cannot start the command", error);
                if let Some(id) = id {
                    error = error.of_command(&id);
                }
                // If the command runs nevertheless, it has read its secrets by now, or it ends.
                match secrets {
                    Some(secrets) => Err(secrets.removed_after(error).await),
                    None => Err(error),
                }
            }
        }
    }

    fn order(&self) -> Result<Order> {
        if self.line.trim().is_empty() {
            return Err(Error::invalid("the command line must not be empty"));
        }
        if self.limit.is_zero() {
            return Err(Error::invalid("the timeout must not be zero"));
        }
        let plain = self.env.iter().map(|(name, value)| (&**name, &**value));
        let secret = self.secrets.iter();
        let secret = secret.map(|(name, value)| (&**name, value.expose_secret()));
        for (name, value) in secret.clone() {
            if !value.is_empty() && value.chars().all(|c| c == '*') {
                let context = format!("the secret for `{name}` is masked (`****`)");
                return Err(Error::invalid(context));
            }
        }
        shell::check_variables(plain.clone().chain(secret))?;
        let mut line = String::new();
        for (name, value) in plain {
            line.push_str(&format!("{}; ", shell::export(name, value)));
        }
        line.push_str(&self.line);
        if line.contains('\0') {
            let context = "the command line must not contain a NUL character";
            return Err(Error::invalid(context));
        }
        let seconds = self.limit.as_secs();
        let seconds = seconds.saturating_add(u64::from(self.limit.subsec_nanos() > 0));
        let cwd = self.workspace.path(self.cwd.as_deref().unwrap_or("."))?;
        Ok(Order {
            line,
            cwd: match self.workspace.hub() {
                Some(_) => marked(&cwd),
                None => cwd,
            },
            seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        })
    }
}

impl IntoFuture for Execute {
    type Output = Result<CommandOutput>;
    type IntoFuture = Request<CommandOutput>;

    fn into_future(self) -> Self::IntoFuture {
        Request::new(self.run())
    }
}

// The line and the variables may contain secrets.
impl fmt::Debug for Execute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("cwd", &self.cwd)
            .field("limit", &self.limit)
            .field("detached", &self.detached)
            .finish_non_exhaustive()
    }
}
