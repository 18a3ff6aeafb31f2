//! Stores environments, and replaces one while other processes use it.
//!
//! An environment is a directory `NAME.env-SUFFIX` that is built in its final place and never
//! changes afterwards. `NAME` is a symbolic link to the current one, replaced atomically.
//!
//! Three files make this safe between processes. `NAME.lock` is held by the process that creates an
//! environment of this name, and by its keeper. The marker is written last, so a directory without
//! it is incomplete. The lease in a finished directory is held, shared, by every process that uses
//! it. Only a process that holds the lease exclusively may remove the directory.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::lock::{not_for_others, try_lock};

/// Marker file, written last: an environment without it is incomplete.
const MARKER: &str = "openhands-rs.complete";
/// Lease file, locked by every process that uses the environment.
const LEASE: &str = "openhands-rs.lease";
/// Separates the name of an environment from the suffix of one of its directories.
const BUILD: &str = ".env-";

/// Suffix of a new link that is about to replace an environment's link.
const LINK: &str = ".link";

/// A directory of environments.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// The place of one environment in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    cache: Cache,
    name: String,
}

/// A lock that prevents the removal of an environment's directory.
pub(crate) type Lease = Option<Arc<File>>;

/// Content of a slot.
#[derive(Debug)]
pub(crate) enum Content {
    Nothing,
    HalfMade,
    Finished { root: PathBuf, lease: Lease },
}

impl Cache {
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Creates the directory if it is missing.
    pub(crate) fn create(&self) -> io::Result<()> {
        make_directory(&self.root)
    }

    pub(crate) fn slot(&self, name: String) -> Slot {
        let cache = self.clone();
        Slot { cache, name }
    }

    /// Returns the finished environments, sorted by name.
    pub(crate) fn finished(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let build = path.to_string_lossy().contains(BUILD);
            if !build && exists(&path.join(MARKER))? {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Removes unused directories: incomplete ones whose creator is gone, and replaced environments
    /// without users. `held` names the slot whose lock the caller holds. A directory that cannot be
    /// removed now is left for the next sweep.
    pub(crate) fn sweep(&self, held: &str) {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        for entry in entries {
            let file_name = entry.file_name();
            let Some(text) = file_name.to_str() else {
                continue;
            };
            let build = text.rsplit_once(BUILD).map(|(name, _)| name);
            let Some(name) = build.or_else(|| text.strip_suffix(LINK)) else {
                continue;
            };
            let slot = self.slot(name.to_owned());
            // A lock that is taken has a holder: a running provisioner, or the keeper of a dead
            // one.
            let free = match name == held {
                true => Ok(Some(None)),
                false => try_lock(&slot.lock_path()).map(|lock| lock.map(Some)),
            };
            if let Ok(Some(_lock)) = free
                && slot
                    .target()
                    .is_ok_and(|target| target != Some(entry.path()))
                && let Err(error) = remove_unused(&entry.path())
            {
                tracing::debug!(
                    path = %entry.path().display(),
                    %error,
                    "cannot remove an unused environment now; a later run tries again"
                );
            }
        }
    }
}

impl Slot {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the path of the link to the environment.
    pub(crate) fn path(&self) -> PathBuf {
        self.cache.root.join(&self.name)
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.cache.root.join(format!("{}.lock", self.name))
    }

    /// Returns the directory of the current environment, if there is one.
    fn target(&self) -> io::Result<Option<PathBuf>> {
        let path = self.path();
        match path.read_link() {
            Ok(target) => Ok(Some(self.cache.root.join(target))),
            // Earlier versions stored the environment in a directory instead of a link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Some(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the current content of the slot.
    ///
    /// # Errors
    ///
    /// Returns an error if the content cannot be determined.
    pub(crate) fn content(&self) -> io::Result<Content> {
        let Some(root) = self.target()? else {
            return Ok(Content::Nothing);
        };
        if !exists(&root)? {
            return Ok(Content::Nothing);
        }
        if !exists(&root.join(MARKER))? {
            return Ok(Content::HalfMade);
        }
        let lease = match lease(&root, true) {
            Ok(lease) => lease,
            // Another process is removing the directory, so it is no longer the current
            // environment.
            Err(TryLockError::WouldBlock) => return Ok(Content::Nothing),
            Err(TryLockError::Error(error)) => return Err(error),
        };
        // The directory may have been removed just before the lease was taken.
        match exists(&root.join(MARKER))? {
            true => Ok(Content::Finished { root, lease }),
            false => Ok(Content::Nothing),
        }
    }

    /// Returns a place for a new environment. The caller must hold the lock.
    pub(crate) fn build(&self) -> Build {
        let suffix = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{}{BUILD}{}", self.name, &suffix[..8]);
        Build {
            slot: self.clone(),
            path: self.cache.root.join(&name),
            name,
            finished: false,
        }
    }
}

/// An environment under construction. Removed if dropped before it is finished.
#[derive(Debug)]
pub(crate) struct Build {
    slot: Slot,
    name: String,
    path: PathBuf,
    finished: bool,
}

impl Build {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes this the current environment of its slot, atomically. `contents` describes what is
    /// installed.
    pub(crate) fn finish(mut self, contents: &str) -> io::Result<Lease> {
        let lease = lease(&self.path, true).map_err(io::Error::from)?;
        write_file(&self.path.join(MARKER), contents)?;
        let link = self.slot.path();
        let fresh = link.with_file_name(format!("{}{LINK}", self.slot.name));
        remove(&fresh)?;
        symlink(&self.name, &fresh)?;
        if fs::symlink_metadata(&link).is_ok_and(|found| found.is_dir()) {
            // A link cannot replace a directory. Renaming the directory disturbs its users less
            // than removing it.
            let aside = self.slot.build();
            fs::rename(&link, aside.path())?;
            aside.keep();
        }
        fs::rename(&fresh, &link)?;
        self.finished = true;
        Ok(lease)
    }

    fn keep(mut self) {
        self.finished = true;
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if !self.finished {
            let _the_next_maker_removes_what_remains = remove(&self.path);
        }
    }
}

/// Takes the lease of an environment. Returns `None` where no lease is possible, such as on a
/// read-only disk.
pub(crate) fn lease(root: &Path, create: bool) -> Result<Lease, TryLockError> {
    let path = root.join(LEASE);
    let mut options = not_for_others();
    options
        .read(true)
        .write(create)
        .create(create)
        .truncate(false);
    let Ok(file) = options.open(&path).or_else(|_| File::open(&path)) else {
        return Ok(None);
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(Arc::new(file))),
        Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        // Not every file system supports locks.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Removes the directory of an environment that is not the current one, unless it is in use.
fn remove_unused(path: &Path) -> io::Result<()> {
    let marker = path.join(MARKER);
    let mut _lease = None;
    if exists(&marker)? {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LEASE))?;
        file.try_lock().map_err(io::Error::from)?;
        _lease = Some(file);
        fs::remove_file(&marker)?;
    }
    remove(path)
}

/// Returns whether the path exists, or an error if this cannot be determined.
fn exists(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Creates a directory and its parents. Other users cannot write to them, with any umask: they
/// could replace the programs in the cache.
#[cfg(unix)]
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
}

#[cfg(not(unix))]
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Writes a file that other users cannot write to.
pub(crate) fn write_file(path: &Path, content: &str) -> io::Result<()> {
    let mut file = not_for_others().create(true).truncate(true).open(path)?;
    file.write_all(content.as_bytes())
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn symlink(target: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_target: &str, _link: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
