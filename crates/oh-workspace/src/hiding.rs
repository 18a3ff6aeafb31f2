//! A directory on the server that only its user can enter, for what must stand in no command
//! line: the server keeps those, and everyone on its machine can read them.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use oh_protocol::calls::Scope;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;

use crate::{Error, ErrorKind, Result, Workspace};

/// Removed when it is dropped, wherever that happens, unless it has been [left](Self::leave).
pub(crate) struct Hiding {
    workspace: Workspace,
    path: String,
    runtime: Handle,
    removed: AtomicBool,
}

impl Hiding {
    /// Makes one that holds `secret` in a file named `name`.
    ///
    /// A caller that leaves meanwhile does not stop it: the server might write the file after it
    /// was removed. It is made, and removed then.
    pub(crate) async fn of(
        workspace: &Workspace,
        name: &str,
        secret: SecretString,
    ) -> Result<Self> {
        // A conversation's scope would refuse it, as it is outside its workspace.
        let workspace = workspace.in_scope(Scope::Server);
        let name = name.to_owned();
        let making = tokio::spawn(async move {
            let hiding = Self::make(workspace).await?;
            let file = format!("{}/{name}", hiding.path);
            let secret = secret.expose_secret().to_owned();
            hiding.workspace.write(file, secret).await?;
            Ok(hiding)
        });
        making.await.unwrap_or_else(|error| {
            let context = "the runtime ended before a secret was brought to the server";
            Err(Error::new(ErrorKind::Interrupted, context).with_source(error))
        })
    }

    async fn make(workspace: Workspace) -> Result<Self> {
        let line = "umask 077; mktemp -d \"${TMPDIR:-/tmp}/oh-hiding.XXXXXXXXXX\"";
        let made = workspace.execute(line).cwd("/").await?;
        let path = made.stdout().trim_end().to_owned();
        // It stands in command lines without quotes.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
        if !made.success() || !path.starts_with('/') || !path.chars().all(plain) {
            let context = "no place for a secret could be made in the server's temporary directory";
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

    /// Leaves it to the command that it is for, which removes it.
    pub(crate) fn leave(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn remove(&self) {
        if remove(self.workspace.clone(), &self.path).await {
            self.leave();
        }
    }

    /// Removes it, without anyone waiting for that.
    pub(crate) fn remove_soon(&self) {
        let (workspace, path) = (self.workspace.clone(), self.path.clone());
        self.runtime
            .spawn(async move { remove(workspace, &path).await });
    }
}

/// Removes a hiding place, whatever is in it.
async fn remove(workspace: Workspace, path: &str) -> bool {
    let removing = workspace.execute(format!("rm -rf {path}")).cwd("/");
    let removed = removing.timeout(Duration::from_secs(10)).await;
    removed.is_ok_and(|output| output.success())
}

impl Drop for Hiding {
    fn drop(&mut self) {
        if !self.removed.load(Ordering::Relaxed) {
            self.remove_soon();
        }
    }
}

impl fmt::Debug for Hiding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hiding")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
