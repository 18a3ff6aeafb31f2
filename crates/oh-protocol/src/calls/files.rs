//! Files on the server.
//!
//! Calls with file content keep the whole content in memory and are intended for small files. For
//! large files, a transport can stream the same requests: see [`Upload::parts`], and
//! [`Call::request`](crate::Call::request) of the other calls.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::{Scope, call, query, scope::scoped_call, segment};
use crate::{ConversationId, Error, Request, Result, json::open_enum::open_enum};

fn check_path(path: &str) -> Result<()> {
    if path.is_empty() || path.contains('\0') {
        return Err(Error::invalid(
            "the path must not be empty or contain a NUL character",
        ));
    }
    Ok(())
}

/// `POST …/file/upload`: writes a file and creates its parent directories. Replaces an existing
/// file.
#[derive(Clone)]
pub struct Upload {
    scope: Scope,
    path: String,
    content: Bytes,
    boundary: String,
}

/// Uploads are equal if they write the same content to the same path.
impl PartialEq for Upload {
    fn eq(&self, other: &Self) -> bool {
        (self.scope, &self.path, &self.content) == (other.scope, &other.path, &other.content)
    }
}

// A file may be large and contain secrets, so only its size is shown.
impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("scope", &self.scope)
            .field("path", &self.path)
            .field("content_bytes", &self.content.len())
            .finish_non_exhaustive()
    }
}

/// The parts of an upload, without its content. The body consists of `before`, the content and
/// `after`, in this order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct UploadParts {
    /// The request, without a body.
    pub request: Request,
    /// The first bytes of the body, before the content.
    pub before: Bytes,
    /// The last bytes of the body, after the content. Without them, the server writes nothing.
    pub after: Bytes,
}

/// The result of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UploadResult {
    /// The number of bytes that the server wrote. `None` for older servers.
    #[serde(default)]
    pub file_size: Option<u64>,
}

impl Upload {
    /// Creates a call that writes `content` to the absolute `path`.
    pub fn new(path: impl Into<String>, content: impl Into<Bytes>) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
            content: content.into(),
            // The boundary is random, so that the content cannot contain it.
            boundary: uuid::Uuid::new_v4().simple().to_string(),
        }
    }

    /// Returns the request for a transport that streams the content. The content of `self` is not
    /// used.
    ///
    /// # Errors
    ///
    /// Returns an error if the path is invalid.
    pub fn parts(&self) -> Result<UploadParts> {
        check_path(&self.path)?;
        let mut target = self.scope.base() + "/file/upload";
        query(&mut target, "path", &self.path);
        let mut request = Request::new(http::Method::POST, target);
        let boundary = &self.boundary;
        let content_type =
            HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"))
                .map_err(|error| Error::encode("content type of an upload", error))?;
        request.headers.insert(header::CONTENT_TYPE, content_type);
        // The server uses `path`; the file name only marks the part as a file.
        let before = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        Ok(UploadParts {
            request,
            before: before.into(),
            after: format!("\r\n--{boundary}--\r\n").into(),
        })
    }
}

scoped_call!(Upload => UploadResult, POST "/file/upload", Idempotent;
    |this, _base| {
        let parts = this.parts()?;
        let mut request = parts.request;
        request.body = Some([&parts.before[..], &this.content, &parts.after].concat().into());
        Ok(request)
    };
    |answer| answer.json("result of an upload"));

/// `GET …/file/download`: returns the content of a file.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Download {
    scope: Scope,
    path: String,
    from: u64,
    etag: Option<String>,
}

impl Download {
    /// Creates a call for the whole file at the absolute `path`.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
            from: 0,
            etag: None,
        }
    }

    /// Requests only the content after the first `offset` bytes, provided that the file's `ETag` is
    /// still `etag`. In that case, the result is [`Downloaded::Rest`]. If the file has changed, the
    /// result is [`Downloaded::Whole`] with the new file.
    pub fn resume(mut self, offset: u64, etag: impl Into<String>) -> Self {
        self.from = offset;
        self.etag = Some(etag.into());
        self
    }
}

/// The result of a [`Download`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Downloaded {
    /// The whole file.
    Whole(Bytes),
    /// The content after the requested offset, which the caller appends to its existing data.
    Rest(Bytes),
}

impl Downloaded {
    /// Returns the bytes of either variant.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Whole(bytes) | Self::Rest(bytes) => bytes,
        }
    }
}

// A file may be large and contain secrets, so only its size is shown.
impl fmt::Debug for Downloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Whole(_) => "Whole",
            Self::Rest(_) => "Rest",
        };
        write!(f, "{name}({} bytes)", self.bytes().len())
    }
}

scoped_call!(Download => Downloaded, GET "/file/download", Idempotent;
|this, base| {
    check_path(&this.path)?;
    let mut target = base + "/file/download";
    query(&mut target, "path", &this.path);
    let mut request = Request::new(http::Method::GET, target);
    if let Some(etag) = &this.etag {
        let etag = HeaderValue::from_str(etag)
            .map_err(|error| Error::encode("ETag of a download", error))?;
        let range = HeaderValue::from_str(&format!("bytes={}-", this.from))
            .map_err(|error| Error::encode("range of a download", error))?;
        request.headers.insert(header::IF_RANGE, etag);
        request.headers.insert(header::RANGE, range);
    }
    Ok(request)
};
|answer| Ok(match answer.status {
    StatusCode::PARTIAL_CONTENT => Downloaded::Rest(answer.bytes("file")?),
    _ => Downloaded::Whole(answer.bytes("file")?),
}));

/// `POST …/file/create_directory`: creates a directory and its parents. An existing directory is
/// left unchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateDirectory {
    scope: Scope,
    path: String,
}

impl CreateDirectory {
    /// Creates a call for the directory at the absolute `path`.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
        }
    }
}

scoped_call!(CreateDirectory => (), POST "/file/create_directory", Idempotent;
    |this, base| {
        check_path(&this.path)?;
        let mut target = base + "/file/create_directory";
        query(&mut target, "path", &this.path);
        Ok(Request::new(http::Method::POST, target))
    };
    |answer| answer.done("response"));

open_enum! {
    /// The format of an archive.
    ArchiveFormat {
        /// A patch with the differences between the working tree and a ref.
        GitDelta = "git-delta",
        /// A compressed tar file of the whole directory.
        TarGz = "tar.gz",
    }
}

/// `GET …/file/archive`: returns a directory as one file, without the credentials that git stores
/// in it.
///
/// If a directory is not a repository but contains exactly one, up to three levels down, that
/// repository is archived.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Archive {
    scope: Scope,
    path: String,
    format: ArchiveFormat,
    base_ref: Option<String>,
    excludes: Vec<String>,
    default_excludes: bool,
}

/// The metadata of an archive, from the response headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArchiveInfo {
    /// The root of the archived repository.
    pub repo_root: Option<String>,
    /// The URL of the repository's remote.
    pub repo_remote: Option<String>,
    /// The current branch.
    pub branch: Option<String>,
    /// The current commit.
    pub head_commit: Option<String>,
    /// The base commit of a patch.
    pub base_commit: Option<String>,
    /// The base ref of a patch, or `auto` if none was specified.
    pub base_ref: Option<String>,
}

impl Archive {
    /// Creates a call for the directory at the absolute `path`.
    pub fn new(path: impl Into<String>, format: ArchiveFormat) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
            format,
            base_ref: None,
            excludes: Vec::new(),
            default_excludes: true,
        }
    }

    /// Sets the base ref of a patch. By default, the server chooses it.
    pub fn base_ref(mut self, git_ref: impl Into<String>) -> Self {
        self.base_ref = Some(git_ref.into());
        self
    }

    /// Excludes files that match this pattern. Can be called several times.
    pub fn exclude(mut self, pattern: impl Into<String>) -> Self {
        self.excludes.push(pattern.into());
        self
    }

    /// Sets whether caches, dependencies and build output are excluded. Default: true.
    pub fn default_excludes(mut self, yes: bool) -> Self {
        self.default_excludes = yes;
        self
    }
}

impl ArchiveInfo {
    /// Decodes the headers of a response.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let written = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let read = |name: &str| written(name).map(|text| unquote(&text));
        Self {
            repo_root: read("x-archive-repo-root"),
            repo_remote: read("x-archive-repo-remote"),
            branch: read("x-archive-branch"),
            head_commit: read("x-archive-head-commit"),
            base_commit: read("x-archive-base-commit"),
            // The server sends this header without percent-encoding.
            base_ref: written("x-archive-base-ref"),
        }
    }
}

/// Decodes percent-encoding. An invalid percent sign is kept.
fn unquote(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

scoped_call!(Archive => (ArchiveInfo, Bytes), GET "/file/archive", Idempotent;
    |this, base| {
        check_path(&this.path)?;
        let unusable = |git_ref: &String| git_ref.is_empty() || git_ref.starts_with('-');
    if this.base_ref.as_ref().is_some_and(unusable) {
            return Err(Error::invalid("the git ref must not be empty or begin with `-`"));
        }
        let mut target = base + "/file/archive";
        query(&mut target, "path", &this.path);
        query(&mut target, "format", this.format.as_str());
        if let Some(git_ref) = &this.base_ref {
            query(&mut target, "base_ref", git_ref);
        }
        if !this.default_excludes {
            query(&mut target, "use_default_excludes", "false");
        }
        for pattern in &this.excludes {
            query(&mut target, "exclude", pattern);
        }
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| Ok((ArchiveInfo::from_headers(&answer.headers), answer.bytes("archive")?)));

/// `GET …/file/download-trajectory/{conversation_id}`: returns all of a conversation's files on the
/// server as a zip file. Secrets are masked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trajectory {
    scope: Scope,
    conversation: ConversationId,
}

impl Trajectory {
    /// Creates a call for this conversation.
    pub fn new(conversation: ConversationId) -> Self {
        Self {
            scope: Scope::Server,
            conversation,
        }
    }
}

scoped_call!(Trajectory => Bytes, GET "/file/download-trajectory/{conversation_id}", Idempotent;
    |this, base| Ok(Request::new(
        http::Method::GET,
        format!("{base}/file/download-trajectory/{}", this.conversation),
    ));
    |answer| answer.bytes("trajectory"));

/// `GET /api/file/home`: returns the home directory and the places to start browsing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[must_use]
pub struct GetHome {
    include_hidden: bool,
}

impl GetHome {
    /// Creates a call that omits hidden directories, whose names start with a dot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether hidden directories are included.
    pub fn include_hidden(mut self, yes: bool) -> Self {
        self.include_hidden = yes;
        self
    }
}

/// The places to start browsing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Home {
    /// The home directory of the server's user.
    pub home: String,
    /// The directories in the home directory.
    #[serde(default)]
    pub favorites: Vec<Place>,
    /// The file system roots: `/` or the drives.
    #[serde(default)]
    pub locations: Vec<Place>,
}

/// A directory to start browsing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Place {
    /// The display name.
    pub label: String,
    /// The absolute path.
    pub path: String,
}

call!(GetHome => Home, GET "/api/file/home", Idempotent;
    |this| {
        let mut target = "/api/file/home".to_owned();
        if this.include_hidden {
            query(&mut target, "include_hidden", "true");
        }
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("home directory"));

/// `GET /api/file/search_subdirs`: returns the subdirectories of a directory, sorted by name,
/// without symbolic links.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct SearchSubdirs {
    path: String,
    page_id: Option<String>,
    limit: u32,
    include_hidden: bool,
}

/// A page of directories.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct SubdirectoryPage {
    /// The directories.
    pub items: Vec<Subdirectory>,
    /// The id of the next page. `None` for the last page.
    #[serde(default)]
    pub next_page_id: Option<String>,
}

/// A subdirectory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Subdirectory {
    /// The name of the directory.
    pub name: String,
    /// The absolute path.
    pub path: String,
}

impl SearchSubdirs {
    /// Creates a call for the first 100 subdirectories of the absolute `path`.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            page_id: None,
            limit: 100,
            include_hidden: false,
        }
    }

    /// Sets the id of the page, from an earlier response.
    pub fn page_id(mut self, page_id: impl Into<String>) -> Self {
        self.page_id = Some(page_id.into());
        self
    }

    /// Sets the number of directories per page, from 1 to 100.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Sets whether hidden directories, whose names start with a dot, are included.
    pub fn include_hidden(mut self, yes: bool) -> Self {
        self.include_hidden = yes;
        self
    }
}

call!(SearchSubdirs => SubdirectoryPage, GET "/api/file/search_subdirs", Idempotent;
    |this| {
        check_path(&this.path)?;
        if !(1..=100).contains(&this.limit) {
            return Err(Error::invalid("the page limit of directories must be between 1 and 100"));
        }
        let mut target = "/api/file/search_subdirs".to_owned();
        query(&mut target, "path", &this.path);
        query(&mut target, "limit", &this.limit.to_string());
        if this.include_hidden {
            query(&mut target, "include_hidden", "true");
        }
        if let Some(page_id) = &this.page_id {
            query(&mut target, "page_id", page_id);
        }
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("directories"));

/// `GET /api/conversations/{conversation_id}/workspace/{file_path}`: returns a file in a
/// conversation's workspace, like a web server. For a directory, returns its `index.html`.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticFile {
    conversation: ConversationId,
    path: String,
}

impl StaticFile {
    /// Creates a call for the file at `path`, relative to the workspace. An empty path is the
    /// workspace itself.
    pub fn new(conversation: ConversationId, path: impl Into<String>) -> Self {
        Self {
            conversation,
            path: path.into(),
        }
    }
}

call!(StaticFile => Bytes, GET "/api/conversations/{conversation_id}/workspace/{file_path}",
    Idempotent;
    |this| {
        let parts = this.path.split('/').filter(|part| !part.is_empty());
        let mut target = format!("/api/conversations/{}/workspace", this.conversation);
        for part in parts {
            if matches!(part, "." | "..") {
                return Err(Error::invalid("the path must not contain `.` or `..`"));
            }
            target.push('/');
            target.push_str(&segment(part));
        }
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| Ok(answer.body));
