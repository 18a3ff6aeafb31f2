//! A response body as a stream that survives its connection: it resumes from the middle if the
//! server supports that and the file is unchanged.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use oh_protocol::{Answer, Call, Request, calls::files};
use oh_transport::{Backoff, Body, Client, ErrorKind as Theirs, WorkspaceHandle as _};

use super::{Observer, refused};
use crate::{Error, ErrorKind, Result, Workspace};

/// Maximum number of attempts to resume without receiving a single byte.
const TRIES: u32 = 5;
/// The size of the blocks in which the server reads a file, each at one moment.
const SERVER_BLOCK: u64 = 64 * 1024;

/// The largest part of a growing file that is read at once.
const PIECE: u64 = 1024 * 1024;
/// Maximum time without data while such a part is read.
const IDLE: Duration = Duration::from_secs(60);

/// The source of a download.
#[derive(Debug, Clone)]
pub(super) enum Source {
    File(files::Download),
    Static(files::StaticFile),
    Archive(files::Archive),
    Trajectory(files::Trajectory),
}

/// The requested part of a source.
#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    /// The whole source.
    Whole,
    /// The part from an offset, of the version with this ETag.
    Rest(u64, &'a str),
    /// The part from an offset to the end, or to another offset, of any version.
    Range(u64, Option<u64>),
}

impl Source {
    fn request(&self, part: Part<'_>) -> oh_protocol::Result<Request> {
        match (self, part) {
            (Self::File(call), Part::Rest(offset, etag)) => {
                call.clone().resume(offset, etag).request()
            }
            (Self::File(call), Part::Range(from, until)) => {
                let mut request = call.request()?;
                let last = until.map(|until| until.saturating_sub(1).to_string());
                let range = format!("bytes={from}-{}", last.unwrap_or_default());
                if let Ok(range) = HeaderValue::try_from(range) {
                    request.headers.insert(header::RANGE, range);
                }
                Ok(request)
            }
            (Self::File(call), Part::Whole) => call.request(),
            (Self::Static(call), _) => call.request(),
            (Self::Archive(call), _) => call.request(),
            (Self::Trajectory(call), _) => call.request(),
        }
    }

    /// Rejects a web page, which a gateway sent in the server's place. Only static files may be
    /// pages; the server sends them with an ETag.
    fn check(&self, answer: http::Response<Body>) -> oh_transport::Result<http::Response<Body>> {
        let (head, body) = answer.into_parts();
        let known = Answer::new(head.status, head.headers.clone(), Bytes::new());
        let own = matches!(self, Self::Static(_)) && head.headers.contains_key(header::ETAG);
        if known.is_web_page() && !own {
            let message = "not the response of an agent server: a web page";
            return Err(oh_transport::Error::new(Theirs::NotAnAgentServer, message));
        }
        Ok(http::Response::from_parts(head, body))
    }

    /// Returns whether a download can resume. Archives are packed again for each request.
    fn resumes(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// The bytes of a file as they arrive. A slow reader delays the server and loses nothing.
///
/// When the connection breaks, the stream reconnects and resumes the file at the same position. If
/// the file has changed in between, the error is [`ErrorKind::Changed`]. For a file that may
/// [grow](crate::Download::growing), the stream yields the bytes that the file had when the
/// download started.
#[must_use = "streams do nothing unless polled"]
pub struct ByteStream {
    chunks: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
    length: Option<u64>,
    headers: HeaderMap,
}

impl ByteStream {
    /// Requests the source and returns its bytes.
    pub(super) async fn open(
        client: &Client,
        source: Source,
        path: String,
        idle: Duration,
        observer: Observer,
        growing: bool,
    ) -> Result<Self> {
        let failed = |error: oh_transport::Error| refused("the download failed", &path, error);
        let growing = growing && source.resumes();
        let part = match growing {
            // For a range, the server sends only up to the end of the file at the time of the
            // request.
            true => Part::Range(0, None),
            false => Part::Whole,
        };
        let opened = ask(client, &source, part, idle).await;
        let (head, body) = match opened {
            // An empty file has no range.
            Err(error) if growing && error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) => {
                http::Response::new(Body::empty()).into_parts()
            }
            opened => opened.map_err(failed)?.into_parts(),
        };
        let length = body.length();
        let etag = head.headers.get(header::ETAG);
        let etag = etag.and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let state = Fetching {
            client: client.clone(),
            resume: match (etag, length) {
                (_, Some(length)) if growing => Some(Resume::Same(length)),
                (Some(etag), _) if source.resumes() => Some(Resume::Version(etag)),
                _ => None,
            },
            source,
            path,
            idle,
            body,
            done: 0,
            length,
            observer,
            backoff: fresh(),
        };
        let chunks = futures_util::stream::try_unfold(state, |mut state| async move {
            Ok(state.next().await?.map(|chunk| (chunk, state)))
        });
        Ok(Self {
            chunks: Box::pin(chunks),
            length,
            headers: head.headers,
        })
    }

    /// Returns the total number of bytes, when the server reports it.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns the response headers. Those of an archive describe its repository: see
    /// [`ArchiveInfo`](files::ArchiveInfo).
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl ByteStream {
    /// Waits for the next chunk. Returns `None` at the end of the file. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        futures_util::StreamExt::next(self).await
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

fn fresh() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(2))
}

/// Reads a part of a file that is appended to, from an offset on. Empty at the end of the file.
pub(crate) async fn piece(workspace: &Workspace, path: &str, from: u64) -> Result<Bytes> {
    let client = workspace.client();
    let failed = |error: oh_transport::Error| refused("cannot read the output", path, error);
    let source = Source::File(files::Download::new(path).scope(workspace.scope()));
    let part = Part::Range(from, Some(from.saturating_add(PIECE)));
    let answer = match ask(client, &source, part, IDLE).await {
        Err(error) if error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) => {
            return Ok(Bytes::new());
        }
        answer => answer.map_err(failed)?,
    };
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        // An empty file, or a gateway that ignores ranges.
        let empty = answer.body().length() == Some(0);
        return match empty {
            true => Ok(Bytes::new()),
            false => {
                let context = "cannot read the output: the server or a gateway ignores ranges";
                Err(Error::new(ErrorKind::Unsupported, context).at(path))
            }
        };
    }
    answer
        .into_body()
        .collect(PIECE as usize)
        .await
        .map_err(failed)
}

async fn ask(
    client: &Client,
    source: &Source,
    part: Part<'_>,
    idle: Duration,
) -> oh_transport::Result<http::Response<Body>> {
    let mut backoff = fresh();
    loop {
        let request = source.request(part)?;
        let answer = client.stream_within(request, Body::empty(), idle).await;
        let answer = match answer {
            Ok(answer) => client.accepted(answer).await,
            Err(error) => Err(error),
        };
        let answer = answer.and_then(|answer| source.check(answer));
        match answer {
            // A retry is safe: no bytes have been returned yet.
            Err(error) if passing(&error) && backoff.attempts() < TRIES => {
                tokio::time::sleep(backoff.next_delay()).await;
            }
            answer => return answer,
        }
    }
}

fn passing(error: &oh_transport::Error) -> bool {
    let gateway = matches!(
        error.status(),
        Some(StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
    );
    gateway || matches!(error.kind(), Theirs::Connect | Theirs::Interrupted)
}

/// The condition for a download to resume after its connection broke.
enum Resume {
    /// The file still has this ETag.
    Version(String),
    /// The file still has at least this many bytes.
    Same(u64),
}

struct Fetching {
    client: Client,
    source: Source,
    path: String,
    idle: Duration,
    /// `None` when the source cannot be resumed.
    resume: Option<Resume>,
    body: Body,
    done: u64,
    length: Option<u64>,
    observer: Observer,
    backoff: Backoff,
}

impl Fetching {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.body.next().await {
                Some(Ok(chunk)) => {
                    self.done += chunk.len() as u64;
                    self.observer.tell(self.done, self.length);
                    self.backoff = fresh();
                    return Ok(Some(chunk));
                }
                None => {
                    self.unchanged().await?;
                    return Ok(None);
                }
                Some(Err(error)) => self.reconnect(error).await?,
            }
        }
    }

    /// Checks that the downloaded bytes come from one version of the file. A file that was
    /// rewritten during the download may have the same length as before.
    async fn unchanged(&mut self) -> Result<()> {
        let Some(Resume::Version(etag)) = &self.resume else {
            return Ok(());
        };
        if self.done <= SERVER_BLOCK {
            return Ok(());
        }
        let part = Part::Rest(self.done - 1, etag);
        let answer = ask(&self.client, &self.source, part, self.idle).await;
        let answer = answer.map_err(|error| match error.kind() {
            Theirs::NotFound => changed(&self.path),
            _ => refused(
                "cannot check that the downloaded file is complete and unchanged",
                &self.path,
                error,
            )
            .midway(),
        })?;
        // A server without range support returns the whole file, with the same ETag.
        let same = answer
            .headers()
            .get(header::ETAG)
            .and_then(|etag| etag.to_str().ok());
        match answer.status() == StatusCode::PARTIAL_CONTENT || same == Some(etag.as_str()) {
            true => Ok(()),
            false => Err(changed(&self.path)),
        }
    }

    /// Reconnects and resumes after the bytes that have arrived, or returns the connection's error.
    async fn reconnect(&mut self, broken: oh_transport::Error) -> Result<()> {
        let failed = |error| refused("the download was interrupted", &self.path, error).midway();
        let Some(resume) = &self.resume else {
            return Err(failed(broken));
        };
        if !passing(&broken) || self.backoff.attempts() >= TRIES {
            return Err(failed(broken));
        }
        tokio::time::sleep(self.backoff.next_delay()).await;
        let (part, until) = match resume {
            Resume::Version(etag) => (Part::Rest(self.done, etag), None),
            Resume::Same(length) => (Part::Range(self.done, Some(*length)), Some(*length)),
        };
        let answer = ask(&self.client, &self.source, part, self.idle).await;
        let answer = answer.map_err(|error| match error.status() {
            // The file is now shorter than the part that was downloaded.
            Some(StatusCode::RANGE_NOT_SATISFIABLE) => changed(&self.path),
            _ => failed(error),
        })?;
        let range = answer.headers().get(header::CONTENT_RANGE);
        let range = range.and_then(|range| {
            let range = range.to_str().ok()?.strip_prefix("bytes ")?;
            let (begins, rest) = range.split_once('-')?;
            let last = rest.split('/').next()?.parse::<u64>().ok()?;
            Some((begins.parse::<u64>().ok()?, last.checked_add(1)?))
        });
        let fits = range.is_some_and(|(begins, ends)| {
            begins == self.done && until.is_none_or(|until| ends == until)
        });
        if answer.status() != StatusCode::PARTIAL_CONTENT || !fits {
            return Err(changed(&self.path));
        }
        self.body = answer.into_body();
        Ok(())
    }
}

fn changed(path: &str) -> Error {
    let context = "the file changed on the server during the download; download it again";
    Error::new(ErrorKind::Changed, context).at(path)
}
