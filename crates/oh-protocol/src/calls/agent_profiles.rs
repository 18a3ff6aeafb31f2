//! Agent profiles: agents that are stored on the server under a name. Conversations are started
//! with the id of a profile, which stays the same if the profile is renamed or replaced.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{call, named};
use crate::{Error, Request, Result, config::AgentProfile};

const ROUTE: &str = "/api/agent-profiles";

/// `GET /api/agent-profiles`: returns a summary of each profile. If no profile is active, the
/// server activates the profile `default`, and creates it from the settings if it does not exist.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct ListAgentProfiles;

/// The agent profiles of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentProfileList {
    /// A summary of each profile.
    pub profiles: Vec<AgentProfileInfo>,
    /// The id of the active profile.
    #[serde(default)]
    pub active_agent_profile_id: Option<Uuid>,
}

impl AgentProfileList {
    /// Returns the profile with this name.
    pub fn find(&self, name: &str) -> Option<&AgentProfileInfo> {
        self.profiles.iter().find(|profile| profile.name == name)
    }
}

/// A summary of an agent profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentProfileInfo {
    /// The id. `None` if the server cannot read the stored profile.
    #[serde(default)]
    pub id: Option<Uuid>,
    /// The name.
    pub name: String,
    /// The kind of agent: `openhands` or `acp`.
    #[serde(default)]
    pub agent_kind: String,
    /// The number of times that the profile was saved.
    #[serde(default)]
    pub revision: Option<u64>,
    /// The name of the model profile. `None` for ACP agents.
    #[serde(default)]
    pub llm_profile_ref: Option<String>,
    /// The MCP servers that the agent can use. `None` means all.
    #[serde(default)]
    pub mcp_server_refs: Option<Vec<String>>,
}

call!(ListAgentProfiles => AgentProfileList, GET "/api/agent-profiles", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, ROUTE));
    |answer| answer.json("list of agent profiles"));

/// `GET /api/agent-profiles/{name}`: returns a stored agent profile.
#[derive(Debug, Clone, PartialEq)]
pub struct GetAgentProfile(String);

impl GetAgentProfile {
    /// Creates a call for the agent profile with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

/// A stored agent profile.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredAgentProfile {
    /// The name.
    pub name: String,
    /// The id, which stays the same if the profile is renamed or replaced.
    pub id: Uuid,
    /// The number of times that the profile was saved.
    pub revision: u64,
    /// All fields of the profile, without name, id and revision.
    pub profile: AgentProfile,
}

// Commands and arguments may contain secrets. `AgentProfile` does not show what it has read.
impl fmt::Debug for StoredAgentProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredAgentProfile")
            .field("name", &self.name)
            .field("id", &self.id)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

call!(GetAgentProfile => StoredAgentProfile, GET "/api/agent-profiles/{name}", Idempotent;
|this| Ok(Request::new(http::Method::GET, at(&this.0, "")?));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        name: String,
        profile: Profile,
    }
    #[derive(Deserialize)]
    struct Profile {
        id: Uuid,
        #[serde(default)]
        revision: u64,
        #[serde(flatten)]
        rest: serde_json::Map<String, Value>,
    }
    let mut wire: Wire = answer.json("agent profile")?;
    // The server assigns these fields when the profile is saved again.
    wire.profile.rest.remove("name");
    let profile = AgentProfile::from_json(wire.profile.rest.into())?;
    Ok(StoredAgentProfile {
        name: wire.name,
        id: wire.profile.id,
        revision: wire.profile.revision,
        profile,
    })
});

/// `POST /api/agent-profiles/{name}`: stores an agent under a name, or replaces the profile with
/// this name, which keeps its id. Returns 409 if the server has as many profiles as it allows.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct SaveAgentProfile {
    name: String,
    profile: Box<AgentProfile>,
}

impl SaveAgentProfile {
    /// Creates a call that stores this agent. A name starts with a letter or a digit, and has at
    /// most 64 letters, digits, dots, hyphens and underscores.
    pub fn new(name: impl Into<String>, profile: impl Into<AgentProfile>) -> Self {
        Self {
            name: name.into(),
            profile: Box::new(profile.into()),
        }
    }
}

call!(SaveAgentProfile => (), POST "/api/agent-profiles/{name}", Idempotent;
    |this| {
        this.profile.check()?;
        Request::new(http::Method::POST, at(&this.name, "")?).json(&this.profile)
    };
    |answer| answer.done("response"));

/// `POST /api/agent-profiles/{name}/rename`: changes the name of an agent profile, which keeps its
/// id. Returns 404 if the profile does not exist, and 409 if the new name is in use.
#[derive(Debug, Clone, PartialEq)]
pub struct RenameAgentProfile {
    name: String,
    new_name: String,
}

impl RenameAgentProfile {
    /// Creates a call for the agent profile with this name.
    pub fn new(name: impl Into<String>, new_name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            new_name: new_name.into(),
        }
    }
}

// Not retried: after the first request no profile has the old name.
call!(RenameAgentProfile => (), POST "/api/agent-profiles/{name}/rename", Never;
    |this| Request::new(http::Method::POST, at(&this.name, "/rename")?)
        .json(&json!({"new_name": this.new_name}));
    |answer| answer.done("response"));

/// `POST /api/agent-profiles/{profile_id}/activate`: makes an agent profile the active one. The
/// settings do not change.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivateAgentProfile(Uuid);

impl ActivateAgentProfile {
    /// Creates a call for the agent profile with this id.
    pub fn new(id: Uuid) -> Self {
        Self(id)
    }
}

call!(ActivateAgentProfile => (), POST "/api/agent-profiles/{profile_id}/activate", Idempotent;
    |this| Ok(Request::new(http::Method::POST, format!("{ROUTE}/{}/activate", this.0)));
    |answer| answer.done("response"));

/// `POST /api/agent-profiles/{name}/materialize`: reports what a conversation with an agent profile
/// would use, and what is missing. Starts nothing.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Materialize {
    name: String,
    draft: Option<Box<AgentProfile>>,
}

impl Materialize {
    /// Creates a call for the stored agent profile with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            draft: None,
        }
    }

    /// Sets an agent to report on instead of the stored one, which need not exist. Servers before
    /// 1.57 may ignore the draft, which is an error of kind
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    pub fn draft(mut self, profile: impl Into<AgentProfile>) -> Self {
        self.draft = Some(Box::new(profile.into()));
        self
    }
}

/// A report on an agent profile: the parts that a conversation would use, and missing ones.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Materialized {
    /// The kind of agent: `openhands` or `acp`.
    pub agent_kind: String,
    /// Whether a conversation can be started with the profile.
    pub valid: bool,
    /// Why a conversation cannot be started.
    pub errors: Vec<String>,
    /// The selected tools that the server cannot run.
    pub unusable_tools: Vec<String>,
    /// The name of the model profile. `None` for ACP agents.
    pub llm_profile_ref: Option<String>,
    /// Whether the model profile exists.
    pub llm_profile_resolved: bool,
    /// Whether the model profile, or its connection, has a key.
    pub llm_api_key_set: bool,
    /// The MCP servers that the profile names. `None` means all.
    pub mcp_server_refs: Option<Vec<String>>,
    /// The MCP servers that the agent would get.
    pub resolved_mcp_config_keys: Vec<String>,
    /// The MCP servers that the profile names and that the settings do not have.
    pub dangling_mcp_server_refs: Vec<String>,
    /// The skills that the profile excludes.
    pub disabled_skills: Vec<String>,
    /// The public skills that the profile names. `None` means all.
    pub public_skills: Option<Vec<String>>,
    /// The skills that the agent would get.
    pub resolved_skills: Vec<String>,
    /// The secrets that the profile names. `None` means all.
    pub secret_refs: Option<Vec<String>>,
    /// The secret with the API key of an ACP agent.
    pub acp_api_key_secret_name: Option<String>,
    /// The secret with the base URL of an ACP agent.
    pub acp_base_url_secret_name: Option<String>,
    /// The secrets with files of an ACP agent, such as a login.
    pub acp_file_secret_names: Vec<String>,
    /// The meta-profile that the profile names.
    pub meta_profile_ref: Option<String>,
    /// The meta-profile that the profile names, if it does not exist.
    pub dangling_meta_profile_ref: Option<String>,
    /// The model profiles that the meta-profile names and that do not exist.
    pub dangling_meta_profile_llm_refs: Vec<String>,
    /// The settings of the agent as JSON, with masked secrets. `None` if the profile is not valid.
    pub resolved_settings: Option<Value>,
}

// The settings are masked by the server, but free-form values may contain secrets.
impl fmt::Debug for Materialized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Materialized")
            .field("agent_kind", &self.agent_kind)
            .field("valid", &self.valid)
            .field("errors", &self.errors)
            .field("unusable_tools", &self.unusable_tools)
            .field("dangling_mcp_server_refs", &self.dangling_mcp_server_refs)
            .finish_non_exhaustive()
    }
}

call!(Materialize => Materialized, POST "/api/agent-profiles/{name}/materialize", Idempotent;
|this| {
    let request = Request::new(http::Method::POST, at(&this.name, "/materialize")?);
    match &this.draft {
        Some(draft) => {
            draft.check()?;
            request.json(&json!({"profile": draft}))
        }
        None => Ok(request),
    }
};
|answer, this| {
    const WHAT: &str = "report on an agent profile";
    let report: Value = answer.json(WHAT)?;
    // Servers that ignore the draft do not report this either.
    if this.draft.is_some() && report.get("unusable_tools").is_none() {
        let why = "the server is too old to report on a draft, and has ignored the draft";
        return Err(Error::unsupported(why));
    }
    Materialized::deserialize(report).map_err(|error| Error::decode(WHAT, error))
});

/// `DELETE /api/agent-profiles/{name}`: deletes an agent profile, if it exists. If the profile was
/// active, the server activates the profile `default` the next time that it needs one.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteAgentProfile(String);

impl DeleteAgentProfile {
    /// Creates a call for the agent profile with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(DeleteAgentProfile => (), DELETE "/api/agent-profiles/{name}", Idempotent;
    |this| Ok(Request::new(http::Method::DELETE, at(&this.0, "")?));
    |answer| answer.done("response"));

/// Returns the path of an agent profile.
fn at(name: &str, rest: &str) -> Result<String> {
    named(ROUTE, "the name of the agent profile", name, rest)
}
