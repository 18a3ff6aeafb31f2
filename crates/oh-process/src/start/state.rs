//! The state directories of a server: one private root, persistent or temporary, which one owner
//! uses at a time.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use tempfile::TempDir;

use crate::{
    Error, ErrorKind, Result,
    lock::{readable, try_lock},
};

/// The longest socket directory that both tmux and the server accept. They append
/// `/tmux-<uid>/openhands-<32 digits>`, and the kernel's limit is 107 bytes (103 on macOS).
const TMUX_MAX: usize = 48;

/// The directories of one server.
#[derive(Debug)]
pub(crate) struct StateDir {
    place: Place,
    lock: File,
}

/// Location of a server's state.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    root: PathBuf,
    temporary: bool,
    tmux: PathBuf,
}

impl Place {
    /// Returns a temporary location. Creates nothing yet.
    pub(crate) fn temporary() -> Result<Self> {
        let base = std::path::absolute(temporary_directory(std::env::var_os("TMPDIR")))
            .map_err(|error| Error::directory("cannot find the temporary directory", error))?;
        // The name is unpredictable, so nobody else can have created the directory.
        let name: String = random_key().chars().take(12).collect();
        Ok(Self::new(base.join(format!("oh-{name}")), true))
    }

    /// Returns a persistent location and creates its root.
    pub(crate) fn kept(root: &Path) -> Result<Self> {
        let make = || {
            match make_private(root) {
                // A directory that the user created keeps its permissions.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(root.parent().unwrap_or(root))?;
                    make_private(root)?;
                }
                other => other?,
            }
            root.canonicalize()
        };
        let root = make().map_err(|error| {
            let root = root.display();
            Error::directory(format!("cannot use state directory {root}"), error)
        })?;
        Ok(Self::new(root, false))
    }

    fn new(root: PathBuf, temporary: bool) -> Self {
        let inside = root.join("tmux");
        let tmux = match inside.as_os_str().len() > TMUX_MAX {
            true => short_path(&root),
            false => inside,
        };
        Self {
            root,
            temporary,
            tmux,
        }
    }

    /// Returns the directory for sockets if it is outside of the root.
    pub(crate) fn tmux_apart(&self) -> Option<&Path> {
        let inside = self.temporary && self.tmux.starts_with(&self.root);
        (!inside).then_some(self.tmux.as_path())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary
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

    /// Returns the home directory of the server and of the agent's commands: configuration, caches,
    /// histories.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// Returns the directory for temporary files of the server and the agent's commands. The file
    /// editor keeps its undo history there.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn tmux(&self) -> &Path {
        &self.tmux
    }

    /// Creates the directories. `claimed` is called as soon as the state is locked. Its arguments
    /// are the lock and, if there is one, a directory outside of the root that is about to be
    /// created.
    pub(crate) fn make(
        self,
        claimed: impl FnOnce(&File, Option<&Path>) -> io::Result<()>,
    ) -> Result<StateDir> {
        if self.temporary {
            make_private(&self.root).map_err(|error| {
                let root = self.root.display();
                Error::directory(format!("cannot create state directory {root}"), error)
            })?;
        }
        let root = self.root.clone();
        let temporary = self.temporary;
        self.prepare(claimed).inspect_err(|_| {
            if temporary {
                let _best_effort = fs::remove_dir_all(&root);
            }
        })
    }

    fn prepare(
        self,
        claimed: impl FnOnce(&File, Option<&Path>) -> io::Result<()>,
    ) -> Result<StateDir> {
        let failed = |what: &Path, error| {
            let what = what.display();
            Error::directory(format!("cannot use {what} for the server's state"), error)
        };
        let lock_path = self.root.join("lock");
        let lock = try_lock(&lock_path).map_err(|error| failed(&lock_path, error))?;
        let Some(lock) = lock else {
            let root = self.root.display();
            return Err(Error::new(
                ErrorKind::StateInUse,
                format!(
                    "state directory {root} is in use by another server, or by one that is still \
                     shutting down; use a separate directory for each server"
                ),
            ));
        };
        claimed(&lock, self.tmux_apart()).map_err(|error| failed(&self.root, error))?;
        for name in [
            "conversations",
            "workspace",
            "bash_events",
            "persistence",
            "worktrees",
            "tmp",
            "home",
        ] {
            let path = self.root.join(name);
            make_or_take(&path, Path::is_dir).map_err(|error| failed(&path, error))?;
        }
        // Start directories of a server that was killed.
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(START) {
                let _best_effort = fs::remove_dir_all(entry.path());
            }
        }
        // Sockets of a server that was killed. Nothing listens on them any more.
        if is_private(&self.tmux) {
            let _best_effort = fs::remove_dir_all(&self.tmux);
        }
        // Everyone can write to /tmp. A directory created by another user could give that user
        // access to the agent's terminals.
        make_or_take(&self.tmux, is_private).map_err(|error| failed(&self.tmux, error))?;
        Ok(StateDir { place: self, lock })
    }
}

/// Name prefix of the directories that servers are started in.
const START: &str = "start-";

impl std::ops::Deref for StateDir {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl StateDir {
    /// Returns the lock that the user of the state holds.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }

    /// Returns the key that encrypts the data that the server stores, creating it on first use. The
    /// key must live as long as the state: without it, a restarted server loses every stored
    /// credential. The key of a temporary state is never written to disk.
    pub(crate) fn secret_key(&self) -> Result<SecretString> {
        if self.place.temporary {
            return Ok(random_key().into());
        }
        let path = self.root().join("secret_key");
        let failed = |error| {
            let path = path.display();
            Error::directory(format!("cannot store the secret key in {path}"), error)
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
        // Written atomically: a partial key would make the state's secrets unreadable.
        let mut file = tempfile::NamedTempFile::new_in(self.root()).map_err(failed)?;
        file.write_all(key.as_bytes()).map_err(failed)?;
        readable(file.as_file()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(key.into())
    }
}

/// Creates an empty directory for a server to start in. The directory must be new, because files in
/// the directory that a Python program starts in can change what the program does.
pub(crate) fn start_directory(root: &Path) -> Result<TempDir> {
    let make = || {
        let directory = tempfile::Builder::new().prefix(START).tempdir_in(root)?;
        read_only(directory.path())?;
        Ok(directory)
    };
    make().map_err(|error| {
        let root = root.display();
        Error::directory(format!("cannot create a directory in {root}"), error)
    })
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // The keeper normally removes the directories, unless it was killed.
        if self.place.temporary {
            let _already_gone = fs::remove_dir_all(&self.place.root);
        }
        if let Some(tmux) = self.tmux_apart() {
            let _already_gone = fs::remove_dir_all(tmux);
        }
    }
}

/// Returns the directory for temporary files. An empty variable counts as unset.
fn temporary_directory(variable: Option<OsString>) -> PathBuf {
    match variable {
        Some(empty) if empty.is_empty() => PathBuf::from("/tmp"),
        _ => std::env::temp_dir(),
    }
}

/// Returns 244 random bits from the operating system, in hex.
pub(crate) fn random_key() -> String {
    let half = || uuid::Uuid::new_v4().simple();
    format!("{}{}", half(), half())
}

/// Returns a short directory path that is always the same for the same state directory. Files of a
/// killed predecessor are thus reused and later removed.
fn short_path(root: &Path) -> PathBuf {
    let hash = crate::hash::stable(root.as_os_str().as_encoded_bytes());
    PathBuf::from(format!("/tmp/oh-tmux-{hash:016x}"))
}

/// Creates a private directory, or accepts an existing one if `fit` returns true.
fn make_or_take(path: &Path, fit: impl Fn(&Path) -> bool) -> io::Result<()> {
    match make_private(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fit(path) {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the path exists and is not a private directory of this user",
            )),
        },
        other => other,
    }
}

#[cfg(unix)]
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    DirBuilder::new().mode(0o700).create(path)?;
    // The umask may have removed rights of the owner.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(unix)]
fn read_only(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o500))
}

#[cfg(unix)]
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        let ours = metadata.uid() == rustix::process::geteuid().as_raw();
        metadata.is_dir() && ours && metadata.mode() & 0o077 == 0
    })
}

#[cfg(not(unix))]
fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().create(path)
}

#[cfg(not(unix))]
fn read_only(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn is_private(path: &Path) -> bool {
    path.is_dir()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn kept(path: &Path) -> Result<StateDir> {
        Place::kept(path)?.make(|_, _| Ok(()))
    }

    #[test]
    fn the_secret_key_is_kept_privately_in_the_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state");
        let first = kept(&path).expect("state").secret_key().expect("a key");
        let state = kept(&path).expect("state again");
        let second = state.secret_key().expect("the key");
        assert_eq!(first.expose_secret(), second.expose_secret());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
            assert_eq!(mode(&state.root().join("secret_key")), 0o600);
            assert_eq!(mode(state.root()), 0o700);
            assert_eq!(mode(state.tmux()), 0o700);
            assert_eq!(mode(&state.home()), 0o700);
        }
    }

    #[test]
    fn the_secret_key_of_a_temporary_state_is_in_no_file() {
        let state = Place::temporary()
            .and_then(|place| place.make(|_, _| Ok(())))
            .expect("state");
        state.secret_key().expect("a key");
        assert!(!state.root().join("secret_key").exists());
    }

    #[test]
    fn a_state_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = kept(dir.path()).expect("state");
        let error = kept(dir.path()).expect_err("a second owner");
        assert_eq!(error.kind(), ErrorKind::StateInUse);
        drop(first);
        kept(dir.path()).expect("free again");
    }

    #[test]
    fn a_temporary_state_is_removed_and_a_deep_one_has_a_short_socket_path() {
        let place = Place::temporary().expect("a place");
        let root = place.root().to_owned();
        assert!(!root.exists(), "made only once somebody can remove it");
        drop(place.make(|_, _| Ok(())).expect("state"));
        assert!(!root.exists());

        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("d".repeat(120));
        let mut outside = None;
        let place = Place::kept(&deep).expect("a place");
        let state = place.make(|_, tmux| {
            outside = tmux.map(Path::to_owned);
            assert!(outside.as_ref().is_some_and(|tmux| !tmux.exists()));
            Ok(())
        });
        let state = state.expect("state");
        let tmux = state.tmux().to_owned();
        assert!(tmux.as_os_str().len() <= TMUX_MAX);
        assert!(tmux.is_dir());
        assert_eq!(outside, Some(tmux.clone()));
        drop(state);
        assert!(!tmux.exists());
    }

    #[cfg(unix)]
    #[test]
    fn no_socket_stays_in_a_state_that_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = kept(dir.path()).expect("state");
        let socket = state.tmux().join("socket");
        std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        drop(state);
        assert!(!socket.exists());
        // Simulates a server that was killed together with its keeper.
        fs::create_dir_all(socket.parent().expect("tmux")).expect("a directory");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(socket.parent().expect("tmux"), private).expect("private");
        std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let state = kept(dir.path()).expect("state again");
        assert!(!socket.exists() && state.tmux().is_dir());
    }

    #[cfg(unix)]
    #[test]
    fn an_empty_temporary_directory_counts_as_unset() {
        let tmp = temporary_directory(Some(OsString::new()));
        assert_eq!(tmp, Path::new("/tmp"));
    }

    #[test]
    fn a_start_directory_is_empty_and_never_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = kept(dir.path()).expect("state");
        let first = start_directory(state.root()).expect("a directory");
        let second = start_directory(state.root()).expect("a directory");
        assert_ne!(first.path(), second.path());
        assert_eq!(fs::read_dir(second.path()).expect("it").count(), 0);
        // The state of a server that was killed.
        let left = first.keep();
        drop(state);
        kept(dir.path()).expect("state again");
        assert!(!left.exists());
    }

    #[test]
    fn a_state_directory_that_is_a_file_is_rejected() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = kept(file.path()).expect_err("no directory");
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
