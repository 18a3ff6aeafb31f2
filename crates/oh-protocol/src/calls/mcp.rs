//! Connection tests and authorization of MCP servers, from the agent server's machine.

use std::time::Duration;

mod oauth;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::call;
use crate::{
    Answer, Error, Request, Result,
    config::{self, McpOAuthState, McpServer},
};

pub use oauth::{
    GetOAuthJob, OAuthJob, OAuthStatus, StartOAuth, StartedOAuth, SubmitOAuthCallback,
};

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
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct TestServer {
    name: String,
    server: Box<McpServer>,
    timeout: Duration,
    tool_call: Option<(String, Map<String, Value>)>,
}

impl TestServer {
    /// Creates a call that tests this server.
    pub fn new(server: McpServer) -> Self {
        Self {
            name: "server".to_owned(),
            server: Box::new(server),
            timeout: Duration::from_secs(15),
            tool_call: None,
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

    /// Calls a tool after the tools have been listed. Many MCP servers check their credentials only
    /// in tools. The tool is executed, so choose one that only reads.
    pub fn tool_call(mut self, name: impl Into<String>, arguments: Map<String, Value>) -> Self {
        self.tool_call = Some((name.into(), arguments));
        self
    }

    /// Returns how long the MCP server may take.
    pub fn limit(&self) -> Duration {
        self.timeout
    }

    fn body(&self) -> Result<Value> {
        self.server.check()?;
        let length = self.name.chars().count();
        if !(1..=128).contains(&length) {
            return Err(Error::invalid("name: must have 1 to 128 characters"));
        }
        if self.timeout.is_zero() || self.timeout > LONGEST {
            return Err(Error::invalid(
                "timeout: must be above zero and at most 120 s",
            ));
        }
        let mut body = json!({
            "name": self.name,
            "server": self.server,
            "timeout": self.timeout.as_secs_f64(),
        });
        if let Some((name, arguments)) = &self.tool_call {
            config::check_unmasked("tool_call.arguments", &Value::Object(arguments.clone()))?;
            body["tool_call"] = json!({"name": name, "arguments": arguments});
        }
        Ok(body)
    }
}

/// The result of the [test](TestServer) of an MCP server.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TestedServer {
    /// The test succeeded.
    Works {
        /// The names of the MCP server's tools.
        tools: Vec<String>,
        /// The result of the [tool](TestServer::tool_call) that the test called.
        tool_result: Option<McpToolResult>,
        /// The tokens of an MCP server with OAuth, for
        /// [`McpAuth::state`](crate::config::McpAuth::state) of the stored server. Encrypted if the
        /// agent server encrypts its secrets.
        oauth_state: Option<McpOAuthState>,
    },
    /// The test failed.
    Fails {
        /// The error message.
        error: String,
        /// The kind of failure: `timeout`, `connection` or `unknown`.
        error_kind: String,
    },
}

/// The result of a tool that a test has called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct McpToolResult {
    /// Whether the MCP server reports an error. Many servers report errors in the text only.
    pub is_error: bool,
    /// The text.
    pub text: String,
}

call!(TestServer => TestedServer, POST "/api/mcp/test", Never;
|this| Request::new(http::Method::POST, "/api/mcp/test").json(&this.body()?);
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        ok: bool,
        #[serde(default)]
        tools: Vec<String>,
        tool_result: Option<McpToolResult>,
        oauth_state: Option<McpOAuthState>,
        #[serde(default)]
        error: String,
        #[serde(default)]
        error_kind: String,
    }
    let wire: Wire = Answer::json(&answer, "test of an MCP server")?;
    Ok(match wire.ok {
        true => TestedServer::Works {
            tools: wire.tools,
            tool_result: wire.tool_result,
            oauth_state: wire.oauth_state,
        },
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
                    tool_result: None,
                    oauth_state: None,
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
