//! Output of a command while it is written, as exact bytes.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;

use super::{
    end::{CommandEnd, CommandOutput},
    guard::StopOnDrop,
    running::Command,
};
use crate::{ErrorKind, Request, Result, files::piece, place::Place};

/// File names for exact output.
pub(super) const STDOUT: &str = "stdout";
pub(super) const STDERR: &str = "stderr";
/// Delays between two looks at the files: the first, and the longest.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_millis(500);

/// A piece of a command's output, as exact bytes, or the command's end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LiveChunk {
    /// Output on stdout.
    Stdout(Bytes),
    /// Output on stderr.
    Stderr(Bytes),
    /// The command has ended; nothing follows.
    Ended(CommandEnd),
}

/// The output of a command while it is written: a [`Stream`] of [`LiveChunk`]s. See
/// [`Execute::live`](crate::Execute::live).
///
/// Dropping the stream before its end stops the command, unless it is
/// [`detached`](crate::Execute::detached).
#[must_use = "streams do nothing unless polled"]
pub struct LiveOutput {
    command: Command,
    chunks: Pin<Box<dyn Stream<Item = Result<LiveChunk>> + Send>>,
}

impl LiveOutput {
    pub(super) fn new(command: Command, guard: StopOnDrop, place: Arc<Place>) -> Self {
        let reading = Reading {
            ending: command.wait(),
            end: None,
            place,
            guard: Some(guard),
            read: [0, 0],
            ready: VecDeque::new(),
            delay: SOON,
        };
        let chunks = futures_util::stream::try_unfold(Some(reading), |reading| async move {
            match reading {
                Some(reading) => reading.next().await,
                None => Ok(None),
            }
        });
        Self {
            command,
            chunks: Box::pin(chunks),
        }
    }

    /// Returns the command's id on the server.
    pub fn id(&self) -> &str {
        self.command.id()
    }

    /// Stops the command: see [`Command::stop`]. The stream then yields the rest of the output and
    /// the end.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Command::stop`].
    pub fn stop(&self) -> Request<()> {
        self.command.stop()
    }

    /// Waits for the next piece. Returns `None` after the end of the command. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<LiveChunk>> {
        self.chunks.next().await
    }
}

impl Stream for LiveOutput {
    type Item = Result<LiveChunk>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for LiveOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveOutput")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// The files with the output, as far as they have been read.
struct Reading {
    ending: Request<CommandOutput>,
    end: Option<CommandEnd>,
    place: Arc<Place>,
    guard: Option<StopOnDrop>,
    /// Bytes read of each file.
    read: [u64; 2],
    ready: VecDeque<LiveChunk>,
    delay: Duration,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(LiveChunk, Option<Self>)>> {
        match self.chunk().await {
            Ok(LiveChunk::Ended(end)) => {
                self.place.remove().await?;
                Ok(Some((LiveChunk::Ended(end), None)))
            }
            Ok(chunk) => Ok(Some((chunk, Some(self)))),
            Err(error) => Err(self.place.removed_after(error).await),
        }
    }

    async fn chunk(&mut self) -> Result<LiveChunk> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(chunk);
            }
            // Decided before the look: output written until the end is found by the look.
            let end = self.end;
            for file in [0, 1] {
                self.look(file).await?;
            }
            if !self.ready.is_empty() {
                self.delay = SOON;
                continue;
            }
            if let Some(end) = end {
                return Ok(LiveChunk::Ended(end));
            }
            tokio::select! {
                output = &mut self.ending, if self.end.is_none() => {
                    // After an error too: the error contains the command's id.
                    if let Some(guard) = self.guard.take() {
                        guard.keep();
                    }
                    self.end = Some(output?.end());
                }
                () = tokio::time::sleep(self.delay) => {
                    self.delay = (self.delay * 2).min(LATER);
                }
            }
        }
    }

    /// Reads the part of a file that is new.
    async fn look(&mut self, file: usize) -> Result<()> {
        let name = [STDOUT, STDERR].get(file).copied().unwrap_or(STDERR);
        let Some(read) = self.read.get_mut(file) else {
            return Ok(());
        };
        let bytes = match piece(self.place.workspace(), &self.place.file(name), *read).await {
            // The command's shell creates the files.
            Err(error) if error.kind() == ErrorKind::NotFound && self.end.is_none() => Bytes::new(),
            bytes => bytes?,
        };
        *read += bytes.len() as u64;
        if !bytes.is_empty() {
            self.ready.push_back(match file {
                0 => LiveChunk::Stdout(bytes),
                _ => LiveChunk::Stderr(bytes),
            });
        }
        Ok(())
    }
}
