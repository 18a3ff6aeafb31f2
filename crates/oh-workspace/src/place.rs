//! A private directory on the server for data that must not appear in a command line: the server
//! stores command lines, and every user of its machine can read them.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use oh_protocol::calls::{
    bash::{Execute, ExecuteRequest},
    files::Upload,
};
use oh_transport::WorkspaceHandle as _;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;
use tracing::warn;

use crate::{Error, ErrorKind, Result, Workspace, helper::helper, shell::quoted};

/// Creates the directory for temporary files.
const MAKE: &str =
    "umask 077; d=$(mktemp -d \"${TMPDIR:-/tmp}/oh-private.XXXXXXXXXX\") || exit 1\n";
/// Creates the directory in the current one. Git ignores it.
const MAKE_HERE: &str = "umask 077; d=$(mktemp -d \"$PWD/.oh-private.XXXXXXXXXX\") || exit 1\n\
                         printf '*\\n' >\"$d/.gitignore\" || exit 1\n";
/// Removes the directory in the background in case the client cannot, because the client was killed
/// or lost its connection permanently.
const WATCH: &str = "(trap 'rm -rf \"$d\"; exit' HUP INT TERM; n=0; \
                     while [ -d \"$d\" ] && [ $n -lt 300 ]; do sleep 1; n=$((n+1)); done; \
                     rm -rf \"$d\") </dev/null >/dev/null 2>&1 &\n";
const PRINT: &str = "printf '%s' \"$d\"";
/// The exit code of a command that could not read its secrets.
const SECRETS_UNREAD: i32 = 96;
/// Maximum number of attempts to remove the directory while the connection fails.
const TRIES: u32 = 3;
/// Timeout of each helper command.
const LIMIT: Duration = Duration::from_secs(10);

/// A directory that only the server's user can enter. Dropping this value removes the directory,
/// unless it has been removed already or [left](Self::leave) to its command.
pub(crate) struct Place {
    workspace: Workspace,
    path: String,
    runtime: Handle,
    removed: AtomicBool,
}

impl Place {
    /// Creates a directory that contains `secret` in a file named `name`.
    ///
    /// Dropping the future does not interrupt this. Otherwise the server might write the file after
    /// the directory was removed.
    pub(crate) async fn with_secret(
        workspace: &Workspace,
        name: &'static str,
        secret: SecretString,
    ) -> Result<Self> {
        let workspace = helper(workspace).await;
        let making = tokio::spawn(async move {
            let place = Self::make(workspace, WATCH).await?;
            let content = secret.expose_secret().to_owned();
            let scope = place.workspace.scope();
            let upload = Upload::new(place.file(name), content).scope(scope);
            match place.workspace.client().call(&upload).await {
                Ok(_) => Ok(place),
                Err(error) => {
                    let context = "cannot upload the secrets to the server";
                    Err(place.removed_after(Error::transport(context, error)).await)
                }
            }
        });
        making.await.unwrap_or_else(|error| {
            let context = "the tokio runtime shut down before the secrets were uploaded";
            Err(Error::new(ErrorKind::Interrupted, context).with_source(error))
        })
    }

    /// Creates an empty directory for output.
    pub(crate) async fn for_output(workspace: &Workspace) -> Result<Self> {
        let workspace = helper(workspace).await;
        let making = tokio::spawn(Self::make(workspace, ""));
        making.await.unwrap_or_else(|error| {
            let context = "the tokio runtime shut down before the private directory was created";
            Err(Error::new(ErrorKind::Interrupted, context).with_source(error))
        })
    }

    async fn make(workspace: Workspace, watch: &str) -> Result<Self> {
        // Only files of its workspace can be reached in the scope of a conversation.
        let make = match workspace.conversation() {
            None => MAKE,
            Some(_) => MAKE_HERE,
        };
        let what = "cannot create a private directory on the server";
        let make = command(&workspace, format!("{make}{watch}{PRINT}"));
        let made = workspace.client().call(&make).await;
        let made = made.map_err(|error| Error::transport(what, error))?;
        let path = made.stdout.unwrap_or_default();
        // The server replaces invalid UTF-8 with U+FFFD.
        let odd = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        if made.exit_code != Some(0) || !path.starts_with('/') || path.contains(odd) {
            let why = made.stderr.unwrap_or_default();
            let context = format!("{what}: {}", crate::command::excerpt(why.trim(), 200));
            return Err(Error::new(ErrorKind::InvalidPath, context).at(&path));
        }
        Ok(Self {
            workspace,
            path,
            runtime: Handle::current(),
            removed: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the workspace in whose scope the directory is reached.
    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Returns the path of a file in the directory.
    pub(crate) fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// Returns the shell line that reads secrets from a file in the directory. The shell opens and
    /// removes the file before it reads the first value. If that fails, nothing is exported and
    /// nothing else runs. The line ends with a line break, so the shell executes it even when it
    /// cannot parse the rest.
    pub(crate) fn take(&self, file: &str) -> String {
        let (directory, file) = (quoted(&self.path), quoted(&self.file(file)));
        let failure = quoted(&self.not_taken());
        format!(
            "{{ rm -rf {directory} && [ ! -e {directory} ] && _oh_secrets=$(cat) && \
             eval \"$_oh_secrets\"; }} <{file} || \
             {{ echo {failure} >&2; exit {SECRETS_UNREAD}; }}; unset _oh_secrets\n"
        )
    }

    /// Returns whether a command ended because it could not read its secrets.
    pub(crate) fn failed_to_take(&self, code: Option<i32>, stderr: &str) -> bool {
        code == Some(SECRETS_UNREAD) && stderr.contains(&self.not_taken())
    }

    fn not_taken(&self) -> String {
        format!("oh-workspace: cannot take the secrets in {}", self.path)
    }

    /// Returns the shell line that redirects the output of the rest of the script into files in the
    /// directory.
    pub(crate) fn redirect(&self, stdout: &str, stderr: &str) -> String {
        let (stdout, stderr) = (quoted(&self.file(stdout)), quoted(&self.file(stderr)));
        format!("exec >{stdout} 2>{stderr}\n")
    }

    /// Leaves the removal of the directory to its command.
    pub(crate) fn leave(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }

    /// Removes the directory and its content. Does nothing if the directory is gone.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotRemoved`] if the directory may still exist.
    pub(crate) async fn remove(&self) -> Result<()> {
        remove(&self.workspace, &self.path).await?;
        self.leave();
        Ok(())
    }

    /// Removes the directory after an error. If that fails too, the returned error says so.
    pub(crate) async fn removed_after(&self, error: Error) -> Error {
        match self.remove().await {
            Ok(()) => error,
            Err(left) => {
                // Removal has been attempted, so `drop` need not repeat it.
                self.leave();
                error.and(&left).at(&self.path)
            }
        }
    }

    /// Removes the directory in the background.
    pub(crate) fn remove_soon(&self) {
        self.leave();
        let (workspace, path) = (self.workspace.clone(), self.path.clone());
        self.runtime.spawn(async move {
            if let Err(error) = remove(&workspace, &path).await {
                warn!(%error, "cannot remove a private directory; it may remain on the server");
            }
        });
    }
}

/// Returns a helper command in the workspace's scope.
fn command(workspace: &Workspace, line: String) -> Execute {
    let directory = match workspace.conversation() {
        None => "/",
        Some(_) => workspace.working_dir(),
    };
    let request = ExecuteRequest::new(line).cwd(directory).timeout(LIMIT);
    Execute::new(request).scope(workspace.scope())
}

async fn remove(workspace: &Workspace, path: &str) -> Result<()> {
    let place = quoted(path);
    let remove = command(workspace, format!("rm -rf {place} && [ ! -e {place} ]"));
    let what = "a private directory on the server could not be removed";
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match workspace.client().call(&remove).timeout(LIMIT).await {
            Ok(output) if output.exit_code == Some(0) => return Ok(()),
            Ok(output) => {
                let why = output.stderr.unwrap_or_default();
                let context = format!("{what}: {}", crate::command::excerpt(why.trim(), 200));
                return Err(Error::new(ErrorKind::NotRemoved, context).at(path));
            }
            Err(error) => error,
        };
        // The directory may or may not be gone: a repeated removal settles it.
        if !error.is_unclear() || tries == TRIES {
            let error = Error::transport(what, error).of_kind(ErrorKind::NotRemoved);
            return Err(error.at(path));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.removed.load(Ordering::Relaxed) {
            self.remove_soon();
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
