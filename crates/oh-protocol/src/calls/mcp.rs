//! Connection tests of MCP servers from the agent server's machine.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::call;
use crate::{Answer, Error, Request, config::McpServer};

/// The maximum time that the server waits.
const LONGEST: Duration = Duration::from_secs(120);

/// `POST /api/mcp/test`: connects to an MCP server from the agent server's machine and lists its
/// tools. Nothing is stored, and the connection is closed after the test.
///
/// If an MCP server does not start, the agent continues without its tools. This call returns the
/// reason.
///
/// ```
/// use oh_protocol::{Call, calls::mcp::TestServer, config::McpServer};
/// use std::time::Duration;
///
/// let server = McpServer::stdio("uvx").args(["mcp-server-fetch"]);
/// let call = TestServer::new(server).timeout(Duration::from_secs(30));
/// assert_eq!(call.operation().route, "/api/mcp/test");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct TestServer {
    name: String,
    server: Box<McpServer>,
    timeout: Duration,
}

impl TestServer {
    /// Creates a call that tests this server.
    pub fn new(server: McpServer) -> Self {
        Self {
            name: "server".to_owned(),
            server: Box::new(server),
            timeout: Duration::from_secs(15),
        }
    }

    /// Sets the server's name in error messages, 1 to 128 characters. Default: `server`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets how long the MCP server may take to list its tools, at most two minutes. Default: 15 s.
    /// The response arrives after the test, so the timeout of the request must be longer.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}

/// The result of the [test](TestServer) of an MCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TestedServer {
    /// The test succeeded.
    Works {
        /// The names of the MCP server's tools.
        tools: Vec<String>,
    },
    /// The test failed.
    Fails {
        /// The error message.
        error: String,
        /// The kind of failure: `timeout`, `connection` or `unknown`.
        error_kind: String,
    },
}

call!(TestServer => TestedServer, POST "/api/mcp/test", Never;
|this| {
    this.server.check()?;
    let length = this.name.chars().count();
    if !(1..=128).contains(&length) {
        return Err(Error::invalid("name: must have 1 to 128 characters"));
    }
    if this.timeout.is_zero() || this.timeout > LONGEST {
        return Err(Error::invalid("timeout: must be above zero and at most 120 s"));
    }
    let body = json!({
        "name": this.name,
        "server": this.server,
        "timeout": this.timeout.as_secs_f64(),
    });
    Request::new(http::Method::POST, "/api/mcp/test").json(&body)
};
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        ok: bool,
        #[serde(default)]
        tools: Vec<String>,
        #[serde(default)]
        error: String,
        #[serde(default)]
        error_kind: String,
    }
    let wire: Wire = Answer::json(&answer, "test of an MCP server")?;
    Ok(match wire.ok {
        true => TestedServer::Works { tools: wire.tools },
        false => TestedServer::Fails { error: wire.error, error_kind: wire.error_kind },
    })
});

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::{Call, ErrorKind};

    #[test]
    fn both_results_of_a_test_are_data() {
        let call = TestServer::new(McpServer::stdio("x"));
        for (body, expected) in [
            (
                r#"{"ok":true,"tools":["a","b"],"new":1}"#,
                TestedServer::Works {
                    tools: vec!["a".into(), "b".into()],
                },
            ),
            (
                r#"{"ok":false,"error":"no such file","error_kind":"connection"}"#,
                TestedServer::Fails {
                    error: "no such file".into(),
                    error_kind: "connection".into(),
                },
            ),
        ] {
            let answer = Answer::new(StatusCode::OK, HeaderMap::new(), Bytes::from(body));
            assert_eq!(call.decode(answer).unwrap(), expected);
        }
    }

    #[test]
    fn invalid_values_are_not_sent() {
        let server = || McpServer::stdio("x");
        for call in [
            TestServer::new(server()).name(""),
            TestServer::new(server()).name("x".repeat(129)),
            TestServer::new(server()).timeout(Duration::ZERO),
            TestServer::new(server()).timeout(Duration::from_secs(121)),
            TestServer::new(McpServer::stdio("")),
        ] {
            let error = call.request().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
}
