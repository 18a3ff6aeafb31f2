//! Provider connections: keys and URLs that several model profiles share.

use oh_protocol::calls::connections::{
    Connection, CreateConnection, DeleteConnection, ListConnections, UpdateConnection,
};

use crate::{Admin, Request};

/// The provider connections of a server: see [`Admin::connections`].
///
/// A model refers to a connection with `Llm::provider_connection_id`. The server reads the
/// connection each time the model is used, so a replaced key applies to all its profiles.
#[derive(Debug, Clone)]
pub struct Connections {
    admin: Admin,
}

impl Admin {
    /// Returns the keys that several profiles share.
    pub fn connections(&self) -> Connections {
        Connections {
            admin: self.clone(),
        }
    }
}

impl Connections {
    /// Returns all connections, without their keys (`GET /api/llm/provider-connections`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn list(&self) -> Request<Vec<Connection>> {
        let call = ListConnections::default();
        self.admin.send("list the provider connections", call)
    }

    /// Creates a connection (`POST /api/llm/provider-connections`). The request is not repeated
    /// after an unclear failure, because each request creates a connection.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if the key is empty or the server's
    /// mask, [`Conflict`](crate::ErrorKind::Conflict) if the server has as many connections as it
    /// allows, and another error if the request fails.
    pub fn create(&self, connection: CreateConnection) -> Request<Connection> {
        self.admin
            .send("create the provider connection", connection)
    }

    /// Changes the given fields of a connection
    /// (`PATCH /api/llm/provider-connections/{connection_id}`).
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if nothing would change, or if the
    /// key is empty or the server's mask. Returns [`NotFound`](crate::ErrorKind::NotFound) if the
    /// connection does not exist, and another error if the request fails.
    pub fn update(&self, change: UpdateConnection) -> Request<Connection> {
        self.admin.send("change the provider connection", change)
    }

    /// Deletes a connection (`DELETE /api/llm/provider-connections/{connection_id}`). Returns
    /// whether it existed. After a lost response the request is repeated, so the result may be
    /// false although this call deleted the connection.
    ///
    /// # Errors
    ///
    /// Returns [`Conflict`](crate::ErrorKind::Conflict) if a profile or the settings refer to the
    /// connection, and another error if the request fails.
    pub fn delete(&self, id: impl Into<String>) -> Request<bool> {
        let call = DeleteConnection::new(id);
        self.admin.delete("delete the provider connection", call)
    }
}
