//! Agent profiles: agents that are stored on the server under a name.

use oh_protocol::{
    calls::agent_profiles::{
        ActivateAgentProfile, AgentProfileList, DeleteAgentProfile, GetAgentProfile,
        ListAgentProfiles, Materialize, Materialized, RenameAgentProfile, SaveAgentProfile,
        StoredAgentProfile,
    },
    config::AgentProfile,
};
use uuid::Uuid;

use crate::{Admin, Request};

/// The agent profiles of a server: see [`Admin::agent_profiles`].
///
/// A conversation is started with a profile by `AgentSource::profile` and the profile's id. The
/// id stays the same if the profile is renamed or replaced. A conversation that has started keeps
/// its agent.
#[derive(Debug, Clone)]
pub struct AgentProfiles {
    admin: Admin,
}

impl Admin {
    /// Returns the agent profiles.
    pub fn agent_profiles(&self) -> AgentProfiles {
        AgentProfiles {
            admin: self.clone(),
        }
    }
}

impl AgentProfiles {
    /// Returns a summary of each profile, and which one is active (`GET /api/agent-profiles`). If
    /// no profile is active, the server activates the profile `default`, and creates it from the
    /// settings if it does not exist.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn list(&self) -> Request<AgentProfileList> {
        let call = ListAgentProfiles::default();
        self.admin.send("list the agent profiles", call)
    }

    /// Returns a profile (`GET /api/agent-profiles/{name}`). The profile can be changed and saved.
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if the profile does not exist, and another
    /// error if the request fails.
    pub fn get(&self, name: impl Into<String>) -> Request<StoredAgentProfile> {
        let name = name.into();
        let what = format!("read the agent profile `{name}`");
        self.admin.send(what, GetAgentProfile::new(name))
    }

    /// Stores an agent under a name, or replaces the profile with this name, which keeps its id
    /// (`POST /api/agent-profiles/{name}`). What the profile refers to need not exist yet.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if a value breaks a rule or
    /// contains the server's mask. Returns [`Validation`](crate::ErrorKind::Validation) if the
    /// server rejects the name or a field, [`Conflict`](crate::ErrorKind::Conflict) if the server
    /// has as many profiles as it allows, and another error if the request fails.
    pub fn save(&self, name: impl Into<String>, profile: impl Into<AgentProfile>) -> Request<()> {
        let name = name.into();
        let what = format!("save the agent profile `{name}`");
        self.admin.send(what, SaveAgentProfile::new(name, profile))
    }

    /// Changes the name of a profile, which keeps its id
    /// (`POST /api/agent-profiles/{name}/rename`). The request is not repeated after an unclear
    /// failure, because a second request would not find the profile.
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if the profile does not exist,
    /// [`Conflict`](crate::ErrorKind::Conflict) if the new name is in use, and another error if the
    /// request fails.
    pub fn rename(&self, name: impl Into<String>, new_name: impl Into<String>) -> Request<()> {
        let name = name.into();
        let what = format!("rename the agent profile `{name}`");
        self.admin
            .send(what, RenameAgentProfile::new(name, new_name))
    }

    /// Makes a profile the active one (`POST /api/agent-profiles/{profile_id}/activate`). The
    /// settings do not change. Programs start conversations with the active profile by its id.
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if no profile has this id, and another
    /// error if the request fails.
    pub fn activate(&self, id: Uuid) -> Request<()> {
        let what = format!("activate the agent profile {id}");
        self.admin.send(what, ActivateAgentProfile::new(id))
    }

    /// Returns what a conversation with this profile would use, and what is missing
    /// (`POST /api/agent-profiles/{name}/materialize`). Starts nothing.
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](crate::ErrorKind::NotFound) if the profile does not exist, and another
    /// error if the request fails.
    pub fn materialize(&self, name: impl Into<String>) -> Request<Materialized> {
        let name = name.into();
        let what = format!("check the agent profile `{name}`");
        self.admin.send(what, Materialize::new(name))
    }

    /// Returns what a conversation with this agent would use, and what is missing
    /// (`POST /api/agent-profiles/{name}/materialize`). Stores and starts nothing. The name appears
    /// in the report only.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if a value breaks a rule or
    /// contains the server's mask. Returns [`Validation`](crate::ErrorKind::Validation) if the
    /// server rejects a field. Returns [`Unsupported`](crate::ErrorKind::Unsupported) if the server
    /// can only report on stored profiles (before 1.57), or
    /// [`NotFound`](crate::ErrorKind::NotFound) if such a server does not have a profile with this
    /// name. Returns another error if the request fails.
    pub fn materialize_draft(
        &self,
        name: impl Into<String>,
        profile: impl Into<AgentProfile>,
    ) -> Request<Materialized> {
        let name = name.into();
        let what = format!("check the draft of the agent profile `{name}`");
        let call = Materialize::new(name).draft(profile);
        self.admin.send(what, call)
    }

    /// Deletes a profile, if it exists (`DELETE /api/agent-profiles/{name}`). If the profile was
    /// active, the server activates the profile `default` the next time that it needs one. Newer
    /// servers do so at once: `default` exists again even if it was the profile that was deleted.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn delete(&self, name: impl Into<String>) -> Request<()> {
        let name = name.into();
        let what = format!("delete the agent profile `{name}`");
        self.admin.send(what, DeleteAgentProfile::new(name))
    }
}
