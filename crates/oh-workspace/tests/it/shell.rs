//! A server that runs command lines with this machine's shell, so that they have real effects.
//! Faults can be planned for each request.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use oh_transport::{
    Body, Client, Error, ErrorKind, HttpTransport, Result, Socket, SocketTransport,
};
use oh_workspace::Workspace;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, process::Command, sync::mpsc};
use url::Url;

/// How a request is handled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plan {
    Serve,
    /// Nothing reaches the server.
    Refuse,
    /// The server acts, and its response is lost.
    LoseAnswer,
    /// Half of the response's body arrives.
    Cut,
    /// The request is lost, which looks like a lost response.
    Vanish,
    /// The server responds with this status, and does nothing.
    Status(u16),
}

type Planned = Box<dyn Fn(&str, &str) -> Plan + Send>;

/// The server. Commands run in its own directory, with `TMPDIR` below it.
#[derive(Clone)]
pub(crate) struct Shell(Arc<Inner>);

struct Inner {
    root: TempDir,
    shell: &'static str,
    /// The `PATH` for commands of callers.
    path: Mutex<Option<String>>,
    plan: Mutex<Planned>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The events of each command, the command first.
    commands: HashMap<String, Vec<Value>>,
    pids: HashMap<String, u32>,
    /// The target and the body of each request.
    log: Vec<(String, String)>,
    /// Responses to requests that this server does not handle itself.
    answers: HashMap<String, (u16, String)>,
    /// The connected sockets, if sockets are enabled.
    listeners: Option<Vec<mpsc::UnboundedSender<String>>>,
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shell")
    }
}

impl Shell {
    /// Creates a server whose `sh` is this program.
    pub(crate) fn new(shell: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["tmp", "work"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        Self(Arc::new(Inner {
            root,
            shell,
            path: Mutex::default(),
            plan: Mutex::new(Box::new(|_, _| Plan::Serve)),
            state: Mutex::default(),
        }))
    }

    /// Sets a function of path and body that decides how each later request is handled.
    pub(crate) fn plan(&self, plan: impl Fn(&str, &str) -> Plan + Send + 'static) {
        *self.0.plan.lock().unwrap() = Box::new(plan);
    }

    /// Puts this directory in front of the `PATH` for commands of callers.
    pub(crate) fn programs(&self, directory: &Path) {
        let path = std::env::var("PATH").unwrap();
        self.path(&format!("{}:{path}", directory.display()));
    }

    /// Sets the `PATH` for commands of callers.
    pub(crate) fn path(&self, path: &str) {
        *self.0.path.lock().unwrap() = Some(path.to_owned());
    }

    /// Answers requests for this path with a status and a body.
    pub(crate) fn answer(&self, path: &str, status: u16, body: &Value) {
        let mut state = self.0.state.lock().unwrap();
        let answer = (status, body.to_string());
        state.answers.insert(path.to_owned(), answer);
    }

    pub(crate) fn workspace(&self) -> Workspace {
        let client = Client::builder("http://shell.test")
            .session_api_key("key")
            .http_transport(self.clone())
            .socket_transport(self.clone())
            .build()
            .unwrap();
        Workspace::new(&client, self.work().to_str().unwrap())
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.0.root.path().join("work")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.0.root.path().join("tmp")
    }

    /// Enables sockets.
    pub(crate) fn with_socket(self) -> Self {
        self.0.state.lock().unwrap().listeners = Some(Vec::new());
        self
    }

    /// Sends a frame to all connected sockets.
    pub(crate) fn tell(&self, frame: &Value) {
        let state = self.0.state.lock().unwrap();
        for listener in state.listeners.iter().flatten() {
            let _ = listener.send(frame.to_string());
        }
    }

    /// Returns the content of the server's temporary directory.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.tmp()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn note(&self, path: &str, body: String) {
        let mut state = self.0.state.lock().unwrap();
        state.log.push((path.to_owned(), body));
    }

    /// Returns the paths and bodies of all requests so far.
    pub(crate) fn log(&self) -> Vec<(String, String)> {
        self.0.state.lock().unwrap().log.clone()
    }

    async fn execute(
        &self,
        base: &str,
        body: &str,
        path: Option<String>,
    ) -> (String, tokio::task::JoinHandle<()>) {
        let request: Value = serde_json::from_str(body).unwrap();
        let id = format!("{:032x}", self.0.state.lock().unwrap().commands.len() + 1);
        let line = request["command"].as_str().unwrap().to_owned();
        let cwd = request["cwd"].as_str().unwrap().to_owned();
        let reached = self.reaches(base, Path::new(&cwd));
        assert!(reached, "cwd must be inside the conversation workspace");
        let command = json!({"kind": "BashCommand", "id": id, "timestamp": jiff::Timestamp::now(),
            "command": line, "cwd": cwd, "timeout": request["timeout"], "base": base});
        self.tell(&command);
        let mut state = self.0.state.lock().unwrap();
        state.commands.insert(id.clone(), vec![command]);
        drop(state);
        let (server, name) = (self.clone(), id.clone());
        let running = tokio::spawn(async move {
            let ended = server.run(&name, &line, &cwd, path).await;
            server.tell(&ended);
            let mut state = server.0.state.lock().unwrap();
            state.commands.get_mut(&name).unwrap().push(ended);
        });
        (id, running)
    }

    async fn run(&self, id: &str, line: &str, cwd: &str, path: Option<String>) -> Value {
        let mut words = self.0.shell.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("-c").arg(line).current_dir(cwd);
        command.env("TMPDIR", self.tmp()).process_group(0);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let reported = |code: i32, out: &[u8], err: &str| {
            json!({"kind": "BashOutput", "id": format!("o{id}"), "command_id": id, "order": 0,
                "timestamp": jiff::Timestamp::now(), "exit_code": code,
                "stdout": String::from_utf8_lossy(out), "stderr": err})
        };
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let mut reported = reported(-1, b"", &format!("Error executing command: {error}"));
                reported["stdout"] = Value::Null;
                return reported;
            }
        };
        let pid = child.id().unwrap();
        self.0.state.lock().unwrap().pids.insert(id.to_owned(), pid);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (_, _, status) = tokio::join!(
            stdout.read_to_end(&mut out),
            stderr.read_to_end(&mut err),
            child.wait(),
        );
        let status = status.unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let code = status.code().unwrap_or_else(|| -signal.unwrap_or_default());
        reported(code, &out, &String::from_utf8_lossy(&err))
    }

    /// Sends a signal to a command's processes, including those that outlived it.
    pub(crate) fn kill(&self, id: &str, signal: &str) {
        let pid = self.0.state.lock().unwrap().pids.get(id).copied();
        if let Some(pid) = pid {
            let group = format!("-{pid}");
            let status = std::process::Command::new("kill")
                .args(["-s", signal, "--", &group])
                .status();
            assert!(status.is_ok());
        }
    }

    /// Returns whether a request may use this path: in a conversation's scope, only paths in its
    /// workspace.
    fn reaches(&self, route: &str, at: &Path) -> bool {
        !route.starts_with("/api/conversations/") || at.starts_with(self.work())
    }

    /// Returns a file as the server does: from the start of the range to the current end of the
    /// file.
    fn download(&self, at: &Path, range: Option<&str>) -> (u16, HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        let Ok(content) = std::fs::read(at) else {
            return (404, headers, r#"{"detail":"File not found"}"#.into());
        };
        let length = content.len();
        headers.insert("etag", format!("\"{length}\"").parse().unwrap());
        let Some(range) = range.and_then(|range| range.strip_prefix("bytes=")) else {
            return (200, headers, content.into());
        };
        let (first, last) = range.split_once('-').unwrap();
        let first: usize = first.parse().unwrap();
        let end = last
            .parse()
            .map_or(length, |last: usize| length.min(last + 1));
        if first >= length {
            let reported = format!("bytes */{length}").parse().unwrap();
            headers.insert("content-range", reported);
            return (416, headers, Bytes::new());
        }
        let reported = format!("bytes {first}-{}/{length}", end - 1);
        headers.insert("content-range", reported.parse().unwrap());
        (206, headers, Bytes::from(content).slice(first..end))
    }

    async fn serve(&self, path: &str, query: &str, body: Bytes) -> (u16, Bytes) {
        let pair = |name: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
        };
        let text = String::from_utf8_lossy(&body).into_owned();
        let known = self.0.state.lock().unwrap().answers.get(path).cloned();
        if let Some((status, body)) = known {
            return (status, body.into());
        }
        let ok = |value: &Value| (200, Bytes::from(value.to_string()));
        let Some((base, rest)) = path.split_once("/bash/") else {
            let at = PathBuf::from(pair("path").unwrap_or_default());
            if !self.reaches(path, &at) {
                return (
                    422,
                    r#"{"detail":"path must be inside the conversation workspace"}"#.into(),
                );
            }
            return match path {
                _ if path.ends_with("/file/upload") => {
                    let content = part(&body);
                    std::fs::write(&at, content).unwrap();
                    ok(&json!({"success": true, "file_size": content.len()}))
                }
                _ => (404, r#"{"detail":"Not Found"}"#.into()),
            };
        };
        if rest == "start_bash_command" {
            let path = self.0.path.lock().unwrap().clone();
            let (id, _) = self.execute(base, &text, path).await;
            return ok(&self.0.state.lock().unwrap().commands[&id][0]);
        }
        if rest == "execute_bash_command" {
            let (id, running) = self.execute(base, &text, None).await;
            running.await.unwrap();
            return ok(&self.0.state.lock().unwrap().commands[&id][1]);
        }
        if let Some(id) = rest.strip_prefix("bash_commands/") {
            self.kill(id.strip_suffix("/stop").unwrap(), "TERM");
            return ok(&json!({"success": true}));
        }
        if rest == "bash_events/search" {
            let id = pair("command_id__eq").unwrap();
            let state = self.0.state.lock().unwrap();
            let items = state.commands.get(&id).map_or(&[][..], |all| &all[1..]);
            return ok(&json!({"items": items, "next_page_id": null}));
        }
        (404, r#"{"detail":"Not Found"}"#.into())
    }
}

/// Returns the only part of a multipart body.
fn part(body: &[u8]) -> &[u8] {
    let find = |what: &[u8]| body.windows(what.len()).position(|one| one == what);
    let begin = find(b"\r\n\r\n").unwrap() + 4;
    let boundary = &body[..find(b"\r\n").unwrap()];
    &body[begin..body.len() - boundary.len() - 6]
}

#[async_trait]
impl HttpTransport for Shell {
    async fn send(&self, request: http::Request<Body>) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect(64 << 20).await?;
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let text = String::from_utf8_lossy(&body).into_owned();
        let plan = (self.0.plan.lock().unwrap())(path, &text);
        self.note(path, text);
        if plan == Plan::Refuse {
            return Err(Error::new(ErrorKind::Connect, "by plan"));
        }
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let at = pairs.find_map(|(key, value)| (key == "path").then_some(value));
        let at = at.unwrap_or_default().into_owned();
        let reached = path.ends_with("/file/download") && self.reaches(path, Path::new(&at));
        if reached && matches!(plan, Plan::Serve | Plan::Cut) {
            let range = |name| head.headers.get(name).map(|value| value.to_str().unwrap());
            let (range, same) = (range("range"), range("if-range"));
            let known = self.download(Path::new(&at), None).1;
            let same = same.is_none_or(|same| known.get("etag").is_some_and(|etag| etag == same));
            let range = range.filter(|_| same);
            let (status, headers, content) = self.download(Path::new(&at), range);
            let length = content.len() as u64;
            let pieces = match plan {
                Plan::Cut => vec![
                    Ok(content.slice(..content.len() / 2)),
                    Err(Error::new(ErrorKind::Interrupted, "by plan")),
                ],
                _ => vec![Ok(content)],
            };
            let body = Body::from_stream(futures_util::stream::iter(pieces), Some(length));
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            *response.headers_mut() = headers;
            return Ok(response);
        }
        let (status, answer) = match plan {
            Plan::Vanish => return Err(Error::new(ErrorKind::Interrupted, "by plan")),
            Plan::Status(status) => (status, r#"{"detail":"by plan"}"#.into()),
            _ => self.serve(path, query, body).await,
        };
        if plan == Plan::LoseAnswer {
            return Err(Error::new(ErrorKind::Interrupted, "by plan"));
        }
        let mut response = Response::new(Body::from(answer));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Ok(response)
    }
}

#[async_trait]
impl SocketTransport for Shell {
    async fn connect(&self, _: &Url, _: &HeaderMap) -> Result<Socket> {
        let mut state = self.0.state.lock().unwrap();
        let Some(listeners) = &mut state.listeners else {
            return Err(Error::new(ErrorKind::Connect, "there is no socket"));
        };
        let (socket, mut peer) = Socket::pair(64);
        let (sender, mut frames) = mpsc::unbounded_channel();
        listeners.push(sender);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    frame = frames.recv() => {
                        let Some(frame) = frame else { return };
                        if peer.text(frame).await.is_err() { return }
                    }
                    said = peer.recv() => if said.is_none() { return },
                }
            }
        });
        Ok(socket)
    }
}

/// Returns whether any file below a directory contains this text.
pub(crate) fn holds(directory: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        let bytes = std::fs::read(&path).unwrap_or_default();
        path.is_dir() && holds(&path, text)
            || bytes.windows(text.len()).any(|one| one == text.as_bytes())
    })
}
