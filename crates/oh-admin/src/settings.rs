//! The settings for agents and conversations that start later.

use oh_protocol::calls::settings::{
    Expose, GetAgentSchema, GetConversationSchema, GetSettings, Settings as Stored, SettingsSchema,
    UpdateSettings,
};

use crate::{Admin, Request};

/// The settings of a server: see [`Admin::settings`].
#[derive(Debug, Clone)]
pub struct Settings {
    admin: Admin,
}

impl Admin {
    /// Returns the settings for agents and conversations that start later.
    pub fn settings(&self) -> Settings {
        Settings {
            admin: self.clone(),
        }
    }
}

impl Settings {
    /// Returns the settings with masked secrets (`GET /api/settings`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn get(&self) -> Request<Stored> {
        self.get_with(Expose::Masked)
    }

    /// Returns the settings with secrets in this form (`GET /api/settings`). The server logs a
    /// request for plain text.
    ///
    /// # Errors
    ///
    /// Returns [`Unsupported`](crate::ErrorKind::Unsupported) if encrypted secrets are requested
    /// and the server has no key to encrypt them, and another error if the request fails.
    pub fn get_with(&self, expose: Expose) -> Request<Stored> {
        self.admin
            .send("read the settings", GetSettings::new(expose))
    }

    /// Changes settings, and returns all settings with masked secrets (`PATCH /api/settings`).
    /// Fields that are not given keep their values.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](crate::ErrorKind::InvalidInput) if nothing would change, or if a value
    ///   contains the server's mask, for example because it was read with `get`.
    /// - [`Validation`](crate::ErrorKind::Validation) if the server rejects a value; the server
    ///   does not name it.
    /// - [`NotFound`](crate::ErrorKind::NotFound) for a profile that does not exist.
    /// - Another error if the request fails.
    pub fn update(&self, change: UpdateSettings) -> Request<Stored> {
        self.admin.send("change the settings", change)
    }

    /// Returns the description of the settings for agents (`GET /api/settings/agent-schema`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn agent_schema(&self) -> Request<SettingsSchema> {
        let call = GetAgentSchema::default();
        self.admin.send("read the schema of the settings", call)
    }

    /// Returns the description of the settings for conversations
    /// (`GET /api/settings/conversation-schema`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn conversation_schema(&self) -> Request<SettingsSchema> {
        let call = GetConversationSchema::default();
        self.admin.send("read the schema of the settings", call)
    }
}
