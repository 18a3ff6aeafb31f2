//! A fake of OpenHands Cloud.

mod account;
mod routes;
mod world;

use std::{fmt, sync::MutexGuard};

use serde_json::Value;

use self::world::World;
use crate::{
    Error, ErrorKind, Fault, Result,
    hosted::{
        cloud::routes::{KEY, State},
        plane::Plane,
    },
    seen::Seen,
};

/// A fake of OpenHands Cloud: sandboxes, the device login, settings, secrets, repositories and
/// organizations.
///
/// A sandbox is one of the servers that [`supply`](Self::supply) has added, which may be a real
/// agent server. The fake starts and stops no server: it only answers what the Cloud's API answers
/// about them.
pub struct FakeCloud {
    plane: Plane<State>,
}

/// A sandbox, as the fake knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FakeSandbox {
    /// The id that the fake has chosen.
    pub id: String,
    /// The specification that the client has chosen. Empty if it has not chosen one.
    pub spec: String,
    /// `STARTING`, `RUNNING`, `PAUSED`, `ERROR` or `MISSING`.
    pub status: String,
}

impl FakeCloud {
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

    /// Returns the address.
    pub fn address(&self) -> std::net::SocketAddr {
        self.plane.address()
    }

    /// Returns the key that is accepted as a bearer token, and that a login returns, until
    /// [`expire_key`](Self::expire_key).
    pub fn api_key(&self) -> &'static str {
        KEY
    }

    /// Rejects the key from now on, as after its end of validity.
    pub fn expire_key(&self) {
        self.lock().expired = true;
    }

    /// Adds a server that a later sandbox will be. Without one, a start returns 503.
    pub fn supply(&self, url: impl Into<String>, session_api_key: impl Into<String>) {
        let server = (url.into(), session_api_key.into());
        self.lock().supply.push_back(server);
    }

    /// Sets how many requests for its state a new or resumed sandbox answers with `STARTING`.
    /// Default 0.
    pub fn starting_for(&self, requests: usize) {
        self.lock().starting = requests;
    }

    /// Changes the status of a sandbox, and the reason of the status.
    ///
    /// # Errors
    ///
    /// Returns an error if no sandbox has this id.
    pub fn set_status(&self, id: &str, status: &str, reason: &str) -> Result<()> {
        let mut world = self.lock();
        let sandbox = world.find(id).ok_or_else(|| unknown(id))?;
        status.clone_into(&mut sandbox.status);
        reason.clone_into(&mut sandbox.reason);
        sandbox.starting = 0;
        Ok(())
    }

    /// Forgets a sandbox, as after an eviction.
    ///
    /// # Errors
    ///
    /// Returns an error if no sandbox has this id.
    pub fn evict(&self, id: &str) -> Result<()> {
        let mut world = self.lock();
        let before = world.sandboxes.len();
        world.sandboxes.retain(|one| one.id != id);
        match world.sandboxes.len() < before {
            true => Ok(()),
            false => Err(unknown(id)),
        }
    }

    /// Returns the sandboxes that exist, oldest first: what a program has left behind.
    pub fn sandboxes(&self) -> Vec<FakeSandbox> {
        let world = self.lock();
        let shown = world.sandboxes.iter().map(|sandbox| FakeSandbox {
            id: sandbox.id.clone(),
            spec: sandbox.spec.clone(),
            status: sandbox.status.clone(),
        });
        shown.collect()
    }

    /// Sets the account, as `/api/v1/users/me` returns it with secrets: `llm_model`, `llm_api_key`,
    /// `llm_base_url`, `llm_profiles` and `mcp_config`.
    pub fn set_account(&self, account: Value) {
        self.lock().account.me = account;
    }

    /// Stores a secret of the account.
    pub fn set_secret(&self, name: &str, value: &str, description: &str) {
        self.lock().account.set_secret(name, value, description);
    }

    /// Returns the value of a secret of the account.
    pub fn secret(&self, name: &str) -> Option<String> {
        self.lock().account.secret(name)
    }

    /// Sets the answers to the next requests for the token of a login: `authorization_pending`,
    /// `slow_down`, `expired_token`, `access_denied` or another error. Further requests return the
    /// token.
    pub fn login_answers(&self, errors: &[&str]) {
        let errors = errors.iter().map(|&error| error.to_owned());
        self.lock().account.login_answers = errors.collect();
    }

    /// Sets the delay in seconds that a login asks for between two requests. Default 0.01, so that
    /// tests are fast.
    pub fn login_interval(&self, seconds: f64) {
        self.lock().account.interval = seconds;
    }

    /// Sets how many seconds the code of a login is valid. Default 600.
    pub fn login_valid_for(&self, seconds: u64) {
        self.lock().account.valid = seconds;
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

impl fmt::Debug for FakeCloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeCloud")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

fn unknown(id: &str) -> Error {
    let message = format!("the fake of OpenHands Cloud has no sandbox {id}");
    Error::plain(ErrorKind::NotFound, message)
}
