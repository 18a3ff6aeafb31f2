//! The skills that the server loads for an agent.

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
    MarketplaceSkill, Refresh, SetEnabled, SyncResult, SyncSkills, Uninstall,
};

/// `POST /api/skills`: returns the skills of a workspace, the user and other sources, merged.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
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
    /// Creates a call without any sources.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the skills of the project in this directory.
    pub fn project(mut self, directory: impl Into<String>) -> Self {
        self.load_project = true;
        self.project_dir = Some(directory.into());
        self
    }

    /// Sets whether skills in `~/.openhands` on the server are included.
    pub fn user(mut self, yes: bool) -> Self {
        self.load_user = yes;
        self
    }

    /// Sets whether public skills are included. The server downloads them.
    pub fn public(mut self, yes: bool) -> Self {
        self.load_public = yes;
        self
    }

    /// Sets whether the organization's skills are included.
    pub fn org(mut self, yes: bool) -> Self {
        self.load_org = yes;
        self
    }
}

/// The loaded skills and their sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct LoadedSkills {
    /// The skills, with unique names.
    pub skills: Vec<SkillInfo>,
    /// The number of skills from each source.
    #[serde(default)]
    pub sources: BTreeMap<String, i64>,
}

/// A loaded skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkillInfo {
    /// The name.
    pub name: String,
    /// The type: `repo`, `knowledge` or `agentskills`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The content.
    #[serde(default)]
    pub content: String,
    /// The words that trigger the skill.
    #[serde(default)]
    pub triggers: Vec<String>,
    /// The source.
    #[serde(default)]
    pub source: Option<String>,
    /// The description: what the skill does and when to use it.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether the skill has the Agent Skills format.
    #[serde(default)]
    pub is_agentskills_format: bool,
    /// Whether only the trigger can load the skill.
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
