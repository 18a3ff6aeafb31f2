//! Running a command line: checked, started, followed to its end, and stopped when nobody waits.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use oh_protocol::calls::Scope;
use oh_transport::WorkspaceHandle;
use secrecy::{ExposeSecret, SecretString};

use super::{
    end::{CommandBytes, CommandOutput},
    guard::{Failed, StopOnDrop},
    order::{Order, marked},
    running::{Command, Output},
};
use crate::{Error, Result, Workspace, place::Place, shell};

/// The files that exact output goes to.
const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";

/// A command about to run. Await it for the [`CommandOutput`], or [`start`](Self::start) it.
///
/// Output is pushed over the server's bash socket, so the result is there as soon as the command
/// ends; where there is no socket, the server is polled. A failure of the connection is an error
/// with the command's id, never an exit code: the command goes on, and [`Workspace::command`] finds
/// it again.
///
/// Output is text: see [`CommandOutput::stdout`]. For exact bytes use [`bytes`](Self::bytes).
///
/// Dropping the future stops the command, unless it is [`detached`](Self::detached). That needs
/// the runtime it ran on; where that ends too, the command goes on until its time is over.
#[must_use = "a command does nothing until it is awaited or started"]
pub struct Execute<'a> {
    workspace: &'a Workspace,
    line: String,
    cwd: Option<String>,
    limit: Duration,
    env: Vec<(String, String)>,
    secrets: Vec<(String, SecretString)>,
    detached: bool,
    output: Option<Arc<Place>>,
}

impl<'a> Execute<'a> {
    pub(crate) fn new(workspace: &'a Workspace, line: String) -> Self {
        Self {
            workspace,
            line,
            cwd: None,
            limit: Duration::from_secs(300),
            env: Vec::new(),
            secrets: Vec::new(),
            detached: false,
            output: None,
        }
    }

    /// Runs it in this directory of the server; a relative one is below the workspace's.
    pub fn cwd(mut self, directory: impl Into<String>) -> Self {
        self.cwd = Some(directory.into());
        self
    }

    /// How long it may take. Default 300 s, at most 136 years. The server counts whole seconds,
    /// so it is told the next one up; a fraction is kept by whoever awaits, who stops the command
    /// in time. Zero is refused, and less than that has no words:
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

    /// Sets an environment variable. It becomes part of the command line, which the server keeps in
    /// its history. For secrets use [`secret_env`](Self::secret_env), which also tells the limits.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets an environment variable that appears in no command line, history or log. Name and
    /// value must be shorter than 128 KiB, and all variables of a command shorter than 1 MiB, or
    /// the command is refused before anything is sent.
    ///
    /// The value reaches the command through a file that only the server's user can read, which
    /// takes two more requests. The command's shell removes the file before it exports the first
    /// value; where that fails, the command does not run. Whatever fails before that, this client
    /// removes the file, and a failure to do so is an error. Where no client is left to remove it,
    /// the file is removed on the server within five minutes; only a server machine that goes down
    /// in that time keeps it. Only on servers with a POSIX shell.
    ///
    /// While the command runs, its variables can be read by other processes of the server's user,
    /// as those of any process.
    pub fn secret_env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.secrets.push((name.into(), value.into()));
        self
    }

    /// Lets the command go on when the future is dropped.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Starts it, and gives the handle. Nobody stops it then but its time limit and
    /// [`Command::stop`]. A future dropped before it is done stops the command.
    ///
    /// A fraction of a second of the limit is kept by whoever reads the command; where nobody
    /// does, the server ends it at the next whole second.
    ///
    /// # Errors
    ///
    /// When a value cannot be used, or the server cannot be asked.
    pub async fn start(self) -> Result<Command> {
        let (command, guard) = self.begin().await?;
        guard.keep();
        Ok(command)
    }

    /// Starts it, and gives what it writes. Dropping the stream before its end stops the command,
    /// unless it is [`detached`](Self::detached).
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); the stream's are those of [`Command::wait`].
    pub async fn stream(self) -> Result<Output> {
        let (command, guard) = self.begin().await?;
        Ok(Output::of(command, Some(guard)))
    }

    /// Runs the command and returns the exact bytes it wrote, which
    /// [`CommandOutput`](CommandOutput::stdout) cannot: the server decodes output piecewise as
    /// UTF-8.
    ///
    /// The output goes through two files in a private directory on the server, which takes four
    /// more requests; the directory is removed before this returns. All output is then in memory;
    /// for a lot of it let the command write a file, and [download](Workspace::download) that.
    /// The command's own shell writes into the files, so a process that it leaves in the background
    /// does not keep it running, and what that process writes later is lost. Only on servers with a
    /// POSIX shell.
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
    /// As awaiting the command, and the errors of [`Download::bytes`](crate::Download::bytes);
    /// [`ErrorKind::NotRemoved`](crate::ErrorKind::NotRemoved) when the directory cannot be removed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the command, unless it is [`detached`](Self::detached), and removes
    /// the directory.
    pub async fn bytes(mut self) -> Result<CommandBytes> {
        // Checked before anything is sent.
        self.order()?;
        let workspace = self.workspace.in_scope(Scope::Server);
        let place = Arc::new(Place::for_output(workspace.client()).await?);
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

    async fn run(self) -> Result<CommandOutput> {
        let (command, guard) = self.begin().await?;
        let output = command.wait().await;
        // Also after an error: the command is found again by the id it carries.
        guard.keep();
        output
    }

    /// Starts the command. The guard stops it, if it is dropped.
    async fn begin(self) -> Result<(Command, StopOnDrop)> {
        let mut order = self.order()?;
        let (client, scope) = (self.workspace.client(), self.workspace.scope());
        if let Some(place) = &self.output {
            let redirect = shell::redirect(place, STDOUT, STDERR);
            order.line.insert_str(0, &redirect);
        }
        let secrets = match self.secrets.is_empty() {
            true => None,
            false => {
                const FILE: &str = "env";
                let exports = shell::exports(&self.secrets);
                let place = Place::with_secret(client, FILE, exports).await?;
                order.line.insert_str(0, &shell::take(&place, FILE));
                Some(Arc::new(place))
            }
        };
        // Listening before the start, so that nothing of it can be missed.
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
                let command = Command::started(self.workspace, command, line, limit, feed, secrets);
                Ok((command, guard))
            }
            Err(Failed { error, id }) => {
                // Found again by its id, where there is one.
                guard.keep();
                let mut error = Error::transport("the command could not be started", error);
                if let Some(id) = id {
                    error = error.of_command(&id);
                }
                // If the command runs all the same, it has its secrets by now, or ends.
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

impl<'a> IntoFuture for Execute<'a> {
    type Output = Result<CommandOutput>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

// The line and the variables may hold what nobody should read.
impl fmt::Debug for Execute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("cwd", &self.cwd)
            .field("limit", &self.limit)
            .field("detached", &self.detached)
            .finish_non_exhaustive()
    }
}
