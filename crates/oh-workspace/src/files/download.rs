//! Downloads and their destinations.

use std::{fmt, io, path::PathBuf, time::Duration};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use oh_protocol::{
    ConversationId,
    calls::files::{self, ArchiveInfo},
};
use oh_transport::WorkspaceHandle;

use super::{
    ByteStream, Observer, Progress,
    fetch::Source,
    save::{write_file, write_to},
};
use crate::{Error, ErrorKind, Result, Workspace};

/// A download that has not started. Choose a destination to start it.
///
/// Memory is bounded unless the whole file is requested as bytes or text. Dropping the future
/// cancels the download and leaves no file behind.
///
/// ```no_run
/// # async fn fetch(workspace: &oh_workspace::Workspace) -> Result<(), oh_workspace::Error> {
/// workspace.download("target/report.html").to_path("report.html").await?;
/// let text = workspace.download("notes.txt").text().await?;
/// # let _ = text;
/// # Ok(()) }
/// ```
#[must_use = "a download does nothing until a destination is chosen"]
pub struct Download {
    workspace: Workspace,
    source: Result<(Source, String)>,
    idle: Duration,
    observer: Observer,
    growing: bool,
}

/// The result of a download to a file.
#[derive(Debug, Clone)]
pub struct Downloaded {
    size: u64,
    headers: HeaderMap,
}

impl Download {
    pub(super) fn new(workspace: &Workspace, source: Result<(Source, String)>) -> Self {
        Self {
            workspace: workspace.clone(),
            source,
            idle: Duration::from_secs(60),
            observer: Observer::none(),
            growing: false,
        }
    }

    /// Allows the file to grow during the download, as a log does. The result contains the bytes
    /// that the file had when the download started. Without this, any change to the file is
    /// [`ErrorKind::Changed`].
    ///
    /// An append cannot be distinguished from a rewrite, so use this only for files that are
    /// appended to. A file that shrinks is still [`ErrorKind::Changed`]. Archives, trajectories and
    /// static files are not affected.
    pub fn growing(mut self) -> Self {
        self.growing = true;
        self
    }

    /// Sets how long the download may wait without receiving data. Default 60 s. The total duration
    /// is unlimited.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle = limit;
        self
    }

    /// Sets a callback for progress, called for each chunk that arrives.
    pub fn progress(mut self, observe: impl FnMut(Progress) + Send + 'static) -> Self {
        self.observer = Observer::new(observe);
        self
    }

    /// Starts the download and returns the bytes as they arrive.
    ///
    /// # Errors
    ///
    /// Returns an error if the server rejects the request, for example [`ErrorKind::NotFound`], or
    /// [`ErrorKind::InvalidPath`] for a directory; or if the server cannot be reached.
    pub async fn stream(self) -> Result<ByteStream> {
        let (source, path) = self.source?;
        let client = self.workspace.client();
        let (idle, growing) = (self.idle, self.growing);
        ByteStream::open(client, source, path, idle, self.observer, growing).await
    }

    /// Downloads to a local file. Missing directories are created. The file is renamed into place
    /// once it is complete; until then, and on failure, an existing file stays unchanged.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`stream`](Self::stream). Also returns [`ErrorKind::Io`] and
    /// [`ErrorKind::NoSpace`] if the file cannot be written; [`ErrorKind::Changed`] if the file on
    /// the server changes during the download.
    pub async fn to_path(self, local: impl Into<PathBuf>) -> Result<Downloaded> {
        let stream = self.stream().await?;
        let headers = stream.headers().clone();
        let size = write_file(stream, local.into()).await?;
        Ok(Downloaded { size, headers })
    }

    /// Writes the content to a writer, on a separate thread. Returns the flushed writer.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`to_path`](Self::to_path). Data already written to the writer stays
    /// written.
    pub async fn to_writer<W: io::Write + Send + 'static>(self, writer: W) -> Result<W> {
        let stream = self.stream().await?;
        Ok(write_to(stream, writer).await?.0)
    }

    /// Returns the whole content in memory.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`stream`](Self::stream).
    pub async fn bytes(self) -> Result<Bytes> {
        let mut stream = self.stream().await?;
        let mut whole = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            whole.extend_from_slice(&chunk?);
        }
        Ok(whole.freeze())
    }

    /// Returns the whole content in memory, as text.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`stream`](Self::stream). Also returns [`ErrorKind::NotText`] if the
    /// content is not UTF-8.
    pub async fn text(self) -> Result<String> {
        let path = self.source.as_ref().map(|(_, path)| path.clone());
        let path = path.unwrap_or_default();
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into()).map_err(|error| {
            let error = error.utf8_error();
            Error::new(ErrorKind::NotText, "the file is not valid UTF-8")
                .at(&path)
                .with_source(error)
        })
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("path", &self.source.as_ref().map(|(_, path)| path).ok())
            .finish_non_exhaustive()
    }
}

impl Downloaded {
    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the server's information about an archive.
    pub fn archive(&self) -> ArchiveInfo {
        ArchiveInfo::from_headers(&self.headers)
    }
}

impl Workspace {
    /// Creates the download of a file on the server.
    ///
    /// ```no_run
    /// # async fn run(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
    /// workspace.download("target/report.html").to_path("report.html").await?;
    /// let text = workspace.download("Cargo.toml").text().await?;
    /// # Ok(()) }
    /// ```
    pub fn download(&self, path: impl AsRef<str>) -> Download {
        let source = self.path(path.as_ref()).map(|path| {
            let call = files::Download::new(&path).scope(self.scope());
            (Source::File(call), path)
        });
        Download::new(self, source)
    }

    /// Creates the download of a file from the conversation's web server. `path` is relative to the
    /// conversation's workspace, and a directory means its `index.html`.
    ///
    /// Available only [in the scope of a conversation](Self::in_conversation).
    pub fn static_file(&self, path: impl Into<String>) -> Download {
        let path = path.into();
        let source = self.conversation().ok_or_else(|| {
            let context = "static files are available only in the scope of a conversation: see \
                           `in_conversation`";
            Error::invalid(context).at(&path)
        });
        let call = source.map(|id| files::StaticFile::new(id, &path));
        Download::new(self, call.map(|call| (Source::Static(call), path)))
    }

    /// Creates the download of everything that the server has on disk for a conversation, as a zip
    /// file. Secrets in it are masked.
    pub fn trajectory(&self, conversation: ConversationId) -> Download {
        let call = files::Trajectory::new(conversation).scope(self.scope());
        let name = format!("trajectory of {conversation}");
        Download::new(self, Ok((Source::Trajectory(call), name)))
    }
}
