//! Model profiles: models and their options, stored under a name.

use std::time::Duration;

use oh_protocol::{
    calls::{
        profiles::{
            ActivateProfile, Activated, DeleteProfile, GetProfile, ListProfiles, Profile,
            ProfileList, RenameProfile, SaveProfile, ValidateProfile, Validation,
        },
        settings::Expose,
    },
    config::Llm,
};

use crate::{Admin, Request};

/// The server limits a validation to 15 s, after it has refreshed a login.
const VALIDATION: Duration = Duration::from_secs(60);

/// The model profiles of a server: see [`Admin::profiles`].
#[derive(Debug, Clone)]
pub struct Profiles {
    admin: Admin,
}

impl Admin {
    /// Returns the model profiles.
    pub fn profiles(&self) -> Profiles {
        Profiles {
            admin: self.clone(),
        }
    }
}

impl Profiles {
    /// Returns a summary of each profile, and which one is active (`GET /api/profiles`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn list(&self) -> Request<ProfileList> {
        self.admin
            .send("list the profiles", ListProfiles::default())
    }

    /// Returns a profile with its secrets in this form (`GET /api/profiles/{name}`).
    /// `Workspace::llm_profile` of `oh-workspace` returns it as an [`Llm`]. In plain text, the
    /// profile has the key and URL of its connection (not on version 1.43).
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if the profile does not exist, and another
    /// error if the request fails.
    pub fn get(&self, name: impl Into<String>, expose: Expose) -> Request<Profile> {
        let name = name.into();
        let what = format!("read the profile `{name}`");
        self.admin.send(what, GetProfile::new(name, expose))
    }

    /// Stores a model under a name, or replaces the profile with this name
    /// (`POST /api/profiles/{name}`). The key is stored too; to share a key between profiles, use a
    /// [connection](crate::Connections).
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if a value breaks a rule or
    /// contains the server's mask. Returns [`Validation`](crate::ErrorKind::Validation) if the
    /// server rejects the name, [`Conflict`](crate::ErrorKind::Conflict) if the server has as many
    /// profiles as it allows, and another error if the request fails.
    pub fn save(&self, name: impl Into<String>, llm: Llm) -> Request<()> {
        let name = name.into();
        let what = format!("save the profile `{name}`");
        self.admin.send(what, SaveProfile::new(name, llm))
    }

    /// Sends one short request to a model, and returns whether it can be used
    /// (`POST /api/profiles/{name}/validate`). Stores nothing. The provider may bill the request.
    /// The server waits at most 15 s for the provider. The name appears in the server's log only.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if a value breaks a rule or
    /// contains the server's mask. Returns [`Validation`](crate::ErrorKind::Validation) if the
    /// model refers to a connection that does not exist, and another error if the request fails.
    pub fn validate(&self, name: impl Into<String>, llm: Llm) -> Request<Validation> {
        let name = name.into();
        let what = format!("validate the profile `{name}`");
        let call = ValidateProfile::new(name, llm);
        self.admin.send_within(Some(VALIDATION), what, call)
    }

    /// Changes the name of a profile, also where agent profiles and the settings refer to it
    /// (`POST /api/profiles/{name}/rename`). The request is not repeated after an unclear failure,
    /// because a second request would not find the profile.
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if the profile does not exist,
    /// [`Conflict`](crate::ErrorKind::Conflict) if the new name is in use, and another error if the
    /// request fails.
    pub fn rename(&self, name: impl Into<String>, new_name: impl Into<String>) -> Request<()> {
        let name = name.into();
        let what = format!("rename the profile `{name}`");
        self.admin.send(what, RenameProfile::new(name, new_name))
    }

    /// Makes a profile the model of the server's agent settings
    /// (`POST /api/profiles/{name}/activate`). Running conversations keep their models.
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if the profile does not exist,
    /// [`Validation`](crate::ErrorKind::Validation) if it refers to a connection that does not
    /// exist, and another error if the request fails.
    pub fn activate(&self, name: impl Into<String>) -> Request<Activated> {
        let name = name.into();
        let what = format!("activate the profile `{name}`");
        self.admin.send(what, ActivateProfile::new(name))
    }

    /// Deletes a profile, if it exists (`DELETE /api/profiles/{name}`).
    ///
    /// # Errors
    ///
    /// Returns [`Conflict`](crate::ErrorKind::Conflict) if an agent profile refers to it, and
    /// another error if the request fails.
    pub fn delete(&self, name: impl Into<String>) -> Request<()> {
        let name = name.into();
        let what = format!("delete the profile `{name}`");
        self.admin.send(what, DeleteProfile::new(name))
    }
}
