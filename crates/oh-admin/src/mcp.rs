//! MCP servers in the settings, and their tests.

use std::time::Duration;

use oh_protocol::{
    calls::{
        mcp::{
            GetOAuthJob, OAuthJob, StartOAuth, StartedOAuth, SubmitOAuthCallback, TestServer,
            TestedServer,
        },
        settings::{
            AddMcpServer, Expose, GetSettings, PatchMcpServer, RemoveMcpServer, StoredMcpServer,
        },
    },
    config::{McpServer, McpServerPatch},
    secrecy::SecretString,
};

use crate::{Admin, Request};

/// The time for a request around a test.
const MARGIN: Duration = Duration::from_secs(30);

/// The MCP servers (Model Context Protocol) of agents: see [`Admin::mcp`].
#[derive(Debug, Clone)]
pub struct Mcp {
    admin: Admin,
}

impl Admin {
    /// Returns the MCP servers of agents.
    pub fn mcp(&self) -> Mcp {
        Mcp {
            admin: self.clone(),
        }
    }
}

impl Mcp {
    /// Returns the MCP servers in the settings, without their secrets (`GET /api/settings`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn list(&self) -> Request<Vec<StoredMcpServer>> {
        let call = GetSettings::new(Expose::Masked);
        let sent = self.admin.send("list the MCP servers", call);
        Request::new(async move { Ok(sent.await?.mcp_servers()) })
    }

    /// Adds an MCP server to the settings (`POST /api/settings/mcp/{settings_key}`). The request is
    /// not repeated after an unclear failure.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if a value breaks a rule or
    /// contains the server's mask, [`Conflict`](crate::ErrorKind::Conflict) if there is a server
    /// with this name, and another error if the request fails.
    pub fn add(&self, name: impl Into<String>, server: McpServer) -> Request<Vec<StoredMcpServer>> {
        let name = name.into();
        let what = format!("add the MCP server `{name}`");
        let sent = self.admin.send(what, AddMcpServer::new(name, server));
        Request::new(async move { Ok(sent.await?.mcp_servers()) })
    }

    /// Changes the given fields of an MCP server in the settings
    /// (`PATCH /api/settings/mcp/{settings_key}`).
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if a value contains the server's
    /// mask, [`NotFound`](crate::ErrorKind::NotFound) if there is no such server, and another error
    /// if the request fails.
    pub fn patch(
        &self,
        name: impl Into<String>,
        patch: McpServerPatch,
    ) -> Request<Vec<StoredMcpServer>> {
        let name = name.into();
        let what = format!("change the MCP server `{name}`");
        let sent = self.admin.send(what, PatchMcpServer::new(name, patch));
        Request::new(async move { Ok(sent.await?.mcp_servers()) })
    }

    /// Removes an MCP server from the settings (`DELETE /api/settings/mcp/{settings_key}`). Returns
    /// whether it existed. After a lost response the request is repeated, so the result may be
    /// false although this call removed the server.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn delete(&self, name: impl Into<String>) -> Request<bool> {
        let name = name.into();
        let what = format!("remove the MCP server `{name}`");
        self.admin.delete(what, RemoveMcpServer::new(name))
    }

    /// Connects to an MCP server from the agent server's machine and lists its tools
    /// (`POST /api/mcp/test`). Stores nothing. Waits as long as the test may take.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if a value breaks a rule or
    /// contains the server's mask, and another error if the request fails. A test that fails is a
    /// result.
    pub fn test(&self, test: TestServer) -> Request<TestedServer> {
        let limit = Some(test.limit() + MARGIN);
        self.admin.send_within(limit, "test the MCP server", test)
    }

    /// Begins the authorization of an MCP server that uses OAuth (`POST /api/mcp/oauth/start`).
    /// [`StartedOAuth::Authorize`] has the URL for the user's browser;
    /// [`authorized`](Self::authorized) waits until the user has granted access.
    ///
    /// The timeout of the test limits the whole authorization, at most two minutes.
    ///
    /// # Errors
    ///
    /// Returns [`Validation`](crate::ErrorKind::Validation) if the MCP server does not use OAuth,
    /// and another error if the request fails. An authorization that fails is a result.
    pub fn authorize(&self, test: TestServer) -> Request<StartedOAuth> {
        let limit = Some(test.limit() + MARGIN);
        let call = StartOAuth::new(test);
        self.admin
            .send_within(limit, "authorize the MCP server", call)
    }

    /// Returns the state of an authorization (`GET /api/mcp/oauth/status/{job_id}`).
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if the server has no such job, or has
    /// deleted it after 15 minutes, and another error if the request fails.
    pub fn authorization(&self, job_id: impl Into<String>) -> Request<OAuthJob> {
        let call = GetOAuthJob::new(job_id);
        self.admin
            .send("read the authorization of an MCP server", call)
    }

    /// Submits the URL to which the user's browser was redirected
    /// (`POST /api/mcp/oauth/callback/{job_id}`), for a browser that cannot reach the server's
    /// machine. The request is not repeated after an unclear failure, because the code in the URL
    /// can be used once.
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if the server has no such job, and
    /// [`Conflict`](crate::ErrorKind::Conflict) if the server does not accept the URL yet. Returns
    /// [`Validation`](crate::ErrorKind::Validation) if the URL is not the expected one, and another
    /// error if the request fails.
    pub fn submit_callback(
        &self,
        job_id: impl Into<String>,
        url: impl Into<SecretString>,
    ) -> Request<OAuthJob> {
        let call = SubmitOAuthCallback::new(job_id, url);
        self.admin
            .send("submit the callback of an authorization", call)
    }
}
