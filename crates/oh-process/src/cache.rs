//! Where environments are kept, and how one is replaced while others use it. Makes none.
//!
//! An environment is a directory of its own, `NAME.env-SUFFIX`, that is built where it stays and
//! never changes afterwards. `NAME` is a symbolic link to the present one, replaced atomically.
//!
//! Three files make this safe between processes. `NAME.lock` is held by the one that makes an
//! environment of this name, and by its keeper. The marker is written last, so a directory without
//! it is half-made. The lease in a finished directory is held, shared, by everyone who uses it;
//! only who gets it alone may remove the directory.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::lock::try_lock;

/// Written last: an environment without it is half-made.
const MARKER: &str = "openhands-rs.complete";
/// Locked by everyone who uses the environment.
const LEASE: &str = "openhands-rs.lease";
/// Between the name of an environment and the suffix of one of its directories.
const BUILD: &str = ".env-";

/// Ends the name of a link that is about to become that of an environment.
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

/// Keeps an environment's directory from being removed.
pub(crate) type Lease = Option<Arc<File>>;

/// What a slot holds.
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

    pub(crate) fn slot(&self, name: String) -> Slot {
        let cache = self.clone();
        Slot { cache, name }
    }

    /// The finished environments, by name.
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

    /// Removes what nobody can use any more: directories that were left half-made by a maker that
    /// is gone, and replaced environments whose last user is gone. `held` names the slot whose
    /// lock the caller holds. What cannot be removed now is left for the next maker.
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
            // A lock that cannot be taken has a holder: a maker, or the keeper of a dead one.
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
                tracing::debug!(path = %entry.path().display(), %error, "left for later");
            }
        }
    }
}

impl Slot {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The link to the environment.
    pub(crate) fn path(&self) -> PathBuf {
        self.cache.root.join(&self.name)
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.cache.root.join(format!("{}.lock", self.name))
    }

    /// The directory of the present environment, if there is one.
    fn target(&self) -> io::Result<Option<PathBuf>> {
        let path = self.path();
        match path.read_link() {
            Ok(target) => Ok(Some(self.cache.root.join(target))),
            // A directory, as the environments of earlier versions are.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Some(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is there now.
    ///
    /// # Errors
    ///
    /// When this cannot be found out.
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
            // Somebody removes it, so a new one is the present one by now.
            Err(TryLockError::WouldBlock) => return Ok(Content::Nothing),
            Err(TryLockError::Error(error)) => return Err(error),
        };
        // It may have been removed just before the lease was taken.
        match exists(&root.join(MARKER))? {
            true => Ok(Content::Finished { root, lease }),
            false => Ok(Content::Nothing),
        }
    }

    /// A place for a new environment. The caller holds the lock.
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

/// An environment that is being made. Removed when dropped before it is finished.
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

    /// Makes this the present environment of its slot, atomically; `contents` says what is in it.
    pub(crate) fn finish(mut self, contents: &str) -> io::Result<Lease> {
        let lease = lease(&self.path, true).map_err(io::Error::from)?;
        fs::write(self.path.join(MARKER), contents)?;
        let link = self.slot.path();
        let fresh = link.with_file_name(format!("{}{LINK}", self.slot.name));
        remove(&fresh)?;
        symlink(&self.name, &fresh)?;
        if fs::symlink_metadata(&link).is_ok_and(|found| found.is_dir()) {
            // No link can replace a directory. What runs from it is not disturbed by a rename as
            // much as by its removal.
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

/// Takes the lease of an environment; none where it cannot have one, as on a read-only disk.
pub(crate) fn lease(root: &Path, create: bool) -> Result<Lease, TryLockError> {
    let path = root.join(LEASE);
    let mut options = OpenOptions::new();
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
        // Not every file system has locks.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Removes the directory of an environment that is not the present one, unless it is in use.
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

/// Whether something is there; an error when this cannot be found out.
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
