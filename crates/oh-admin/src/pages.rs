//! Cookies for the pages of workspaces.

use oh_protocol::calls::auth::{CreateWorkspaceSession, DeleteWorkspaceSession, WorkspaceCookie};

use crate::{Admin, Request};

/// Access of browsers to the pages of workspaces: see [`Admin::workspace_pages`].
#[derive(Debug, Clone)]
pub struct WorkspacePages {
    admin: Admin,
}

impl Admin {
    /// Returns the access of browsers to the pages of workspaces.
    ///
    /// A browser cannot send the session key with the requests of an `iframe` or an `img`. A
    /// program gives the browser a cookie instead. The cookie contains the session key: give it
    /// only to users who may do everything on the server.
    pub fn workspace_pages(&self) -> WorkspacePages {
        WorkspacePages {
            admin: self.clone(),
        }
    }
}

impl WorkspacePages {
    /// Returns a cookie for `/api/conversations/{conversation_id}/workspace/…`
    /// (`POST /api/auth/workspace-session`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn open(&self) -> Request<WorkspaceCookie> {
        let call = CreateWorkspaceSession::default();
        self.admin.send("create a cookie for workspace pages", call)
    }

    /// Returns an empty cookie, with which a browser deletes its own
    /// (`DELETE /api/auth/workspace-session`). A copy of the cookie stays valid as long as the
    /// session key.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn close(&self) -> Request<WorkspaceCookie> {
        let call = DeleteWorkspaceSession::default();
        self.admin
            .send("delete the cookie for workspace pages", call)
    }
}
