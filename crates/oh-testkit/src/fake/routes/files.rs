//! The file routes, on an in-memory disk. Authorization is checked elsewhere.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use memchr::memmem;
use serde_json::{Value, json};

use crate::fake::{
    routes::archive,
    state::{
        disk::{HOME, Node, Refusal, is_within, normal},
        world::World,
    },
    wire::{
        known::undone,
        reply::{Answered, Call, decode, detail, invalid, missing, ok, page_limit, path},
    },
};
use crate::http::{self as server, Response};

pub(crate) fn route(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    match (method, rest) {
        ("POST", ["upload"]) => upload(world, call),
        ("GET", ["download"]) => download(world, call),
        ("POST", ["create_directory"]) => {
            let path = path(call)?;
            let made = world.disk.make_directory(&path);
            made.map_err(|refusal| match refusal {
                Refusal::Relative => relative(),
                _ => bad("Path exists and is not a directory"),
            })?;
            Ok(ok(&json!({"success": true})))
        }
        ("GET", ["home"]) => Ok(home(world, call)),
        ("GET", ["search_subdirs"]) => search(world, call),
        ("GET", ["archive"]) => archive(world, call),
        ("GET", ["download-trajectory", id]) => trajectory(world, id),
        _ => Err(undone(call).into()),
    }
}

fn bad(text: &str) -> Response {
    detail(StatusCode::BAD_REQUEST, text)
}

fn relative() -> Response {
    bad("Path must be absolute")
}

fn upload(world: &World, call: &Call) -> Answered {
    let (Some(path), Some(content)) = (call.query("path"), file_part(call)) else {
        let absent = [
            call.query("path")
                .is_none()
                .then(|| json!(["query", "path"])),
            file_part(call).is_none().then(|| json!(["body", "file"])),
        ];
        return Err(missing(absent.into_iter().flatten()).into());
    };
    let size = content.len();
    world
        .disk
        .write(&path, content)
        .map_err(|refusal| match refusal {
            Refusal::Relative => relative(),
            Refusal::IsDirectory => bad("Path is a directory"),
            Refusal::NotDirectory => bad("A parent of the path is not a directory"),
        })?;
    Ok(ok(&json!({"success": true, "file_size": size})))
}

/// Returns the part `file` of a multipart body. A part without the announced end is ignored.
fn file_part(call: &Call) -> Option<Bytes> {
    let kind = call.head.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (_, boundary) = kind.split_once("boundary=")?;
    let boundary = boundary.trim_matches('"');
    let open = format!("--{boundary}\r\n");
    let close = format!("\r\n--{boundary}");
    let mut at = memmem::find(&call.body, open.as_bytes())? + open.len();
    loop {
        let part = &call.body[at..];
        let head = memmem::find(part, b"\r\n\r\n")?;
        let from = at + head + 4;
        // An empty part ends with the newline that ends its head.
        let end = from - 2 + memmem::find(&call.body[from - 2..], close.as_bytes())?;
        let text = String::from_utf8_lossy(&part[..head]);
        if text.contains("name=\"file\"") && text.contains("filename=") {
            return Some(call.body.slice(from..end.max(from)));
        }
        at = end + close.len() + 2;
        if at >= call.body.len() {
            return None;
        }
    }
}

fn download(world: &World, call: &Call) -> Answered {
    let path = path(call)?;
    let path = normal(&path).ok_or_else(relative)?;
    let (content, version) = match world.disk.get(&path) {
        None => return Err(detail(StatusCode::NOT_FOUND, "File not found").into()),
        Some(Node::Directory) => return Err(bad("Path is not a file").into()),
        Some(Node::File { content, version }) => (content, version),
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    let response = attachment(content.clone(), name, "application/octet-stream");
    Ok(ranged(call, response, content, version))
}

/// Returns a file of a conversation's workspace as a web page. For a directory, returns its index.
pub(crate) fn page(world: &World, workspace: &str, call: &Call, rest: &[&str]) -> Answered {
    let missing = |text: &str| Err(detail(StatusCode::NOT_FOUND, text).into());
    if !matches!(world.disk.get(workspace), Some(Node::Directory)) {
        return missing("Workspace directory does not exist");
    }
    let path = decode(&rest.join("/"));
    let mut path = normal(&format!("{workspace}/{path}")).unwrap_or_default();
    if !is_within(&path, workspace) {
        return Err(bad("Path is outside the workspace").into());
    }
    if matches!(world.disk.get(&path), Some(Node::Directory)) {
        path.push_str("/index.html");
        if world.disk.read(&path).is_none() {
            return missing("No index.html in directory");
        }
    }
    let Some(Node::File { content, version }) = world.disk.get(&path) else {
        return missing("File not found");
    };
    let mut response = http::Response::new(server::full(content.clone()));
    let kind = HeaderValue::from_static(kind(&path));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(ranged(call, response, content, version))
}

/// Returns the content type for a file name.
fn kind(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.').map(|(_, kind)| kind) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("md") => "text/markdown; charset=utf-8",
        Some("csv") => "text/csv; charset=utf-8",
        Some("py") => "text/x-python; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("pdf") => "application/pdf",
        Some("zip") => "application/zip",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Restricts a response to the requested range, if any.
fn ranged(call: &Call, mut response: Response, content: Bytes, version: u64) -> Response {
    let etag = format!("\"{version:x}-{:x}\"", content.len());
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    text_header(headers, header::ETAG, &etag);
    let asked = |name| {
        call.head
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let same = asked(header::IF_RANGE).is_none_or(|wanted| wanted == etag);
    let Some(range) = asked(header::RANGE).filter(|_| same) else {
        return response;
    };
    let length = content.len();
    match part(range, length) {
        Some((from, to)) if from < to => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {from}-{}/{length}", to - 1);
            text_header(response.headers_mut(), header::CONTENT_RANGE, &value);
            *response.body_mut() = server::full(content.slice(from..to));
            response
        }
        Some(_) => {
            let mut refused = http::Response::new(server::full(Bytes::new()));
            *refused.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            refused.headers_mut().insert(header::CONTENT_TYPE, kind);
            let value = format!("bytes */{length}");
            text_header(refused.headers_mut(), header::CONTENT_RANGE, &value);
            refused
        }
        // Several ranges, or an invalid one: HTTP allows sending the whole file.
        None => response,
    }
}

/// Parses a `Range` header into a half-open range of bytes.
fn part(range: &str, length: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    match (from.is_empty(), to.is_empty()) {
        (true, false) => Some((length.saturating_sub(to.parse().ok()?), length)),
        (false, true) => Some((from.parse().ok()?, length)),
        (false, false) => Some((
            from.parse().ok()?,
            length.min(to.parse::<usize>().ok()? + 1),
        )),
        (true, true) => None,
    }
}

fn text_header(headers: &mut HeaderMap, name: header::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// Returns a file as a download.
fn attachment(content: impl Into<Bytes>, name: &str, kind: &'static str) -> Response {
    let mut response = http::Response::new(server::full(content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-~".contains(&byte));
    let value = match plain {
        true => format!("attachment; filename=\"{name}\""),
        false => {
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
            format!("attachment; filename*=utf-8''{encoded}")
        }
    };
    text_header(headers, header::CONTENT_DISPOSITION, &value);
    response
}

/// Returns the subdirectories of a directory. Hidden ones are included on request.
fn directories(world: &World, call: &Call, path: &str) -> Vec<String> {
    let hidden = call.query("include_hidden").as_deref() == Some("true");
    let below = world.disk.list(path).into_iter();
    let mut names: Vec<_> = below
        .filter(|(name, node)| {
            matches!(node, Node::Directory) && (hidden || !name.starts_with('.'))
        })
        .map(|(name, _)| name)
        .collect();
    names.sort_by_key(|name| (name.to_lowercase(), name.clone()));
    names
}

fn home(world: &World, call: &Call) -> Response {
    let favorites: Vec<_> = directories(world, call, HOME)
        .into_iter()
        .map(|name| json!({"label": name, "path": format!("{HOME}/{name}")}))
        .collect();
    ok(&json!({
        "home": HOME,
        "favorites": favorites,
        "locations": [{"label": "/", "path": "/"}],
    }))
}

/// Returns the directory in the query, or an error response.
fn directory(world: &World, call: &Call) -> Answered<String> {
    let path = path(call)?;
    let path = normal(&path).ok_or_else(relative)?;
    match world.disk.get(&path) {
        None => Err(detail(StatusCode::NOT_FOUND, "Directory not found").into()),
        Some(Node::File { .. }) => Err(bad("Path is not a directory").into()),
        Some(Node::Directory) => Ok(path),
    }
}

fn search(world: &World, call: &Call) -> Answered {
    let limit = page_limit(call)?;
    let path = directory(world, call)?;
    let names = directories(world, call, &path);
    let from = call.query("page_id");
    let start = from.and_then(|id| names.iter().position(|name| *name == id));
    let start = start.unwrap_or_default();
    let page = names.iter().skip(start).take(limit);
    let items: Vec<_> = page
        .map(|name| json!({"name": name, "path": format!("{path}/{name}")}))
        .collect();
    Ok(ok(
        &json!({"items": items, "next_page_id": names.get(start + limit)}),
    ))
}

/// Returns a directory as one file. The patch of a `git-delta` is set with the repository.
fn archive(world: &World, call: &Call) -> Answered {
    let format = call.query("format");
    let format = format.as_deref().unwrap_or("git-delta");
    if !matches!(format, "git-delta" | "tar.gz") {
        let rule = "Input should be 'git-delta' or 'tar.gz'";
        return Err(invalid("literal_error", json!(["query", "format"]), rule).into());
    }
    let path = directory(world, call)?;
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    if format == "tar.gz" {
        let files = world.disk.walk(&path).into_iter();
        let files = files.map(|(path, node)| match node {
            Node::Directory => (path, None),
            Node::File { content, .. } => (path, Some(content)),
        });
        let packed = archive::tar_gz(&name, files).map_err(unpacked)?;
        return Ok(attachment(
            packed,
            &format!("{name}.tar.gz"),
            "application/gzip",
        ));
    }
    let repositories = crate::fake::state::lock::lock(&world.repositories);
    let Some((root, repository)) = repositories.iter().find(|(root, _)| **root == path) else {
        let text = format!("Not a git repository: {path}");
        return Err(bad(&text).into());
    };
    let mut response = attachment(
        repository.patch.clone(),
        &format!("{name}.patch"),
        "text/x-patch; charset=utf-8",
    );
    let headers = response.headers_mut();
    let encoded = root.replace('/', "%2F");
    for (header, value) in [
        ("x-archive-repo-root", Some(encoded.as_str())),
        ("x-archive-head-commit", repository.head()),
        ("x-archive-base-commit", repository.head()),
        (
            "x-archive-base-ref",
            Some(call.query("base_ref").as_deref().unwrap_or("auto")),
        ),
    ] {
        if let Some(value) = value {
            text_header(headers, header::HeaderName::from_static(header), value);
        }
    }
    Ok(response)
}

/// Returns the response to a request for an archive that cannot be built.
fn unpacked(error: std::io::Error) -> Box<Response> {
    detail(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()).into()
}

/// Returns all data of a conversation as a zip, in the layout of the agent server's directory.
fn trajectory(world: &World, id: &str) -> Answered {
    let id = id.parse::<uuid::Uuid>().map_err(|_| {
        let at = json!(["path", "conversation_id"]);
        invalid("uuid_parsing", at, "Input should be a valid UUID")
    })?;
    let Some(conversation) = world.conversation(id) else {
        return Err(detail(StatusCode::NOT_FOUND, "Conversation not found").into());
    };
    let name = id.simple().to_string();
    let mut inner = conversation.lock();
    let mut files = vec![(
        format!("{name}/base_state.json"),
        Bytes::from(Value::Object(inner.info.clone()).to_string()),
    )];
    for (seq, raw) in inner.page(0, usize::MAX) {
        #[derive(serde::Deserialize)]
        struct Header {
            id: String,
        }
        let id = serde_json::from_slice::<Header>(&raw).map(|header| header.id);
        let id = id.unwrap_or_default();
        files.push((format!("{name}/events/event-{seq:05}-{id}.json"), raw));
    }
    drop(inner);
    let packed = archive::zip(files).map_err(unpacked)?;
    Ok(attachment(
        packed,
        &format!("{name}.zip"),
        "application/octet-stream",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed_as_in_http() {
        assert_eq!(part("bytes=2-", 10), Some((2, 10)));
        assert_eq!(part("bytes=2-4", 10), Some((2, 5)));
        assert_eq!(part("bytes=2-400", 10), Some((2, 10)));
        assert_eq!(part("bytes=-3", 10), Some((7, 10)));
        assert_eq!(part("bytes=10-", 10), Some((10, 10)));
        assert_eq!(part("bytes=0-1,4-5", 10), None);
        assert_eq!(part("lines=0-1", 10), None);
    }
}
