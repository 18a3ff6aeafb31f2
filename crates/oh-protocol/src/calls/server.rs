//! Server details: readiness and what the server says of itself. Open to everyone.

use serde::{Deserialize, Serialize};

use super::call;
use crate::{Answer, Request};

/// `GET /ready`: whether the server takes work. A dormant one says so too.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Ready;

call!(Ready => (), GET "/ready", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/ready"));
    |_answer| Ok(()));

/// `GET /alive`: whether a server answers there.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Alive;

call!(Alive => (), GET "/alive", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/alive"));
    |_answer| Ok(()));

/// `GET /health`: the same as [`Alive`], under the name that load balancers ask for.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Health;

call!(Health => (), GET "/health", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/health"));
    |_answer| Ok(()));

/// `GET /server_info`: versions and capabilities.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct GetServerInfo;

call!(GetServerInfo => ServerInfo, GET "/server_info", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/server_info"));
    |answer| Answer::json(&answer, "server info"));

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Version of the server package, such as `1.58.0`.
    pub version: String,
    /// Seconds since it started.
    #[serde(default)]
    pub uptime: f64,
    /// Seconds since it was last asked for something.
    #[serde(default)]
    pub idle_time: f64,
    /// Version of the SDK it runs.
    #[serde(default)]
    pub sdk_version: Option<String>,
    /// Version of the tools it has.
    #[serde(default)]
    pub tools_version: Option<String>,
    /// Names of the tools an agent can use there.
    #[serde(default)]
    pub usable_tools: Vec<String>,
    /// What it promises, by name.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl ServerInfo {
    /// The version as numbers, where it is three of them.
    pub fn version_numbers(&self) -> Option<(u32, u32, u32)> {
        let mut parts = self.version.split(['.', '-', '+']).map(str::parse);
        match (parts.next()?, parts.next()?, parts.next()?) {
            (Ok(major), Ok(minor), Ok(patch)) => Some((major, minor, patch)),
            _ => None,
        }
    }

    /// Whether the server has the session socket (from 1.45 on). A version that does not read as
    /// one is taken for a newer server.
    pub fn has_session_socket(&self) -> bool {
        self.version_numbers()
            .is_none_or(|version| version >= (1, 45, 0))
    }

    /// Returns whether the server reads its own secrets without a request (from 1.50 on). An older
    /// one asks itself, and needs a session key for it:
    /// [`SecretSource::with_session_key`](crate::config::SecretSource::with_session_key).
    pub fn reads_own_secrets(&self) -> bool {
        self.version_numbers()
            .is_none_or(|version| version >= (1, 50, 0))
    }

    /// Returns whether the session socket tells what a model is writing (from 1.47 on). Before,
    /// only the legacy socket does.
    pub fn has_session_tokens(&self) -> bool {
        self.version_numbers()
            .is_none_or(|version| version >= (1, 47, 0))
    }
}
