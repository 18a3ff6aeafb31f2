//! Uses a file as a lock between processes. The kernel releases the lock when its holder dies.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
    time::Duration,
};

use tokio::time::sleep;

/// Takes the lock, or returns `None` if another process holds it.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = not_for_others().create(true).truncate(false).open(path)?;
    // Some file systems do not support permissions.
    let _best_effort = readable(&file);
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Returns options to write to a file. Other users cannot write to a file that is created,
/// with any umask.
pub(crate) fn not_for_others() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    options
}

/// Lets the user read and write a file that this process has created, with any umask.
#[cfg(unix)]
pub(crate) fn readable(file: &File) -> io::Result<()> {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};
    let mode = file.metadata()?.permissions().mode();
    match mode & 0o600 {
        0o600 => Ok(()),
        _ => file.set_permissions(Permissions::from_mode(mode | 0o600)),
    }
}

#[cfg(not(unix))]
pub(crate) fn readable(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Waits until the lock is free and takes it. Calls `waiting` if another process holds it. Cancel
/// safe.
pub(crate) async fn lock(path: &Path, waiting: impl FnOnce()) -> io::Result<File> {
    let mut waiting = Some(waiting);
    // Polls instead of blocking, because a blocked thread cannot be cancelled.
    loop {
        if let Some(lock) = try_lock(path)? {
            return Ok(lock);
        }
        if let Some(waiting) = waiting.take() {
            waiting();
        }
        sleep(Duration::from_millis(100)).await;
    }
}
