//! A fake of the hosted Runtime API.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    Error, ErrorKind, Fault, Result,
    fake::wire::reply::{Call, detail, ok},
    hosted::plane::{Plane, Routes},
    http::Response,
    seen::Seen,
};

/// The only key that the fake accepts.
const KEY: &str = "fake-runtime-api-key";

/// A fake of the hosted Runtime API: `/start`, `/sessions/{id}`, `/pause`, `/resume` and `/stop`.
///
/// A runtime is one of the servers that [`supply`](Self::supply) has added. The fake starts and
/// stops no server: it only answers what the Runtime API answers about them.
pub struct FakeRuntimeApi {
    plane: Plane<State>,
}

/// A runtime, as the fake knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FakeRuntime {
    /// The id that the client has chosen.
    pub session_id: String,
    /// The id that the fake has chosen.
    pub runtime_id: String,
    /// `running`, `paused` or `stopped`.
    pub status: String,
}

impl FakeRuntimeApi {
    /// Starts the fake on a free port.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be opened.
    pub async fn start() -> Result<Self> {
        let plane = Plane::start(State::default()).await?;
        Ok(Self { plane })
    }

    /// Returns the base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.plane.address())
    }

    /// Returns the only key that is accepted in `X-API-Key`.
    pub fn api_key(&self) -> &'static str {
        KEY
    }

    /// Adds a server that a later runtime will be. Without one, `/start` returns 503.
    pub fn supply(&self, url: impl Into<String>, session_api_key: impl Into<String>) {
        let server = (url.into(), session_api_key.into());
        self.lock().supply.push_back(server);
    }

    /// Sets how many requests for its state a new or resumed runtime answers with `pending`, before
    /// it is `ready`. Default 0.
    pub fn pending_for(&self, requests: usize) {
        self.lock().pending = requests;
    }

    /// Ends the time in which runtimes answer with `pending`.
    pub fn pods_are_decided(&self) {
        let mut world = self.lock();
        world.pending = 0;
        for runtime in &mut world.runtimes {
            runtime.pending = 0;
        }
    }

    /// Sets the pod status of all runtimes that are started later. Default `ready`.
    pub fn pods_become(&self, pod_status: &str) {
        pod_status.clone_into(&mut self.lock().becomes);
    }

    /// Rejects all requests to resume a runtime, with a status of 500.
    pub fn refuse_resume(&self) {
        self.lock().refuse_resume = true;
    }

    /// Changes the pod status of a runtime, and the last lines of its log.
    ///
    /// # Errors
    ///
    /// Returns an error if no runtime has this session id.
    pub fn set_pod(&self, session_id: &str, pod_status: &str, logs: &str) -> Result<()> {
        let mut world = self.lock();
        let runtime = world.find(session_id).ok_or_else(|| unknown(session_id))?;
        pod_status.clone_into(&mut runtime.pod_status);
        logs.clone_into(&mut runtime.logs);
        Ok(())
    }

    /// Forgets a runtime, as after an eviction. Requests for it return 404.
    ///
    /// # Errors
    ///
    /// Returns an error if no runtime has this session id.
    pub fn evict(&self, session_id: &str) -> Result<()> {
        let mut world = self.lock();
        let before = world.runtimes.len();
        world.runtimes.retain(|one| one.session_id != session_id);
        match world.runtimes.len() < before {
            true => Ok(()),
            false => Err(unknown(session_id)),
        }
    }

    /// Returns all runtimes that were started, oldest first.
    pub fn runtimes(&self) -> Vec<FakeRuntime> {
        let world = self.lock();
        world.runtimes.iter().map(Runtime::shown).collect()
    }

    /// Returns the runtimes that are neither paused nor stopped: what a program has left behind.
    pub fn running(&self) -> Vec<FakeRuntime> {
        let mut runtimes = self.runtimes();
        runtimes.retain(|runtime| runtime.status == "running");
        runtimes
    }

    /// Injects a fault. Faults of sockets have no effect.
    pub fn inject(&self, fault: Fault) {
        self.plane.inject(fault);
    }

    /// Removes all injected faults. Requests that hang because of a fault continue.
    pub fn heal(&self) {
        self.plane.heal();
    }

    /// Returns the requests with this method and route, oldest first. In `route`, a part in braces
    /// matches any one segment of the path.
    pub fn requests_to(&self, method: &str, route: &str) -> Vec<Seen> {
        self.plane.requests_to(method, route)
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.plane.routes().lock()
    }
}

impl fmt::Debug for FakeRuntimeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeRuntimeApi")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

fn unknown(session_id: &str) -> Error {
    let message = format!("the fake Runtime API has no runtime with session id {session_id}");
    Error::plain(ErrorKind::NotFound, message)
}

#[derive(Default)]
struct State(Mutex<World>);

struct World {
    supply: VecDeque<(String, String)>,
    runtimes: Vec<Runtime>,
    started: usize,
    pending: usize,
    becomes: String,
    refuse_resume: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            supply: VecDeque::new(),
            runtimes: Vec::new(),
            started: 0,
            pending: 0,
            becomes: "ready".to_owned(),
            refuse_resume: false,
        }
    }
}

struct Runtime {
    session_id: String,
    runtime_id: String,
    url: String,
    key: String,
    status: &'static str,
    pod_status: String,
    pending: usize,
    logs: String,
}

impl Runtime {
    fn shown(&self) -> FakeRuntime {
        FakeRuntime {
            session_id: self.session_id.clone(),
            runtime_id: self.runtime_id.clone(),
            status: self.status.to_owned(),
        }
    }

    fn json(&self, pod_status: &str) -> Value {
        json!({
            "runtime_id": self.runtime_id,
            "session_id": self.session_id,
            "url": self.url,
            "session_api_key": self.key,
            "status": self.status,
            "pod_status": pod_status,
            "pod_logs": self.logs,
            "restart_count": 0,
            "restart_reasons": [],
        })
    }

    /// Returns the pod status for one more request.
    fn pod_now(&mut self) -> String {
        match (self.status, self.pending) {
            ("running", 0) => self.pod_status.clone(),
            ("running", _) => {
                self.pending -= 1;
                "pending".to_owned()
            }
            _ => "not found".to_owned(),
        }
    }
}

impl World {
    fn find(&mut self, session_id: &str) -> Option<&mut Runtime> {
        let mut runtimes = self.runtimes.iter_mut();
        runtimes.find(|runtime| runtime.session_id == session_id)
    }

    fn start(&mut self, body: &Value) -> Response {
        let (Some(session_id), Some(_)) = (body["session_id"].as_str(), body["image"].as_str())
        else {
            let why = "session_id and image are required";
            return detail(StatusCode::UNPROCESSABLE_ENTITY, why);
        };
        if self
            .find(session_id)
            .is_some_and(|one| one.status != "stopped")
        {
            return detail(StatusCode::CONFLICT, "the session has a runtime already");
        }
        let Some((url, key)) = self.supply.pop_front() else {
            return detail(StatusCode::SERVICE_UNAVAILABLE, "no capacity left");
        };
        self.runtimes.retain(|one| one.session_id != session_id);
        self.started += 1;
        let runtime = Runtime {
            session_id: session_id.to_owned(),
            runtime_id: format!("runtime-{}", self.started),
            url,
            key,
            status: "running",
            pod_status: self.becomes.clone(),
            pending: self.pending,
            logs: String::new(),
        };
        let answer = ok(&runtime.json("pending"));
        self.runtimes.push(runtime);
        answer
    }

    fn change(&mut self, body: &Value, from: &[&str], status: &'static str) -> Response {
        let pending = self.pending;
        let wanted = body["runtime_id"].as_str().unwrap_or_default();
        let mut runtimes = self.runtimes.iter_mut();
        match runtimes.find(|runtime| runtime.runtime_id == wanted) {
            None => detail(StatusCode::NOT_FOUND, "Runtime not found"),
            Some(runtime) if from.contains(&runtime.status) => {
                runtime.status = status;
                runtime.pending = pending;
                ok(&json!({"status": status}))
            }
            Some(runtime) => {
                let why = format!("the runtime is {}", runtime.status);
                detail(StatusCode::CONFLICT, &why)
            }
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes for State {
    fn route(&self, call: &Call) -> Response {
        if call
            .head
            .headers
            .get("x-api-key")
            .is_none_or(|key| key != KEY)
        {
            return detail(StatusCode::UNAUTHORIZED, "Invalid API key");
        }
        let mut world = self.lock();
        let body = call.json().unwrap_or_default();
        let parts: Vec<_> = call.path().split('/').skip(1).collect();
        match (call.head.method.as_str(), parts.as_slice()) {
            ("POST", ["start"]) => world.start(&body),
            ("GET", ["sessions", id]) => match world.find(id) {
                Some(runtime) => {
                    let pod_status = runtime.pod_now();
                    ok(&runtime.json(&pod_status))
                }
                None => detail(StatusCode::NOT_FOUND, "Session not found"),
            },
            ("POST", ["resume"]) if world.refuse_resume => {
                detail(StatusCode::INTERNAL_SERVER_ERROR, "the snapshot is damaged")
            }
            ("POST", ["resume"]) => world.change(&body, &["paused"], "running"),
            ("POST", ["pause"]) => world.change(&body, &["running"], "paused"),
            ("POST", ["stop"]) => world.change(&body, &["running", "paused"], "stopped"),
            _ => detail(StatusCode::NOT_FOUND, "Not Found"),
        }
    }
}
