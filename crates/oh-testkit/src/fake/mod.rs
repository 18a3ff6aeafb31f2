//! An agent server that is not one: its REST interface and sockets in this process, on the
//! loopback, with an agent that plays a [`Script`](crate::Script) and faults on demand.
//!
//! | Asked for | Played by |
//! |-|-|
//! | conversations: make, list, rename, fork, navigate, children, delete | itself |
//! | messages, runs, approval, pause, interrupt, goals, questions, condensing | the [`Script`](crate::Script) |
//! | tools and hooks | closures: [`tool`](FakeServerBuilder::tool), [`hooks`](FakeServerBuilder::hooks) |
//! | the session socket, the legacy one, that of commands | itself |
//! | commands | a closure: [`commands`](FakeServerBuilder::commands) |
//! | files, archives, trajectories, a workspace's pages, hooks and skills | a disk in memory: [`write_file`](FakeServer::write_file) |
//! | git | what it was told: [`set_repository`](FakeServer::set_repository) |
//! | settings, secrets, profiles of models | itself, in memory |
//! | as many runs and sockets at once as the agent server allows | itself: [`max_concurrent_runs`](FakeServerBuilder::max_concurrent_runs) |
//! | a dormant start, and its activation | itself: [`deferred_init`](FakeServerBuilder::deferred_init) |
//!
//! That is every call of the client crates, each compared with the real server by a scenario of
//! the conformance suite, but for these:
//!
//! | Not played | Why | Answer |
//! |-|-|-|
//! | skills to install (`/api/skills/{catalog,marketplace,install,installed,sync}`) | a package manager: it fetches and unpacks what others publish | 501 |
//! | repositories at a provider, once there is a token | the provider's to say, over a network; without a token it says so, as the agent server does | 501 |
//! | whether an MCP server works (`/api/mcp/test`) | another program, which would be started | 501 |
//! | an editor in the browser (`/vscode`) | switched off, as on a server without one | 503 |
//! | plugins, an ACP agent's model | there is no marketplace and no such agent; the agent server says the same | 400 |
//!
//! Routes that no client crate asks (`/v1`, plugins, MCP, agent profiles, …) are answered with 501
//! and their name; what the real server does not have, with its 404 or 405. There is no detection
//! of loops and no eviction of idle conversations, which take minutes of a real server's; public
//! skills and those of organizations are never found.

mod agent;
mod archive;
mod bash;
mod branches;
mod builder;
mod builtin;
mod clock;
mod conversation;
mod conversations;
mod disk;
mod entries;
mod events;
mod executed;
mod files;
mod git;
mod goals;
mod handle;
mod handshake;
mod inbox;
mod init;
mod known;
mod listening;
mod log;
mod operations;
mod pending;
mod policy;
mod routes;
mod skills;
mod slots;
mod sockets;
mod step;
mod stored;
mod tools;
mod wire;
mod world;

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::json;

pub(crate) use self::wire::{head as frame_head, text as text_frame};
pub use self::{
    bash::CommandOutput,
    builder::FakeServerBuilder,
    executed::{Execution, Permission},
    git::Repository,
    handle::FakeConversation,
    policy::ProposedAction,
    tools::{HookCall, Observation, Verdict},
};
use self::{conversation::Ending, world::World};
use crate::{
    Error, ErrorKind, Result,
    http::{Answering, Handler, Listening, Request},
};
pub use crate::{
    fault::{Fault, UpgradeRefusal},
    seen::Seen,
};

/// An agent server for tests: in this process, on a free port of 127.0.0.1, without Python.
///
/// It speaks what the client crates use, with the real server's statuses, close codes, order
/// and run lifecycle; what it does not do it answers with 501. Its agent plays a [`Script`](crate::Script),
/// the same that a [`ScriptedModel`](crate::ScriptedModel) plays behind a real server. Tools
/// and hooks are closures, files are in memory: nothing runs, no disk is touched.
///
/// A panic in a closure, such as a failed assertion, becomes a failed tool or hook;
/// [`verify`](Self::verify) tells of it.
///
/// It runs on the runtime it was started on. Dropping it closes the port, every connection and
/// every run.
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
/// // … point a client at `server.url()` with `server.session_api_key()` …
/// # let _ = server.url();
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FakeServer {
    listening: Listening,
    world: Arc<World>,
}

impl FakeServer {
    /// Starts a server whose agent has nothing to say: good for logs that a test writes itself.
    ///
    /// # Errors
    ///
    /// When no port can be opened.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A server with a script, tools, hooks.
    pub fn builder() -> FakeServerBuilder {
        FakeServerBuilder::default()
    }

    /// Where clients find it: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The key it asks for; empty when it asks for none. Once it was activated, the first key it
    /// was activated with.
    pub fn session_api_key(&self) -> &str {
        self.world.door.key()
    }

    /// A conversation that a client, or [`create`](Self::create), made.
    ///
    /// # Errors
    ///
    /// When there is none with this id, which is a UUID with or without dashes.
    pub fn conversation(&self, id: impl fmt::Display) -> Result<FakeConversation> {
        let id = id.to_string();
        let found = id.parse().ok().and_then(|id| self.world.conversation(id));
        found
            .map(|conversation| FakeConversation::new(Arc::clone(&self.world), conversation))
            .ok_or_else(|| {
                let message = format!("the fake server has no conversation {id}");
                Error::plain(ErrorKind::Missing, message)
            })
    }

    /// Every conversation, by id.
    pub fn conversations(&self) -> Vec<FakeConversation> {
        let all = self.world.conversations().into_iter();
        all.map(|conversation| FakeConversation::new(Arc::clone(&self.world), conversation))
            .collect()
    }

    /// Makes a conversation without a request: empty, idle, of an agent without tools.
    pub fn create(&self) -> FakeConversation {
        let request = json!({"workspace": {"working_dir": "/fake"}, "agent": {"llm": {}}});
        let (conversation, _) = self.world.create(self.world.clock.uuid(), &request);
        FakeConversation::new(Arc::clone(&self.world), conversation)
    }

    /// Puts a file on the server's disk, which is in memory, with the directories above it.
    ///
    /// # Errors
    ///
    /// When the path is not absolute, or a directory or file stands in the way.
    pub fn write_file(&self, path: &str, content: impl Into<Bytes>) -> Result<()> {
        self.world
            .disk
            .write(path, content.into())
            .map_err(|refusal| {
                let message = format!("{path} cannot be written on the fake server: {refusal:?}");
                Error::plain(ErrorKind::Invalid, message)
            })
    }

    /// A file on the server's disk, such as one a client uploaded.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn read_file(&self, path: &str) -> Result<Bytes> {
        self.world.disk.read(path).ok_or_else(|| {
            let message = format!("there is no file {path} on the fake server");
            Error::plain(ErrorKind::Missing, message)
        })
    }

    /// Makes a directory a git repository, or another one than it was.
    pub fn set_repository(&self, root: &str, repository: Repository) {
        let root = disk::normal(root).unwrap_or_else(|| root.to_owned());
        let _ = self.world.disk.make_directory(&root);
        world::lock(&self.world.repositories).insert(root, repository);
    }

    /// Does something wrong from now on.
    pub fn inject(&self, fault: Fault) {
        self.world.faults.add(fault);
    }

    /// Ends all injected faults. What hangs on one goes on.
    pub fn heal(&self) {
        self.world.faults.clear();
    }

    /// Ends the faults of this [name](Fault::named). What hangs on one of them goes on.
    pub fn lift(&self, name: &str) {
        self.world.faults.lift(name);
    }

    /// Stops the whole server, as the pause of a sandbox does: connections are accepted and
    /// requests sent, but nothing is answered; sockets stay open and say nothing, not even pings;
    /// the agent does no further step. Nothing is lost: [`thaw`](Self::thaw) lets all of it go on.
    ///
    /// A gateway that ends the connections of a paused sandbox is a [`Proxy`](crate::Proxy).
    pub fn freeze(&self) {
        self.world.freeze(true);
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.world.freeze(false);
    }

    /// Makes the sockets that are open now silent for good, without closing them: what they would
    /// have been told is lost to them, and nobody reads what clients send. REST, and sockets that
    /// are opened from now on, work. Such a half-open link is what a sandbox leaves that was paused
    /// and moved.
    pub fn silence_sockets(&self) {
        self.world.silenced.send_modify(|times| *times += 1);
    }

    /// Moves the server's clock ahead.
    pub fn skew_ahead(&self, by: Duration) {
        self.world.clock.skew(by, false);
    }

    /// Moves the server's clock back.
    pub fn skew_back(&self, by: Duration) {
        self.world.clock.skew(by, true);
    }

    /// Breaks every socket's connection, without a goodbye.
    pub fn cut_sockets(&self) {
        self.world.end_sockets(&Ending::Cut);
    }

    /// Closes every socket with a code and a reason.
    pub fn close_sockets(&self, code: u16, reason: &str) {
        let ending = Ending::Close(code, reason.to_owned());
        self.world.end_sockets(&ending);
    }

    /// Goes away as a server that shuts down: sockets close with 1012, what runs is paused,
    /// connections are refused until [`come_back`](Self::come_back).
    pub fn shut_down(&self) {
        self.world.go_down(Some(1012));
        self.listening.refuse();
    }

    /// Goes away as a server that is killed: nobody gets a goodbye, connections are refused.
    pub fn kill(&self) {
        self.world.go_down(None);
        self.listening.refuse();
    }

    /// Comes back on its port, with the conversations it had. What ran when it was killed is in
    /// `error`, with an `AgentErrorEvent` for an action that was under way, and confirmation
    /// policies are those that conversations were made with.
    pub fn come_back(&self) {
        self.world.come_up(true);
        self.listening.accept();
    }

    /// Comes back as a server that kept no conversations, no history of commands, no settings.
    /// The files on its disk are still there.
    pub fn come_back_empty(&self) {
        self.world.come_up(false);
        self.listening.accept();
    }

    /// Refuses connections from now on and ends those there are, without dying: what runs goes
    /// on.
    pub fn refuse(&self) {
        self.listening.refuse();
        self.cut_sockets();
    }

    /// Accepts connections again, on the same port.
    ///
    /// # Errors
    ///
    /// When another process took the port meanwhile.
    pub fn accept(&self) -> Result<()> {
        match self.listening.accept() {
            true => Ok(()),
            false => {
                let message = format!("the port of {} was taken meanwhile", self.url());
                Err(Error::plain(ErrorKind::Missing, message))
            }
        }
    }

    /// The actions that were carried out, in all conversations, oldest first, and what allowed
    /// each: a test of approvals holds them against what it approved.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use oh_testkit::{FakeServer, fake::Permission};
    ///
    /// let server = FakeServer::start().await?;
    /// let approved: Vec<String> = Vec::new(); // the ids that the test approved
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

    /// What was asked of it, oldest first, from the moment the request was there: one that hangs
    /// is in it, with status 0. Sockets count with the status of their handshake.
    pub fn requests(&self) -> Vec<Seen> {
        self.world.seen.all()
    }

    /// Such requests, oldest first. In `route` a part in braces stands for any one part of a path.
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

    /// How often each kind of request came, by method and [route](Seen::route), such as
    /// `GET /api/conversations/{id}`.
    pub fn request_counts(&self) -> BTreeMap<String, usize> {
        self.world.seen.counts()
    }

    /// Forgets the requests so far, such as those of a test's preparations.
    pub fn forget_requests(&self) {
        self.world.seen.forget();
    }

    /// Whether the agent played its script to the end and no further.
    ///
    /// # Errors
    ///
    /// When it did not, with what went wrong.
    pub fn verify(&self) -> Result<()> {
        self.world.verify()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.world.stop();
        if let Some(report) = self.world.unheard() {
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

#[derive(Clone)]
struct Serving(Arc<World>);

impl Handler for Serving {
    fn answer(&self, request: Request) -> Answering {
        let world = Arc::clone(&self.0);
        Box::pin(routes::answer(world, request))
    }
}
