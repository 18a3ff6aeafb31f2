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
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
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
