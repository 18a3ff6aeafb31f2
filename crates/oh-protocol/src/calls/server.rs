//! Server details: readiness, version and capabilities. All of these calls work without
//! authentication.

use serde::{Deserialize, Serialize};

use super::call;
use crate::{Answer, Request};

/// `GET /ready`: checks whether the server accepts work. A dormant server also reports that it is
/// ready.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Ready;

call!(Ready => (), GET "/ready", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/ready"));
    |answer| answer.done("response"));

/// `GET /alive`: checks whether a server responds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Alive;

call!(Alive => (), GET "/alive", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/alive"));
    |answer| answer.done("response"));

/// `GET /health`: the same as [`Alive`], with the path that load balancers use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Health;

call!(Health => (), GET "/health", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/health"));
    |answer| answer.done("response"));

/// `GET /server_info`: returns versions and capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct GetServerInfo;

call!(GetServerInfo => ServerInfo, GET "/server_info", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/server_info"));
    |answer| Answer::json(&answer, "server info"));

/// The version and capabilities of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The version of the server package, such as `1.58.2`.
    pub version: String,
    /// The number of seconds since the server started.
    #[serde(default)]
    pub uptime: f64,
    /// The number of seconds since the last request.
    #[serde(default)]
    pub idle_time: f64,
    /// The version of the SDK.
    #[serde(default)]
    pub sdk_version: Option<String>,
    /// The version of the tools package.
    #[serde(default)]
    pub tools_version: Option<String>,
    /// The names of the tools that agents can use.
    #[serde(default)]
    pub usable_tools: Vec<String>,
    /// The names of the server's capabilities.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// The oldest server version that these crates support.
pub const OLDEST_SUPPORTED: (u32, u32, u32) = (1, 40, 0);

/// Returns a server version as numbers. A missing part counts as 0. A pre-release such as
/// `1.58.2rc1` counts as its release. Returns `None` if the version does not begin with two
/// numbers.
pub fn version_numbers(version: &str) -> Option<(u32, u32, u32)> {
    let number = |part: &str| -> Option<u32> {
        let end = part.find(|c: char| !c.is_ascii_digit());
        part[..end.unwrap_or(part.len())].parse().ok()
    };
    let mut parts = version.split(['.', '-', '+']);
    let major = parts.next()?.parse().ok()?;
    let minor = number(parts.next()?)?;
    Some((major, minor, parts.next().and_then(number).unwrap_or(0)))
}

impl ServerInfo {
    /// Returns the version as numbers, as [`version_numbers`] does.
    pub fn version_numbers(&self) -> Option<(u32, u32, u32)> {
        version_numbers(&self.version)
    }

    /// Returns whether these crates support the server: it is not older than [`OLDEST_SUPPORTED`].
    /// A version that cannot be parsed counts as newer.
    pub fn is_supported(&self) -> bool {
        self.version_numbers()
            .is_none_or(|version| version >= OLDEST_SUPPORTED)
    }

    /// Returns whether the server has the session socket (from 1.45 on). A version that cannot be
    /// parsed counts as newer.
    pub fn has_session_socket(&self) -> bool {
        self.version_numbers()
            .is_none_or(|version| version >= (1, 45, 0))
    }

    /// Returns whether the server reads its own secrets without an HTTP request (from 1.50 on). An
    /// older server sends the request to itself and needs a session key for it:
    /// [`SecretSource::with_session_key`](crate::config::SecretSource::with_session_key).
    pub fn reads_own_secrets(&self) -> bool {
        self.version_numbers()
            .is_none_or(|version| version >= (1, 50, 0))
    }

    /// Returns whether the session socket sends model output while it is generated (from 1.47 on).
    /// On older servers, only the legacy socket does.
    pub fn has_session_tokens(&self) -> bool {
        self.version_numbers()
            .is_none_or(|version| version >= (1, 47, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_missing_parts_and_pre_releases_are_compared() {
        for (version, numbers, supported) in [
            ("1.58.2", Some((1, 58, 2)), true),
            ("1.40.0", Some((1, 40, 0)), true),
            ("1.40.0rc1", Some((1, 40, 0)), true),
            ("1.39.9", Some((1, 39, 9)), false),
            ("1.39", Some((1, 39, 0)), false),
            ("1.39.0rc1", Some((1, 39, 0)), false),
            ("1.39-rc1", Some((1, 39, 0)), false),
            ("1.39rc1", Some((1, 39, 0)), false),
            ("1.39.0.dev3+local", Some((1, 39, 0)), false),
            ("0.9.1", Some((0, 9, 1)), false),
            ("2.0", Some((2, 0, 0)), true),
            ("1.58.99999999999", Some((1, 58, 0)), true),
            ("1.99999999999.0", None, true),
            ("1", None, true),
            ("main", None, true),
            ("", None, true),
        ] {
            let info: ServerInfo =
                serde_json::from_value(serde_json::json!({"version": version})).expect("an info");
            let found = (info.version_numbers(), info.is_supported());
            assert_eq!(found, (numbers, supported), "{version}");
        }
    }
}
