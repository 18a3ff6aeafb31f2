//! Downloads: where the bytes go.

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

/// A download about to begin. Say where to, and it does.
///
/// Memory is bounded unless the whole is asked for as bytes or text. Dropping the future ends it,
/// and leaves no file behind.
#[must_use = "a download does nothing until it is told where to"]
pub struct Download {
    workspace: Workspace,
    source: Result<(Source, String)>,
    idle: Duration,
    observer: Observer,
    growing: bool,
}

/// What a download gave.
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

    /// Downloads a file that others append to meanwhile, such as a log: the bytes are those that
    /// it had when the download began, and growing is no error. Without this, a file that changes
    /// in any way is [`ErrorKind::Changed`].
    ///
    /// What is appended cannot be told from what is rewritten, so use it only for files that are
    /// appended to. A file that becomes shorter is still [`ErrorKind::Changed`]. Archives,
    /// trajectories and static files are not affected.
    pub fn growing(mut self) -> Self {
        self.growing = true;
        self
    }

    /// How long nothing may arrive while something is waited for. Default 60 s. There is no limit
    /// to the whole.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle = limit;
        self
    }

    /// Is told of each piece that arrives.
    pub fn progress(mut self, observe: impl FnMut(Progress) + Send + 'static) -> Self {
        self.observer = Observer::new(observe);
        self
    }

    /// Begins, and gives the bytes as they arrive.
    ///
    /// # Errors
    ///
    /// When the server refuses: [`ErrorKind::NotFound`], [`ErrorKind::InvalidPath`] for a
    /// directory and the like; when it cannot be reached.
    pub async fn stream(self) -> Result<ByteStream> {
        let (source, path) = self.source?;
        let client = self.workspace.client();
        let (idle, growing) = (self.idle, self.growing);
        ByteStream::open(client, source, path, idle, self.observer, growing).await
    }

    /// Writes it to a local file. Missing directories are made. The file is there when it is
    /// whole, and then at once: until then, and if it fails, what was there stays.
    ///
    /// # Errors
    ///
    /// As [`stream`](Self::stream); [`ErrorKind::Local`] and [`ErrorKind::NoSpace`] when it cannot
    /// be written; [`ErrorKind::Changed`] when the file on the server does meanwhile.
    pub async fn to_path(self, local: impl Into<PathBuf>) -> Result<Downloaded> {
        let stream = self.stream().await?;
        let headers = stream.headers().clone();
        let size = write_file(stream, local.into()).await?;
        Ok(Downloaded { size, headers })
    }

    /// Writes it to a writer, on a thread of its own, and gives the writer back, flushed.
    ///
    /// # Errors
    ///
    /// As [`to_path`](Self::to_path). What was written before is written then.
    pub async fn to_writer<W: io::Write + Send + 'static>(self, writer: W) -> Result<W> {
        let stream = self.stream().await?;
        Ok(write_to(stream, writer).await?.0)
    }

    /// All of it in memory.
    ///
    /// # Errors
    ///
    /// As [`stream`](Self::stream).
    pub async fn bytes(self) -> Result<Bytes> {
        let mut stream = self.stream().await?;
        let mut whole = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            whole.extend_from_slice(&chunk?);
        }
        Ok(whole.freeze())
    }

    /// All of it in memory, as text.
    ///
    /// # Errors
    ///
    /// As [`stream`](Self::stream); [`ErrorKind::NotText`] when it is not UTF-8.
    pub async fn text(self) -> Result<String> {
        let path = self.source.as_ref().map(|(_, path)| path.clone());
        let path = path.unwrap_or_default();
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into()).map_err(|error| {
            let error = error.utf8_error();
            Error::new(ErrorKind::NotText, "the file is not UTF-8")
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
    /// How many bytes it is.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What the server says of an archive.
    pub fn archive(&self) -> ArchiveInfo {
        ArchiveInfo::from_headers(&self.headers)
    }
}

impl Workspace {
    /// Begins the download of a file of the server.
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

    /// Begins the download of a file as the conversation's web server gives it: `path` is below
    /// the conversation's workspace, and a directory is its `index.html`.
    ///
    /// Only [in the scope of a conversation](Self::in_conversation).
    pub fn static_file(&self, path: impl Into<String>) -> Download {
        let path = path.into();
        let source = self.conversation().ok_or_else(|| {
            let context = "a static file belongs to a conversation: see `in_conversation`";
            Error::invalid(context).at(&path)
        });
        let call = source.map(|id| files::StaticFile::new(id, &path));
        Download::new(self, call.map(|call| (Source::Static(call), path)))
    }

    /// Begins the download of all the server has on disk of a conversation, as a zip file.
    /// Secrets are masked in it.
    pub fn trajectory(&self, conversation: ConversationId) -> Download {
        let call = files::Trajectory::new(conversation).scope(self.scope());
        let name = format!("trajectory of {conversation}");
        Download::new(self, Ok((Source::Trajectory(call), name)))
    }
}
