//! Authorization of MCP servers with OAuth: a user grants access in a browser.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{McpToolResult, TestServer};
use crate::{
    Request, Result,
    calls::{call, named, unmasked},
    config::McpOAuthState,
    json::open_enum::open_enum,
};

/// `POST /api/mcp/oauth/start`: begins the authorization of an MCP server that uses OAuth. The
/// response arrives when the URL for the user is known, after at most 30 s. The server keeps the
/// job for 15 minutes.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct StartOAuth(TestServer);

crate::calls::same_request!(SubmitOAuthCallback);

impl StartOAuth {
    /// Creates a call that authorizes and tests the server of this test. Its authentication must be
    /// [`McpAuth::oauth`](crate::config::McpAuth::oauth). The timeout of the test limits the whole
    /// authorization, including the user's part, so set it accordingly.
    pub fn new(test: TestServer) -> Self {
        Self(test)
    }
}

/// The beginning of an authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartedOAuth {
    /// The user must open the URL and grant access. [`GetOAuthJob`] returns the result.
    Authorize {
        /// The id of the job.
        job_id: String,
        /// The URL for the user's browser.
        url: String,
    },
    /// The authorization was not necessary. [`GetOAuthJob`] returns the result.
    Done {
        /// The id of the job.
        job_id: String,
    },
    /// The authorization did not begin.
    Fails {
        /// The error message.
        error: String,
        /// The kind of failure: `timeout`, `connection` or `unknown`.
        error_kind: String,
    },
}

call!(StartOAuth => StartedOAuth, POST "/api/mcp/oauth/start", Never;
|this| Request::new(http::Method::POST, "/api/mcp/oauth/start").json(&this.0.body()?);
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        ok: bool,
        job_id: Option<String>,
        authorization_url: Option<String>,
        #[serde(default)]
        error: String,
        #[serde(default)]
        error_kind: String,
    }
    let wire: Wire = answer.json("start of an authorization")?;
    Ok(match (wire.ok, wire.job_id, wire.authorization_url) {
        (true, Some(job_id), Some(url)) => StartedOAuth::Authorize { job_id, url },
        (true, Some(job_id), None) => StartedOAuth::Done { job_id },
        _ => StartedOAuth::Fails { error: wire.error, error_kind: wire.error_kind },
    })
});

open_enum! {
    /// The status of an authorization.
    OAuthStatus {
        /// The server prepares the URL for the user.
        Pending = "pending",
        /// The server waits for the user.
        Authorizing = "authorizing",
        /// Access was granted, and the MCP server was tested.
        Succeeded = "succeeded",
        /// The authorization or the test failed.
        Failed = "failed",
    }
}

/// An authorization, and its result when it has ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OAuthJob {
    /// The id.
    pub id: String,
    /// The status.
    pub status: OAuthStatus,
    /// The URL for the user's browser.
    pub authorization_url: Option<String>,
    /// Whether the server accepts the callback URL now.
    pub callback_ready: bool,
    /// The names of the MCP server's tools.
    pub tools: Vec<String>,
    /// The result of the tool that the test called.
    pub tool_result: Option<McpToolResult>,
    /// The tokens, for [`McpAuth::state`](crate::config::McpAuth::state) of the stored server.
    /// Encrypted if the agent server encrypts its secrets.
    pub state: Option<McpOAuthState>,
    /// Why the authorization failed.
    pub error: Option<String>,
    /// The kind of failure: `timeout`, `connection` or `unknown`.
    pub error_kind: Option<String>,
}

impl OAuthJob {
    /// Returns whether the authorization has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.status, OAuthStatus::Succeeded | OAuthStatus::Failed)
    }

    fn read(answer: &crate::Answer) -> Result<Self> {
        #[derive(Deserialize)]
        struct Wire {
            job_id: String,
            status: String,
            authorization_url: Option<String>,
            #[serde(default)]
            callback_ready: bool,
            #[serde(default)]
            tools: Vec<String>,
            tool_result: Option<McpToolResult>,
            oauth_state: Option<McpOAuthState>,
            error: Option<String>,
            error_kind: Option<String>,
        }
        let wire: Wire = answer.json("authorization of an MCP server")?;
        Ok(Self {
            id: wire.job_id,
            status: OAuthStatus::from(&*wire.status),
            authorization_url: wire.authorization_url,
            callback_ready: wire.callback_ready,
            tools: wire.tools,
            tool_result: wire.tool_result,
            state: wire.oauth_state,
            error: wire.error,
            error_kind: wire.error_kind,
        })
    }
}

/// `GET /api/mcp/oauth/status/{job_id}`: returns an authorization.
#[derive(Debug, Clone, PartialEq)]
pub struct GetOAuthJob(String);

impl GetOAuthJob {
    /// Creates a call for the job with this id.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }
}

call!(GetOAuthJob => OAuthJob, GET "/api/mcp/oauth/status/{job_id}", Idempotent;
    |this| {
        let target = named("/api/mcp/oauth/status", "the job id", &this.0, "")?;
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| OAuthJob::read(&answer));

/// `POST /api/mcp/oauth/callback/{job_id}`: submits the URL to which the browser was redirected,
/// for a user whose browser cannot reach the server's machine.
#[derive(Clone)]
pub struct SubmitOAuthCallback {
    id: String,
    url: SecretString,
}

impl SubmitOAuthCallback {
    /// Creates a call for the job with this id. The URL contains the code that grants access.
    pub fn new(id: impl Into<String>, url: impl Into<SecretString>) -> Self {
        Self {
            id: id.into(),
            url: url.into(),
        }
    }
}

impl fmt::Debug for SubmitOAuthCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitOAuthCallback")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

// Not retried: a code can be used once.
call!(SubmitOAuthCallback => OAuthJob, POST "/api/mcp/oauth/callback/{job_id}", Never;
    |this| {
        unmasked("callback_url", &this.url)?;
        let target = named("/api/mcp/oauth/callback", "the job id", &this.id, "")?;
        let body = json!({"callback_url": this.url.expose_secret()});
        Request::new(http::Method::POST, target).json(&body)
    };
    |answer| OAuthJob::read(&answer));
