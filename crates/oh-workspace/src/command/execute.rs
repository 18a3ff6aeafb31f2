//! Running a command line: checked, started, followed to its end, and stopped when nobody waits.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use oh_transport::WorkspaceHandle;
use secrecy::{ExposeSecret, SecretString};

use super::{
    end::CommandOutput,
    guard::{Failed, Order, StopOnDrop},
    running::{Command, Output},
};
use crate::{Error, Result, Workspace, hiding::Hiding};

/// A command about to run. Await it for the [`CommandOutput`], or [`start`](Self::start) it.
///
/// Output is pushed over the server's bash socket, so the result is there as soon as the command
/// ends; where there is no socket, it is asked for. A failure of the connection is an error with
/// the command's id, never an exit code: the command goes on, and
/// [`Workspace::command`] finds it again.
///
/// Dropping the future stops the command, unless it is [`detached`](Self::detached). That needs
/// the runtime it ran on; where that ends, too, the command goes on until its time is over.
#[must_use = "a command does nothing until it is awaited or started"]
pub struct Execute<'a> {
    workspace: &'a Workspace,
    line: String,
    cwd: Option<String>,
    limit: Duration,
    env: Vec<(String, String)>,
    secrets: Vec<(String, SecretString)>,
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
            secrets: Vec::new(),
            detached: false,
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

    /// An environment variable. It becomes part of the command line that the server keeps in its
    /// history: for secrets there is [`secret_env`](Self::secret_env).
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// An environment variable that is in no command line, history or log. It reaches the command
    /// through a file that only the server's user can read, and that is gone when the command
    /// begins; that takes two more requests. Only on servers with a POSIX shell.
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
        let secrets = self.secret_exports()?;
        let (client, scope) = (self.workspace.client(), self.workspace.scope());
        let hiding = match secrets {
            Some(exports) => {
                let hiding = Hiding::of(self.workspace, "env", exports).await?;
                order.line.insert_str(0, &unhide(hiding.path()));
                Some(Arc::new(hiding))
            }
            None => None,
        };
        // Listening before the start, so that nothing of it can be missed.
        let listening = match self.workspace.hub() {
            Some(hub) => Some(hub.begin().await),
            None => None,
        };
        let mut guard = StopOnDrop::starting(client, scope, order, listening, !self.detached);
        guard.hiding = hiding.clone();
        match guard.started().await {
            Ok((command, feed)) => {
                if let Some(hiding) = &hiding {
                    hiding.leave();
                }
                let (line, limit) = (self.line, self.limit);
                let command = Command::started(self.workspace, command, line, limit, feed, hiding);
                Ok((command, guard))
            }
            Err(Failed { error, id }) => {
                // Found again by its id, where there is one.
                guard.keep();
                let error = Error::transport("the command could not be started", error);
                Err(match id {
                    Some(id) => error.of_command(&id),
                    None => error,
                })
            }
        }
    }

    /// What a shell is to read of the secrets, if there are any.
    fn secret_exports(&self) -> Result<Option<SecretString>> {
        let mut exports = String::new();
        for (name, value) in &self.secrets {
            let value = value.expose_secret();
            if value.contains('\0') {
                return Err(Error::invalid("a variable cannot hold a NUL"));
            }
            if !value.is_empty() && value.chars().all(|c| c == '*') {
                let context = format!("the secret for `{name}` is masked: it opens nothing");
                return Err(Error::invalid(context));
            }
            exports.push_str(&export(name, value)?);
            exports.push('\n');
        }
        Ok((!exports.is_empty()).then(|| exports.into()))
    }

    fn order(&self) -> Result<Order> {
        if self.line.trim().is_empty() {
            return Err(Error::invalid("an empty command line"));
        }
        if self.limit.is_zero() {
            return Err(Error::invalid("a timeout of zero ends the command at once"));
        }
        let mut line = String::new();
        for (name, value) in &self.env {
            line.push_str(&format!("{}; ", export(name, value)?));
        }
        line.push_str(&self.line);
        if line.contains('\0') {
            return Err(Error::invalid("a command line cannot hold a NUL"));
        }
        let seconds = self.limit.as_secs();
        let seconds = seconds.saturating_add(u64::from(self.limit.subsec_nanos() > 0));
        Ok(Order {
            line,
            cwd: self.workspace.path(self.cwd.as_deref().unwrap_or("."))?,
            seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        })
    }
}

/// Reads and removes what hides in a directory, whatever ends the shell meanwhile.
fn unhide(path: &str) -> String {
    format!(
        "trap 'rm -rf {path}' EXIT; trap 'exit 99' TERM INT HUP; . {path}/env; rm -rf {path}; \
         trap - EXIT TERM INT HUP; "
    )
}

fn export(name: &str, value: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain)
    {
        return Err(Error::invalid(format!(
            "`{name}` is no name for a variable"
        )));
    }
    Ok(format!("export {name}={}", quoted(value)))
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
