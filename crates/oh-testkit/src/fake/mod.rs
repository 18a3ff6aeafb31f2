//! A fake agent server with REST API and sockets that runs in this process, on the loopback
//! interface. Its agent plays a [`Script`](crate::Script), and faults can be injected.
//!
//! Implementation of each part of the API:
//!
//! - Conversations (create, list, rename, fork, navigate, children, delete), settings, secrets,
//!   model, agent and meta-profiles, saved workspaces, and the session, legacy and command sockets:
//!   built in, in memory.
//! - Messages, runs, approval, pause, interrupt, goals, questions, condensing: a
//!   [`Script`](crate::Script).
//! - Tools and hooks: closures, see [`tool`](FakeServerBuilder::tool) and
//!   [`hooks`](FakeServerBuilder::hooks).
//! - Commands: a closure, see [`commands`](FakeServerBuilder::commands).
//! - Files, archives, trajectories, workspace pages with their cookies, and a project's hooks and
//!   skills: an in-memory disk, see [`write_file`](FakeServer::write_file).
//! - Git: answers set with [`set_repository`](FakeServer::set_repository).
//! - Limits of concurrent runs and sockets: those of the agent server, see
//!   [`max_concurrent_runs`](FakeServerBuilder::max_concurrent_runs).
//! - Dormant start and activation: built in, see
//!   [`deferred_init`](FakeServerBuilder::deferred_init).
//!
//! The list covers all calls of the client crates. A scenario of the conformance suite compares
//! each of them with the real server, except for the following:
//!
//! - Installable skills (`/api/skills/{catalog,marketplace,install,installed,sync}`): 501. They
//!   need a package manager that downloads and unpacks published packages.
//! - Repositories of a provider, if a token is stored: 501. They need network access to the
//!   provider. Without a token, the fake server reports the missing token as the agent server does.
//! - The test of an MCP server (`/api/mcp/test`): 501. It would start another program.
//! - The browser editor (`/vscode`): 503. It is disabled, as on a server without an editor.
//! - Plugins and the model of an ACP agent: 400. There is no marketplace and no ACP agent; the
//!   agent server returns the same.
//! - Plugins of the server, and the models of ACP agents: 501. They would download packages and
//!   start other programs. Sub-agents: 501, because most of them are part of the agent server's own
//!   packages. Test them with a [`Mock`](crate::Mock).
//!
//! Routes that no client crate uses (`/v1`, …) return 501 with their name. Routes that the real
//! server does not have return its 404 or 405. The fake server does not detect loops and does not
//! evict idle conversations, which takes minutes on a real server. Public skills and skills of
//! organizations are never found.

mod agent;
mod builder;
mod control;
mod lifecycle;
mod routes;
mod serve;
mod sockets;
mod state;
pub(crate) mod wire;

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use oh_transport::Client;
use serde_json::json;

use self::state::{disk, lock::lock, subscriber::Ending, world::World};
pub(crate) use self::wire::frames::{head as frame_head, text as text_frame};
pub use self::{
    builder::FakeServerBuilder,
    control::FakeConversation,
    state::{
        commands::CommandOutput,
        executed::{Execution, Permission},
        policy::ProposedAction,
        repository::Repository,
        tools::{HookCall, Observation, Tool, ToolRun, Verdict},
    },
};
use crate::{Error, ErrorKind, Result, http::Listening};
pub use crate::{
    fault::{Fault, UpgradeRefusal},
    seen::Seen,
};

/// A fake agent server for tests, in this process on a free port of 127.0.0.1, without Python.
///
/// The server implements the API that the client crates use, with the real server's statuses, close
/// codes, ordering and run lifecycle. Unsupported requests return 501. The agent plays a
/// [`Script`](crate::Script), which a [`ScriptedModel`](crate::ScriptedModel) can also play behind
/// a real server. Tools and hooks are closures and files are kept in memory: the server starts no
/// programs and does not access the disk.
///
/// A panic in a closure, such as a failed assertion, becomes a failed tool or hook.
/// [`verify`](Self::verify) reports it.
///
/// The server runs on the runtime it was started on. Dropping it closes the port and ends all
/// connections and runs.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use oh_testkit::{FakeServer, Script, fake::{Observation, Verdict}};
/// use serde_json::json;
///
/// let server = FakeServer::builder()
///     .script(Script::new().call("terminal", json!({"command": "pytest"})).finish("Green."))
///     .tool("terminal", |_| Observation::text("3 passed").field("exit_code", 0))
///     .hooks(|hook| match hook.event.as_str() {
///         "Stop" => Verdict::deny("run the linter too"),
///         _ => Verdict::allow(),
///     })
///     .start()
///     .await?;
/// // … connect a client to `server.url()`, with `server.session_api_key()` …
/// # let _ = server.url();
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FakeServer {
    listening: Listening,
    world: Arc<World>,
}

impl FakeServer {
    /// Returns the URL of the server: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Returns the address of the server.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Returns the session key that clients need, or an empty string if no key is needed. After an
    /// activation with session keys, returns the first of them.
    pub fn session_api_key(&self) -> &str {
        self.world.door.key()
    }

    /// Returns a new client of this server, with its session key.
    ///
    /// # Errors
    ///
    /// Returns an error if the session key is not valid in a header.
    pub fn client(&self) -> oh_transport::Result<Client> {
        let builder = Client::builder(self.url());
        match self.session_api_key() {
            "" => builder.build(),
            key => builder.session_api_key(key).build(),
        }
    }

    /// Returns a conversation that was created by a client or by [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// Returns an error if there is no conversation with this id. The id must be a UUID, with or
    /// without dashes.
    pub fn conversation(&self, id: impl fmt::Display) -> Result<FakeConversation> {
        let id = id.to_string();
        let found = id.parse().ok().and_then(|id| self.world.conversation(id));
        found
            .map(|conversation| FakeConversation::new(Arc::clone(&self.world), conversation))
            .ok_or_else(|| {
                let message = format!("the fake server has no conversation {id}");
                Error::plain(ErrorKind::NotFound, message)
            })
    }

    /// Returns all conversations, ordered by id.
    pub fn conversations(&self) -> Vec<FakeConversation> {
        let all = self.world.conversations().into_iter();
        all.map(|conversation| FakeConversation::new(Arc::clone(&self.world), conversation))
            .collect()
    }

    /// Creates a conversation without a request. The conversation is empty and idle, and its agent
    /// has no additional tools.
    pub fn create(&self) -> FakeConversation {
        let request = json!({"workspace": {"working_dir": "/fake"}, "agent": {"llm": {}}});
        let (conversation, _) = self.world.create(self.world.clock.uuid(), &request);
        FakeConversation::new(Arc::clone(&self.world), conversation)
    }

    /// Writes a file to the server's disk, which is in memory, and creates missing parent
    /// directories.
    ///
    /// # Errors
    ///
    /// Returns an error if the path is not absolute, is a directory, or has a parent that is a
    /// file.
    pub fn write_file(&self, path: &str, content: impl Into<Bytes>) -> Result<()> {
        self.world
            .disk
            .write(path, content.into())
            .map_err(|refusal| {
                let message = format!("{path} cannot be written on the fake server: {refusal:?}");
                Error::plain(ErrorKind::InvalidInput, message)
            })
    }

    /// Returns the content of a file on the server's disk, such as a file uploaded by a client.
    ///
    /// # Errors
    ///
    /// Returns an error if the file does not exist.
    pub fn read_file(&self, path: &str) -> Result<Bytes> {
        self.world.disk.read(path).ok_or_else(|| {
            let message = format!("there is no file {path} on the fake server");
            Error::plain(ErrorKind::NotFound, message)
        })
    }

    /// Makes a directory a git repository, or replaces the repository in it.
    pub fn set_repository(&self, root: &str, repository: Repository) {
        let root = disk::normal(root).unwrap_or_else(|| root.to_owned());
        let _ = self.world.disk.make_directory(&root);
        lock(&self.world.repositories).insert(root, repository);
    }

    /// Enters the code of a login to a subscription, as the user would in a browser.
    ///
    /// # Errors
    ///
    /// Returns an error if no login with this code is in progress.
    pub fn approve_login(&self, code: &str) -> Result<()> {
        let mut logins = lock(&self.world.logins);
        let mut pending = logins.pending.iter_mut();
        let Some(login) = pending.find(|login| login.user_code == code) else {
            let message = "the fake server has no login with this code";
            return Err(Error::plain(ErrorKind::NotFound, message));
        };
        login.approved = true;
        Ok(())
    }

    /// Injects a fault.
    pub fn inject(&self, fault: Fault) {
        self.world.faults.add(fault);
    }

    /// Removes all injected faults. Requests that hang because of a fault continue.
    pub fn heal(&self) {
        self.world.faults.clear();
    }

    /// Removes the faults with this [name](Fault::named). Requests that hang because of them
    /// continue.
    pub fn lift(&self, name: &str) {
        self.world.faults.lift(name);
    }

    /// Freezes the whole server, like a paused sandbox.
    ///
    /// Connections are accepted and requests can be sent, but there are no responses. Sockets stay
    /// open but send nothing, not even pings. The agent executes no further steps. No data is lost:
    /// [`thaw`](Self::thaw) lets everything continue.
    ///
    /// To model a gateway that closes the connections of a paused sandbox, use a
    /// [`Proxy`](crate::Proxy).
    pub fn freeze(&self) {
        self.world.freeze(true);
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.world.freeze(false);
    }

    /// Silences all open sockets permanently without closing them. Events for these sockets are
    /// lost, and messages from their clients are not read. REST requests and new sockets work.
    ///
    /// A sandbox that was paused and moved leaves such half-open connections.
    pub fn silence_sockets(&self) {
        self.world.silenced.send_modify(|times| *times += 1);
    }

    /// Moves the server's clock forward.
    pub fn skew_ahead(&self, by: Duration) {
        self.world.clock.skew(by, false);
    }

    /// Moves the server's clock back.
    pub fn skew_back(&self, by: Duration) {
        self.world.clock.skew(by, true);
    }

    /// Cuts the connections of all sockets without a close frame.
    pub fn cut_sockets(&self) {
        self.world.end_sockets(&Ending::Cut);
    }

    /// Closes all sockets with a code and a reason.
    pub fn close_sockets(&self, code: u16, reason: &str) {
        let ending = Ending::Close(code, reason.to_owned());
        self.world.end_sockets(&ending);
    }

    /// Shuts the server down: sockets are closed with 1012, running conversations are paused, and
    /// connections are refused until [`come_back`](Self::come_back).
    pub fn shut_down(&self) {
        self.world.go_down(Some(1012));
        self.listening.refuse();
    }

    /// Kills the server: sockets are cut without a close frame, and connections are refused.
    pub fn kill(&self) {
        self.world.go_down(None);
        self.listening.refuse();
    }

    /// Restarts the server on its port with its conversations. Conversations that were running
    /// during a kill get the status `error`, and an `AgentErrorEvent` for an action that was being
    /// executed. Confirmation policies are reset to those that conversations were created with.
    pub fn come_back(&self) {
        self.world.come_up(true);
        self.listening.accept();
    }

    /// Restarts the server on its port without its conversations, command history and settings. The
    /// files on its disk are kept.
    pub fn come_back_empty(&self) {
        self.world.come_up(false);
        self.listening.accept();
    }

    /// Refuses new connections and cuts all sockets without stopping the server. Runs continue.
    pub fn refuse(&self) {
        self.listening.refuse();
        self.cut_sockets();
    }

    /// Accepts connections again on the same port.
    ///
    /// # Errors
    ///
    /// Returns an error if another process uses the port.
    pub fn accept(&self) -> Result<()> {
        match self.listening.accept() {
            true => Ok(()),
            false => {
                let message = format!(
                    "the port of {} was taken by another program in the meantime",
                    self.url()
                );
                Err(Error::plain(ErrorKind::PortTaken, message))
            }
        }
    }

    /// Returns the actions executed in all conversations, oldest first, with the permission of
    /// each. A test of approvals can compare them with the actions it approved.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use oh_testkit::{FakeServer, fake::Permission};
    ///
    /// let server = FakeServer::start().await?;
    /// let approved: Vec<String> = Vec::new(); // The ids that the test approved.
    /// for action in server.executed() {
    ///     let allowed = action.permission == Permission::NotAsked
    ///         || approved.contains(&action.action_id);
    ///     assert!(allowed, "executed without an approval: {action:?}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn executed(&self) -> Vec<Execution> {
        self.world.executed()
    }

    /// Returns all requests, oldest first. A request is recorded as soon as it arrives; a hanging
    /// request has the status 0. Sockets are recorded with the status of their handshake.
    pub fn requests(&self) -> Vec<Seen> {
        self.world.seen.all()
    }

    /// Returns the requests with this method and route, oldest first. In `route`, a part in braces
    /// matches any one segment of the path.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let server = oh_testkit::FakeServer::start().await?;
    /// let runs = server.requests_to("POST", "/api/conversations/{id}/run");
    /// assert_eq!(runs.len(), 0, "nobody approved anything");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn requests_to(&self, method: &str, route: &str) -> Vec<Seen> {
        self.world.seen.such(method, route)
    }

    /// Returns the number of requests by method and [route](Seen::route), such as
    /// `GET /api/conversations/{id}`.
    pub fn request_counts(&self) -> BTreeMap<String, usize> {
        self.world.seen.counts()
    }

    /// Clears the recorded requests, for example those of a test's setup.
    pub fn forget_requests(&self) {
        self.world.seen.forget();
    }

    /// Checks that the agent played its script to the end and no further.
    ///
    /// # Errors
    ///
    /// Returns an error with all deviations.
    pub fn verify(&self) -> Result<()> {
        self.world.verify()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.world.stop();
        if let Some(report) = self.world.unreported() {
            crate::error::tell(&report);
        }
    }
}

impl fmt::Debug for FakeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeServer")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}
