//! Commands and their results.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use oh_protocol::calls::bash::{self, BashOutput, ExecuteRequest};
use oh_transport::{Client, Message, Socket, WorkspaceHandle};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use crate::{Error, ErrorKind, Result, Workspace};

/// What the server writes into stderr of a command it could not start.
const NOT_STARTED: &str = "Error executing command:";
/// How long a catch-up over REST waits for the socket to speak first.
const CATCH_UP: Duration = Duration::from_secs(2);

/// A command on its way. Await it for the [`CommandOutput`].
///
/// Output is pushed over the server's bash socket, so the result is there as soon as the command
/// ends. Dropping the future stops the command; awaiting it to the end loses nothing.
#[must_use = "a command does nothing until it is awaited"]
pub struct Execute<'a> {
    workspace: &'a Workspace,
    line: String,
    cwd: Option<String>,
    limit: Duration,
    env: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    line: String,
    id: String,
    exit_code: Option<i32>,
    timed_out: bool,
    stdout: String,
    stderr: String,
    duration: Duration,
}

impl<'a> Execute<'a> {
    pub(crate) fn new(workspace: &'a Workspace, line: String) -> Self {
        let limit = Duration::from_secs(300);
        Self {
            workspace,
            line,
            cwd: None,
            limit,
            env: Vec::new(),
        }
    }

    /// Runs it in this directory of the server instead of the workspace's.
    pub fn cwd(mut self, directory: impl Into<String>) -> Self {
        self.cwd = Some(directory.into());
        self
    }

    /// How long it may take. Default 300 s. The server counts whole seconds: a shorter limit is
    /// rounded up there and kept here.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// An environment variable. It becomes part of the command line, which the server logs: not
    /// a place for secrets.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    fn request(&self) -> Result<ExecuteRequest> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
        if self.line.trim().is_empty() {
            return Err(invalid("an empty command line".to_owned()));
        }
        if self.limit.is_zero() {
            return Err(invalid(
                "a timeout of zero ends the command at once".to_owned(),
            ));
        }
        let mut line = String::new();
        for (name, value) in &self.env {
            let first = name
                .chars()
                .next()
                .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(invalid(format!("`{name}` is no name for a variable")));
            }
            line.push_str(&format!(
                "export {name}='{}'; ",
                value.replace('\'', r"'\''")
            ));
        }
        line.push_str(&self.line);
        let seconds = self.limit.as_secs() + u64::from(self.limit.subsec_nanos() > 0);
        let cwd = self
            .cwd
            .as_deref()
            .unwrap_or_else(|| self.workspace.working_dir());
        Ok(ExecuteRequest::new(line).cwd(cwd).timeout(seconds))
    }

    async fn run(self) -> Result<CommandOutput> {
        let client = self.workspace.client();
        let request = self.request()?;
        let shown = self.line.clone();
        let failed = |error| {
            Error::transport(
                format!("command `{}` could not be run", excerpt(&shown)),
                error,
            )
        };
        // Subscribed before the start, so that no output can be missed.
        let socket = client
            .socket("/sockets/bash-events")
            .await
            .map_err(failed)?;
        let begun = Instant::now();
        let started = client
            .call(&bash::Start::new(request))
            .await
            .map_err(failed)?;
        let running = StopOnDrop {
            client,
            id: Some(started.id.clone()),
        };
        let mut pieces = Pieces::default();
        let collecting = collect(client, socket, &started.id, &mut pieces);
        let ended = match timeout(self.limit, collecting).await {
            Ok(ended) => {
                ended.map_err(|error| failed(error).of_command(&started.id))?;
                true
            }
            Err(_) => false,
        };
        let exit = pieces.exit_code();
        if ended {
            running.done();
        }
        let (stdout, stderr) = pieces.text();
        if exit == Some(-1) && stderr.starts_with(NOT_STARTED) {
            let why = stderr[NOT_STARTED.len()..].trim();
            let message = format!("command `{}` could not be started: {why}", excerpt(&shown));
            return Err(Error::new(ErrorKind::NotStarted, message).of_command(&started.id));
        }
        let timed_out = !ended || exit == Some(-1);
        Ok(CommandOutput {
            line: self.line,
            id: started.id,
            exit_code: exit.filter(|_| !timed_out),
            timed_out,
            stdout,
            stderr,
            duration: begun.elapsed(),
        })
    }
}

/// A command line in an error is cut: it may be megabytes.
fn excerpt(line: &str) -> String {
    match line.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

impl<'a> IntoFuture for Execute<'a> {
    type Output = Result<CommandOutput>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Execute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl CommandOutput {
    /// The command line that was run.
    pub fn command(&self) -> &str {
        &self.line
    }

    /// The server's id of the command.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The exit code; −N after signal N. None when the command ran out of time.
    pub fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.exit_code == Some(0)
    }

    /// Whether it was ended because its time was over.
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// What it wrote to stdout; bytes that are not UTF-8 are replaced by the server.
    pub fn stdout(&self) -> &str {
        &self.stdout
    }

    /// What it wrote to stderr.
    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    /// From the request to start it to the news of its end.
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

/// The output so far, by `order`.
#[derive(Default)]
struct Pieces(std::collections::BTreeMap<i64, BashOutput>);

impl Pieces {
    fn add(&mut self, piece: BashOutput) {
        self.0.entry(piece.order).or_insert(piece);
    }

    fn exit_code(&self) -> Option<i32> {
        self.0.values().find_map(|piece| piece.exit_code)
    }

    /// Whether the last piece is there, and all before it.
    fn complete(&self) -> bool {
        let Some(last) = self.0.values().find(|piece| piece.exit_code.is_some()) else {
            return false;
        };
        (0..=last.order).all(|order| self.0.contains_key(&order))
    }

    fn text(self) -> (String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        for piece in self.0.into_values() {
            stdout.push_str(piece.stdout.as_deref().unwrap_or_default());
            stderr.push_str(piece.stderr.as_deref().unwrap_or_default());
        }
        (stdout, stderr)
    }
}

/// Takes pushed output until the command has ended. When the socket is lost or silent for a
/// while, REST tells what was missed.
async fn collect(
    client: &Client,
    socket: Socket,
    id: &str,
    pieces: &mut Pieces,
) -> oh_transport::Result<()> {
    let mut socket = Some(socket);
    loop {
        let message = match &mut socket {
            Some(open) => timeout(CATCH_UP, open.recv()).await.ok(),
            None => {
                sleep(Duration::from_millis(250)).await;
                None
            }
        };
        match message {
            Some(Ok(Message::Text(text))) => {
                if let Some(piece) = output_of(&text, id) {
                    pieces.add(piece);
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) => socket = None,
            None => catch_up(client, id, pieces).await?,
        }
        if pieces.complete() {
            return Ok(());
        }
    }
}

/// Reads a frame of the bash socket, if it is output of this command.
fn output_of(text: &[u8], id: &str) -> Option<BashOutput> {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let kind: Kind = serde_json::from_slice(text).ok()?;
    if kind.kind != "BashOutput" {
        return None;
    }
    let output: BashOutput = serde_json::from_slice(text).ok()?;
    (output.command_id == id).then_some(output)
}

async fn catch_up(client: &Client, id: &str, pieces: &mut Pieces) -> oh_transport::Result<()> {
    let mut page = None;
    loop {
        let mut search = bash::SearchOutput::new(id);
        if let Some(page) = page.take() {
            search = search.page_id(page);
        }
        let found = client.call(&search).await?;
        for piece in found.items {
            pieces.add(piece);
        }
        match found.next_page_id {
            Some(next) => page = Some(next),
            None => return Ok(()),
        }
    }
}

/// Stops a command nobody waits for any more.
struct StopOnDrop<'a> {
    client: &'a Client,
    id: Option<String>,
}

impl StopOnDrop<'_> {
    fn done(mut self) {
        self.id = None;
    }
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        if let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) {
            let client = self.client.clone();
            runtime.spawn(async move {
                // Best effort: a command that ended meanwhile is fine.
                let _ = client
                    .call(&bash::Stop::new(id))
                    .timeout(Duration::from_secs(10))
                    .await;
            });
        }
    }
}
