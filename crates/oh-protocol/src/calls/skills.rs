//! Skills that the server finds for an agent.

mod installed;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::call;
use crate::{
    Request,
    config::{Skill, Trigger},
};

pub use installed::{
    Catalog, CatalogSkill, GetInstalled, Install, InstalledSkill, ListInstalled, Marketplace,
    Refresh, SetEnabled, Sync, SyncResult, Uninstall,
};

/// `POST /api/skills`: the skills of a workspace, of the user and of others, merged.
#[derive(Debug, Clone, Default, Serialize)]
#[must_use]
pub struct LoadSkills {
    load_public: bool,
    load_user: bool,
    load_project: bool,
    load_org: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    project_dir: Option<String>,
}

impl LoadSkills {
    /// From nowhere yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of the project in this directory.
    pub fn project(mut self, directory: impl Into<String>) -> Self {
        self.load_project = true;
        self.project_dir = Some(directory.into());
        self
    }

    /// Those below `~/.openhands` on the server.
    pub fn user(mut self, yes: bool) -> Self {
        self.load_user = yes;
        self
    }

    /// Public ones. The server fetches them over the network.
    pub fn public(mut self, yes: bool) -> Self {
        self.load_public = yes;
        self
    }

    /// Those of the organization.
    pub fn org(mut self, yes: bool) -> Self {
        self.load_org = yes;
        self
    }
}

/// Skills, and where they are from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct LoadedSkills {
    /// The skills; each name once.
    pub skills: Vec<SkillInfo>,
    /// How many came from each source.
    #[serde(default)]
    pub sources: BTreeMap<String, i64>,
}

/// A skill as the server found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkillInfo {
    /// Its name.
    pub name: String,
    /// What it is: `repo`, `knowledge` or `agentskills`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Its text.
    #[serde(default)]
    pub content: String,
    /// The words that bring it up.
    #[serde(default)]
    pub triggers: Vec<String>,
    /// Where it is from.
    #[serde(default)]
    pub source: Option<String>,
    /// What it does and when to use it.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether it is in the Agent Skills format.
    #[serde(default)]
    pub is_agentskills_format: bool,
    /// Whether only its trigger can bring it up.
    #[serde(default)]
    pub disable_model_invocation: bool,
}

impl From<SkillInfo> for Skill {
    fn from(info: SkillInfo) -> Self {
        let mut skill = Self::new(info.name, info.content)
            .is_agentskills_format(info.is_agentskills_format)
            .disable_model_invocation(info.disable_model_invocation);
        if !info.triggers.is_empty() {
            skill = skill.trigger(Trigger::keywords(info.triggers));
        }
        if let Some(source) = info.source {
            skill = skill.source(source);
        }
        if let Some(description) = info.description {
            skill = skill.description(description);
        }
        skill
    }
}

call!(LoadSkills => LoadedSkills, POST "/api/skills", Idempotent;
    |this| Request::new(http::Method::POST, "/api/skills").json(this);
    |answer| answer.json("skills"));
