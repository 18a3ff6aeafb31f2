//! Uploads: content is streamed as it is produced, and the server writes the complete file or
//! nothing.

use std::{
    fmt,
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;
use oh_protocol::{Answer, Call, calls::files};
use oh_transport::{Body, Client, ErrorKind as Theirs, WorkspaceHandle};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Observer, Progress, refused};
use crate::{Error, ErrorKind, Request, Result, Workspace};

/// Size of the chunks in which a source is read.
const CHUNK: usize = 256 * 1024;
/// Chunks read ahead of the connection.
const READ_AHEAD: usize = 4;
/// The speed, in bytes per second, that the wait for the response assumes for the server's copy of
/// an uploaded file.
const COPIED_PER_SECOND: u64 = 4 * 1024 * 1024;
/// Bytes that may still be in network buffers when the last byte has been sent.
const BYTES_IN_TRANSIT: u64 = 8 * 1024 * 1024;
/// The slowest connection that the wait for the response allows for, in bytes per second.
const MIN_RATE: u64 = 64 * 1024;
/// Maximum response size. A response to an upload is a few bytes.
const MAX_RESPONSE: usize = 1024 * 1024;

/// An upload that has not started. Choose a source to start it.
///
/// The server writes the file after the whole content has arrived. An upload that is interrupted or
/// dropped, or whose source fails, leaves the existing file unchanged. However, the server writes
/// in place: if its disk becomes full while it writes ([`ErrorKind::NoSpace`]), or if it crashes,
/// the file is truncated. Memory is bounded for any size.
///
/// ```no_run
/// # async fn send(workspace: &oh_workspace::Workspace) -> Result<(), oh_workspace::Error> {
/// workspace.upload("data/input.csv").from_path("input.csv").await?;
/// # Ok(()) }
/// ```
#[must_use = "an upload does nothing until its source is named"]
pub struct Upload {
    workspace: Workspace,
    path: String,
    idle: Duration,
    observer: Observer,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

impl Upload {
    pub(crate) fn new(workspace: Workspace, path: String) -> Self {
        Self {
            workspace,
            path,
            idle: Duration::from_secs(60),
            observer: Observer::none(),
        }
    }

    /// Sets how long the upload may make no progress before it fails. Default 60 s. The total
    /// duration is unlimited, and waiting for the source does not count. After the last byte has
    /// been sent, the response is given more time: for data still in transit, and for the server to
    /// copy the file.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle = limit;
        self
    }

    /// Sets a callback for progress, called for each chunk that is sent. The callback runs on the
    /// connection's task, so it must not block.
    pub fn progress(mut self, observe: impl FnMut(Progress) + Send + 'static) -> Self {
        self.observer = Observer::new(observe);
        self
    }

    /// Uploads these bytes. Returns the number of bytes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`from_path`](Self::from_path), except those about the local file.
    pub async fn from_bytes(self, content: impl Into<Bytes>) -> Result<u64> {
        let content = content.into();
        let length = content.len() as u64;
        // Slices of the same memory, so that progress can be reported.
        let chunks = futures_util::stream::unfold(content, |mut rest| async move {
            let size = rest.len().min(CHUNK);
            (size > 0).then(|| (Ok(rest.split_to(size)), rest))
        });
        self.send(Box::pin(chunks), Some(length)).await
    }

    /// Uploads a local file, which is read while it is sent. Returns the number of bytes.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if the file cannot be read or is a directory;
    /// [`ErrorKind::Changed`] if the file changes during the upload; otherwise the error of a
    /// rejected request or a broken connection.
    pub async fn from_path(self, local: impl Into<PathBuf>) -> Result<u64> {
        let local = local.into();
        let (chunks, opened) = open(local).await?;
        self.send(chunks, opened).await
    }

    /// Uploads the content of a reader. Returns the number of bytes. The reader runs on a separate
    /// thread. A reader that never returns blocks that thread, and with it the shutdown of the
    /// runtime.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if the reader fails; otherwise the error of a rejected request
    /// or a broken connection.
    pub async fn from_reader(self, reader: impl io::Read + Send + 'static) -> Result<u64> {
        let chunks = read(reader, |_| Ok(()));
        self.send(chunks, None).await
    }

    /// Uploads the content of a stream. Returns the number of bytes. `tokio_util::io::ReaderStream`
    /// converts an asynchronous reader to a stream.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if the stream fails; otherwise the error of a rejected request
    /// or a broken connection.
    pub async fn from_stream(
        self,
        stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<u64> {
        let failed = |error| Error::local("cannot read the source of the upload", error);
        let chunks = stream.map(move |chunk| chunk.map_err(failed));
        self.send(Box::pin(chunks), None).await
    }

    async fn send(self, chunks: Chunks, length: Option<u64>) -> Result<u64> {
        let path = self.workspace.path(&self.path)?;
        let failed = |error| refused("the upload failed", &path, error);
        let client = self.workspace.client();
        let call = files::Upload::new(&path, Bytes::new()).scope(self.workspace.scope());
        let parts = call.parts().map_err(|error| failed(error.into()))?;
        let framing = (parts.before.len() + parts.after.len()) as u64;
        let watch = Arc::new(Mutex::new(Watch::new()));
        let body = outgoing(
            parts.before,
            chunks,
            parts.after,
            length,
            self.observer,
            &watch,
        );
        let body = Body::from_stream(body, length.map(|length| length + framing));
        // Stalls are detected here, where waiting for the source can be distinguished from waiting
        // for the network.
        let sending = client.stream_within(parts.request, body, Duration::MAX);
        let answer = tokio::select! {
            answer = sending => answer,
            () = stalled(&watch, self.idle) => {
                let context = format!("the upload made no progress for {:?}", self.idle);
                return Err(Error::new(ErrorKind::Timeout, context).at(&path));
            }
        };
        if let Some(error) = lock(&watch).failure.take() {
            return Err(error.at(&path));
        }
        let done = lock(&watch).done;
        match finish(client, &call, answer)
            .await
            .map_err(failed)?
            .file_size
        {
            Some(written) if written != done => {
                let context =
                    format!("upload size mismatch: the server wrote {written} of {done} bytes");
                Err(Error::new(ErrorKind::Interrupted, context).at(&path))
            }
            _ => Ok(done),
        }
    }
}

async fn finish(
    client: &Client,
    call: &files::Upload,
    answer: oh_transport::Result<http::Response<Body>>,
) -> oh_transport::Result<files::UploadResult> {
    let (head, body) = client.accepted(answer?).await?.into_parts();
    let body = body.collect(MAX_RESPONSE).await?;
    let answer = Answer::new(head.status, head.headers, body);
    if answer.is_web_page() {
        let message = "not the response of an agent server: a web page";
        return Err(oh_transport::Error::new(Theirs::NotAnAgentServer, message));
    }
    Ok(call.decode(answer)?)
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Progress of an upload, and the time of its last step.
struct Watch {
    last: Instant,
    waits_for: WaitsFor,
    done: u64,
    failure: Option<Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    Source,
    Wire,
    Answer,
}

impl Watch {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            waits_for: WaitsFor::Wire,
            done: 0,
            failure: None,
        }
    }

    fn now(&mut self, waits_for: WaitsFor) {
        self.last = Instant::now();
        self.waits_for = waits_for;
    }
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn stalled(watch: &Mutex<Watch>, idle: Duration) {
    loop {
        let until = {
            let watch = lock(watch);
            let limit = match watch.waits_for {
                WaitsFor::Source => None,
                WaitsFor::Wire => Some(idle),
                WaitsFor::Answer => {
                    let on_the_way = watch.done.min(BYTES_IN_TRANSIT) / MIN_RATE;
                    let copied = watch.done / COPIED_PER_SECOND;
                    idle.checked_add(Duration::from_secs(on_the_way + copied))
                }
            };
            // Waiting for the source ends in another state, so check again later.
            let now = Instant::now();
            match limit {
                Some(limit) => watch.last.checked_add(limit),
                None => now.checked_add(idle),
            }
            .unwrap_or(now + Duration::from_secs(86_400))
        };
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

/// Builds the body: the multipart prefix, the content and, only if the content was complete, the
/// multipart suffix.
fn outgoing(
    before: Bytes,
    chunks: Chunks,
    after: Bytes,
    length: Option<u64>,
    observer: Observer,
    watch: &Arc<Mutex<Watch>>,
) -> impl Stream<Item = oh_transport::Result<Bytes>> + Send + use<> {
    struct State {
        before: Option<Bytes>,
        chunks: Chunks,
        after: Option<Bytes>,
        length: Option<u64>,
        observer: Observer,
        watch: Arc<Mutex<Watch>>,
    }
    impl State {
        /// Breaks the connection, so that the server writes nothing.
        fn fail(&mut self, error: Error) -> oh_transport::Result<Bytes> {
            lock(&self.watch).failure = Some(error);
            self.after = None;
            let kind = oh_transport::ErrorKind::Interrupted;
            Err(oh_transport::Error::new(
                kind,
                "cannot read the source of the upload",
            ))
        }
    }
    let state = State {
        before: Some(before),
        chunks,
        after: Some(after),
        length,
        observer,
        watch: Arc::clone(watch),
    };
    futures_util::stream::unfold(state, |mut state| async move {
        if let Some(before) = state.before.take() {
            return Some((Ok(before), state));
        }
        lock(&state.watch).now(WaitsFor::Source);
        let chunk = match state.after {
            Some(_) => state.chunks.next().await,
            None => None,
        };
        let piece = match chunk {
            Some(Ok(chunk)) => {
                let done = {
                    let mut watch = lock(&state.watch);
                    watch.now(WaitsFor::Wire);
                    watch.done += chunk.len() as u64;
                    watch.done
                };
                // Bytes beyond the announced length would be cut off silently.
                if state.length.is_some_and(|length| done > length) {
                    return Some((state.fail(changed()), state));
                }
                state.observer.tell(done, state.length);
                Ok(chunk)
            }
            Some(Err(error)) => state.fail(error),
            None if state
                .length
                .is_some_and(|length| lock(&state.watch).done < length) =>
            {
                state.fail(changed())
            }
            None => {
                lock(&state.watch).now(WaitsFor::Answer);
                Ok(state.after.take()?)
            }
        };
        Some((piece, state))
    })
}

/// Opens a local file. Returns its content and, if its size is fixed, its length.
async fn open(local: PathBuf) -> Result<(Chunks, Option<u64>)> {
    let shown = local.display().to_string();
    let failed = move |error| Error::local(format!("cannot read {shown}"), error);
    let opened = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(&local)?;
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // Generated files, such as those in /proc, report a length of zero.
        let fixed = meta.is_file() && meta.len() > 0;
        Ok((file, fixed.then(|| (meta.len(), meta.modified().ok()))))
    });
    let (file, fixed) = match opened.await {
        Ok(opened) => opened.map_err(failed)?,
        Err(error) => return Err(failed(io::Error::other(error))),
    };
    let chunks = read(file, move |file| match fixed {
        Some(before) => unchanged(file, before),
        None => Ok(()),
    });
    Ok((chunks, fixed.map(|(length, _)| length)))
}

/// Checks that a file has not changed since it was opened.
fn unchanged(file: &std::fs::File, before: (u64, Option<SystemTime>)) -> Result<()> {
    let meta = file
        .metadata()
        .map_err(|error| Error::local("cannot read the file's metadata again", error))?;
    if (meta.len(), meta.modified().ok()) == before {
        return Ok(());
    }
    Err(changed())
}

fn changed() -> Error {
    let context = "the file changed while it was being read; nothing was written on the server";
    Error::new(ErrorKind::Changed, context)
}

/// Reads on a separate thread, a few chunks ahead, until the end or until the receiver is dropped.
/// The last chunk is sent only after `check` has passed.
fn read<R: io::Read + Send + 'static>(
    mut reader: R,
    check: impl FnOnce(&R) -> Result<()> + Send + 'static,
) -> Chunks {
    let (sender, mut receiver) = mpsc::channel(READ_AHEAD);
    let mut reading = tokio::task::spawn_blocking(move || {
        let mut held = None;
        loop {
            match chunk(&mut reader) {
                Ok(chunk) if chunk.is_empty() => break,
                Ok(chunk) => {
                    if let Some(ready) = held.replace(chunk)
                        && sender.blocking_send(Ok(ready)).is_err()
                    {
                        return;
                    }
                }
                Err(error) => {
                    let error = Error::local("cannot read the source of the upload", error);
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            }
        }
        let last = check(&reader).map(|()| held);
        if let Some(last) = last.transpose() {
            let _ = sender.blocking_send(last);
        }
    });
    let mut ended = false;
    Box::pin(futures_util::stream::poll_fn(move |cx| {
        if ended {
            return Poll::Ready(None);
        }
        if let Some(chunk) = ready!(receiver.poll_recv(cx)) {
            return Poll::Ready(Some(chunk));
        }
        // The channel also closes when the reader panics.
        let read = ready!(Pin::new(&mut reading).poll(cx));
        ended = true;
        let broken = |error| {
            Error::local(
                "the task that reads the upload's source failed",
                io::Error::other(error),
            )
        };
        Poll::Ready(read.err().map(|error| Err(broken(error))))
    }))
}

/// Reads a full chunk, or the rest; returns an empty chunk at the end.
fn chunk(reader: &mut impl io::Read) -> io::Result<Bytes> {
    let mut chunk = vec![0; CHUNK];
    let mut filled = 0;
    while filled < CHUNK {
        match reader.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(chunk.into())
}

impl Workspace {
    /// Creates an upload to `path` on the server. Missing directories are created, and an existing
    /// file is replaced.
    ///
    /// ```no_run
    /// # async fn run(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
    /// workspace.upload("data/input.csv").from_path("input.csv").await?;
    /// # Ok(()) }
    /// ```
    pub fn upload(&self, path: impl Into<String>) -> Upload {
        Upload::new(self.clone(), path.into())
    }

    /// Writes a small file. Same as [`upload`](Self::upload) from bytes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Upload::from_bytes`].
    pub fn write(&self, path: impl Into<String>, content: impl Into<Bytes>) -> Request<()> {
        let path = path.into();
        let content = content.into();
        let this = self.clone();
        Request::new(async move { this.upload(path).from_bytes(content).await.map(drop) })
    }
}
