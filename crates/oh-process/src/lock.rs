//! A file as a lock between processes. The kernel frees it when its holder dies.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
};

/// Takes the lock, or gives `None` when another holds it.
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
