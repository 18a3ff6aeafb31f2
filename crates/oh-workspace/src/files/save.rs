//! Writing a stream on a separate thread: to a writer, or to a file that appears only when it is
//! complete.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::ByteStream;
use crate::{Error, Result};

/// Maximum number of chunks that wait for the writer.
const QUEUED_CHUNKS: usize = 8;

/// Writes the whole stream. Returns the writer and the number of bytes.
pub(super) async fn write_to<W: Write + Send + 'static>(
    mut stream: ByteStream,
    mut writer: W,
) -> Result<(W, u64)> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUED_CHUNKS);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = receiver.blocking_recv() {
            writer.write_all(&chunk)?;
        }
        writer.flush()?;
        Ok(writer)
    });
    let mut done = 0;
    let mut broken = None;
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => {
                done += chunk.len() as u64;
                // The writer failed: its result has the cause.
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let failed = |error| Error::local("cannot write the downloaded data", error);
    // Always awaited, so that nothing is still writing when this function returns.
    let writer = match writing.await {
        Ok(writer) => writer.map_err(failed),
        Err(error) => Err(failed(io::Error::other(error))),
    };
    match broken {
        Some(error) => Err(error),
        None => Ok((writer?, done)),
    }
}

/// Writes the whole stream to a file next to `target`, then renames it into place.
pub(super) async fn write_file(stream: ByteStream, target: PathBuf) -> Result<u64> {
    let place = target.clone();
    let (partial, place) = blocking(&target, move || partial(&place)).await?;
    let file = partial
        .as_file()
        .try_clone()
        .map_err(|error| local(&target, error))?;
    let (file, done) = write_to(stream, file)
        .await
        .map_err(|error| match error.kind() {
            crate::ErrorKind::Io | crate::ErrorKind::NoSpace => {
                error.at(&target.display().to_string())
            }
            _ => error,
        })?;
    drop(file);
    blocking(&target, move || {
        partial.persist(place).map_err(|error| error.error)
    })
    .await?;
    Ok(done)
}

/// Creates a file next to the target that is removed unless it is persisted. Returns it with its
/// final path. A symbolic link is followed, so that the link itself stays.
fn partial(target: &Path) -> io::Result<(tempfile::NamedTempFile, PathBuf)> {
    let target = match std::fs::canonicalize(target) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => target.to_owned(),
        Err(error) => return Err(error),
    };
    // A rename would replace a device or a pipe.
    if target.exists() && !target.is_file() {
        return Err(match target.is_dir() {
            true => io::ErrorKind::IsADirectory.into(),
            false => io::Error::new(
                io::ErrorKind::InvalidInput,
                "the target is not a regular file: open it, and download to that writer",
            ),
        });
    }
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(directory)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".part");
    // Temporary files are private by default; this one gets the mode of any new file.
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666))
    };
    Ok((builder.tempfile_in(directory)?, target))
}

async fn blocking<T: Send + 'static>(
    target: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| local(target, error)),
        Err(error) => Err(local(target, io::Error::other(error))),
    }
}

fn local(target: &Path, error: io::Error) -> Error {
    Error::local(format!("cannot write {}", target.display()), error)
}
