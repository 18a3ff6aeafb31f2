//! The secrets that are stored for agents.

use oh_protocol::calls::settings::{DeleteSecret, GetSecret, ListSecrets, SecretInfo, SetSecret};
use oh_protocol::secrecy::SecretString;

use crate::{Admin, Request};

/// The secrets of a server: see [`Admin::secrets`].
///
/// A conversation gets a secret only if its start request refers to it, for example with
/// `Workspace::secrets` of `oh-workspace`. The value then never passes through the program.
#[derive(Debug, Clone)]
pub struct Secrets {
    admin: Admin,
}

impl Admin {
    /// Returns the secrets that are stored for agents.
    pub fn secrets(&self) -> Secrets {
        Secrets {
            admin: self.clone(),
        }
    }
}

impl Secrets {
    /// Returns the names and descriptions of all secrets (`GET /api/settings/secrets`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn list(&self) -> Request<Vec<SecretInfo>> {
        self.admin.send("list the secrets", ListSecrets::new())
    }

    /// Returns the secrets that an agent profile may use, by its id.
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if the profile does not exist, and another
    /// error if the request fails. Older servers ignore the profile and return all secrets.
    pub fn of_agent_profile(&self, id: impl Into<String>) -> Request<Vec<SecretInfo>> {
        let call = ListSecrets::new().agent_profile(id);
        self.admin
            .send("list the secrets of an agent profile", call)
    }

    /// Returns the value of a secret (`GET /api/settings/secrets/{name}`).
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if there is no such secret,
    /// [`Validation`](crate::ErrorKind::Validation) if the server rejects the name, and another
    /// error if the request fails.
    pub fn value(&self, name: impl Into<String>) -> Request<SecretString> {
        let name = name.into();
        let what = format!("read the secret `{name}`");
        self.admin.send(what, GetSecret::new(name))
    }

    /// Stores a secret, or replaces the secret with this name (`PUT /api/settings/secrets`). To set
    /// a description, pass it to [`put`](Self::put).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`put`](Self::put).
    pub fn set(
        &self,
        name: impl Into<String>,
        value: impl Into<SecretString>,
    ) -> Request<SecretInfo> {
        self.put(SetSecret::new(name, value))
    }

    /// Stores a secret with its description, or replaces the secret with this name
    /// (`PUT /api/settings/secrets`).
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if the value is empty or the
    /// server's mask, [`Validation`](crate::ErrorKind::Validation) if the server rejects the name,
    /// and another error if the request fails.
    pub fn put(&self, secret: SetSecret) -> Request<SecretInfo> {
        self.admin.send("store the secret", secret)
    }

    /// Deletes a secret (`DELETE /api/settings/secrets/{name}`). Returns whether it existed. After
    /// a lost response the request is repeated, so the result may be false although this call
    /// deleted the secret.
    ///
    /// # Errors
    ///
    /// Returns [`Validation`](crate::ErrorKind::Validation) if the server rejects the name, and
    /// another error if the request fails.
    pub fn delete(&self, name: impl Into<String>) -> Request<bool> {
        let name = name.into();
        let what = format!("delete the secret `{name}`");
        self.admin.delete(what, DeleteSecret::new(name))
    }
}
