//! The directories a server keeps its state in: one root, private, kept or temporary, used by
//! one owner at a time. Knows no process.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use tempfile::TempDir;

use crate::{Error, ErrorKind, Result, lock::try_lock};

/// A tmux socket's path must fit in some 100 bytes; tmux appends `/tmux-<uid>/<name>`.
const TMUX_MAX: usize = 70;

/// The directories of one server.
#[derive(Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    tmux: PathBuf,
    // Removed on drop. The lock goes with its file.
    temporary: Option<TempDir>,
    short_tmux: bool,
    _lock: File,
}

impl StateDir {
    /// A temporary one.
    pub(crate) fn temporary() -> Result<Self> {
        let base = std::env::temp_dir();
        let dir = tempfile::Builder::new()
            .prefix("oh-")
            .tempdir_in(&base)
            .map_err(|error| {
                let base = base.display();
                Error::directory(format!("cannot make a state directory in {base}"), error)
            })?;
        Self::prepare(dir.path().to_owned(), Some(dir))
    }

    /// One that stays.
    pub(crate) fn kept(root: &Path) -> Result<Self> {
        let failed = |error| {
            let root = root.display();
            Error::directory(format!("cannot use state directory {root}"), error)
        };
        let existed = root.exists();
        fs::create_dir_all(root).map_err(failed)?;
        if !existed {
            make_private(root).map_err(failed)?;
        }
        Self::prepare(root.canonicalize().map_err(failed)?, None)
    }

    fn prepare(root: PathBuf, temporary: Option<TempDir>) -> Result<Self> {
        let failed = |what: &Path, error| {
            let what = what.display();
            Error::directory(format!("cannot use {what} for the server's state"), error)
        };
        let lock_path = root.join("lock");
        let lock = try_lock(&lock_path).map_err(|error| failed(&lock_path, error))?;
        let Some(lock) = lock else {
            let root = root.display();
            return Err(Error::new(
                ErrorKind::StateInUse,
                format!("state directory {root} is used by another server; give each its own"),
            ));
        };
        for name in [
            "conversations",
            "workspace",
            "bash_events",
            "persistence",
            "worktrees",
            "tmp",
        ] {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(|error| failed(&path, error))?;
        }
        let inside = root.join("tmux");
        let short_tmux = inside.as_os_str().len() > TMUX_MAX;
        let tmux = if short_tmux {
            short_path(&root)
        } else {
            inside
        };
        make_tmux(&tmux).map_err(|error| failed(&tmux, error))?;
        Ok(Self {
            root,
            tmux,
            temporary,
            short_tmux,
            _lock: lock,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The root, when it is to be removed at the end.
    pub(crate) fn doomed(&self) -> Option<PathBuf> {
        self.temporary.is_some().then(|| self.root.clone())
    }

    pub(crate) fn conversations(&self) -> PathBuf {
        self.root.join("conversations")
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.root.join("workspace")
    }

    pub(crate) fn bash_events(&self) -> PathBuf {
        self.root.join("bash_events")
    }

    pub(crate) fn persistence(&self) -> PathBuf {
        self.root.join("persistence")
    }

    pub(crate) fn worktrees(&self) -> PathBuf {
        self.root.join("worktrees")
    }

    /// For temporary files of the server and of what it runs; the file editor leaves its undo
    /// history there.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn tmux(&self) -> &Path {
        &self.tmux
    }

    /// The key that encrypts what the server stores, made on first use. It must live as long as
    /// the state: without it a restarted server has lost every stored credential.
    pub(crate) fn secret_key(&self) -> Result<SecretString> {
        let path = self.root.join("secret_key");
        let failed = |error| {
            let path = path.display();
            Error::directory(format!("cannot keep the secret key in {path}"), error)
        };
        let mut key = String::new();
        match File::open(&path) {
            Ok(mut file) => {
                file.read_to_string(&mut key).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if !key.trim().is_empty() {
            return Ok(key.trim().into());
        }
        let key = random_key();
        // Whole or not at all: a torn key would lock the state's secrets away.
        let mut file = tempfile::NamedTempFile::new_in(&self.root).map_err(failed)?;
        file.write_all(key.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(key.into())
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if self.short_tmux {
            let _already_gone = fs::remove_dir_all(&self.tmux);
        }
    }
}

/// 244 random bits from the operating system, in hex.
pub(crate) fn random_key() -> String {
    let half = || uuid::Uuid::new_v4().simple();
    format!("{}{}", half(), half())
}

/// A short directory that is the same for the same state directory, so that a restarted server
/// finds the sessions its predecessor left.
fn short_path(root: &Path) -> PathBuf {
    // FNV-1a; the standard hasher is not promised to stay the same.
    let hash = root
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    PathBuf::from(format!("/tmp/oh-tmux-{hash:016x}"))
}

/// Makes the directory for ourselves alone, or takes one that already is: /tmp is everybody's,
/// and a directory somebody else made could hand them the agent's terminals.
fn make_tmux(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => make_private(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_private(path),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(unix)]
fn check_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(path)?;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_dir() || !ours || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it exists and is not a private directory of this user",
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_secret_key_stays_with_the_directory_and_is_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state");
        let first = StateDir::kept(&path)
            .expect("state")
            .secret_key()
            .expect("a key");
        let state = StateDir::kept(&path).expect("state again");
        let second = state.secret_key().expect("the key");
        assert_eq!(first.expose_secret(), second.expose_secret());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
            assert_eq!(mode(&state.root().join("secret_key")), 0o600);
            assert_eq!(mode(state.root()), 0o700);
            assert_eq!(mode(state.tmux()), 0o700);
        }
    }

    #[test]
    fn one_owner_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = StateDir::kept(dir.path()).expect("state");
        let error = StateDir::kept(dir.path()).expect_err("a second owner");
        assert_eq!(error.kind(), ErrorKind::StateInUse);
        drop(first);
        StateDir::kept(dir.path()).expect("free again");
    }

    #[test]
    fn a_temporary_one_is_removed_and_a_deep_one_still_has_a_short_socket_path() {
        let state = StateDir::temporary().expect("state");
        let root = state.root().to_owned();
        assert_eq!(state.doomed().as_deref(), Some(root.as_path()));
        drop(state);
        assert!(!root.exists());

        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::kept(&dir.path().join("d".repeat(120))).expect("state");
        let tmux = state.tmux().to_owned();
        assert!(tmux.as_os_str().len() <= TMUX_MAX);
        assert!(tmux.is_dir());
        drop(state);
        assert!(!tmux.exists());
    }

    #[test]
    fn a_state_directory_that_is_a_file_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = StateDir::kept(file.path()).expect_err("no directory");
        assert_eq!(error.kind(), ErrorKind::Directory);
    }
}
