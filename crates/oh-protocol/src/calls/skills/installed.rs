//! Skills that are installed for the server's user, and sources of further skills.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SkillInfo;
use crate::{
    Error, Request, Result,
    calls::{call, segment},
};

/// A skill that is installed for the server's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstalledSkill {
    /// The name.
    pub name: String,
    /// The version.
    #[serde(default)]
    pub version: String,
    /// The description.
    #[serde(default)]
    pub description: String,
    /// Whether agents can use the skill.
    #[serde(default)]
    pub enabled: bool,
    /// The source that the skill was installed from.
    #[serde(default)]
    pub source: String,
    /// The commit that the skill was installed from.
    #[serde(default)]
    pub resolved_ref: Option<String>,
    /// The skill's directory in the repository.
    #[serde(default)]
    pub repo_path: Option<String>,
    /// The time of the installation, in ISO 8601.
    #[serde(default)]
    pub installed_at: String,
    /// The path of the skill on the server.
    #[serde(default)]
    pub install_path: String,
}

/// A skill that profiles can refer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CatalogSkill {
    /// The skill.
    #[serde(flatten)]
    pub skill: SkillInfo,
    /// The origin: `public` or `user`.
    #[serde(default)]
    pub origin: String,
}

/// The result of a synchronization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SyncResult {
    /// The status: `success` or `error`.
    pub status: String,
    /// The message of the server.
    #[serde(default)]
    pub message: String,
}

/// Returns the path for a skill's name.
fn named(name: &str, rest: &str) -> Result<String> {
    if name.is_empty() || matches!(name, "." | "..") {
        return Err(Error::invalid("the skill name must not be empty"));
    }
    Ok(format!("/api/skills/installed/{}{rest}", segment(name)))
}

/// `GET /api/skills/catalog`: returns the skills that profiles can refer to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Catalog;

call!(Catalog => Vec<CatalogSkill>, GET "/api/skills/catalog", Idempotent;
|_this| Ok(Request::new(http::Method::GET, "/api/skills/catalog"));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        skills: Vec<CatalogSkill>,
    }
    answer.json::<Wire>("catalog of skills").map(|wire| wire.skills)
});

/// `POST /api/skills/sync`: downloads the public skills again. Requires network access on the
/// server.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct SyncSkills;

call!(SyncSkills => SyncResult, POST "/api/skills/sync", Idempotent;
    |_this| Ok(Request::new(http::Method::POST, "/api/skills/sync"));
    |answer| answer.json("synchronization of skills"));

/// A skill or plugin of the public marketplace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MarketplaceSkill {
    /// The name.
    pub name: String,
    /// The description.
    #[serde(default)]
    pub description: Option<String>,
    /// The source, for [`Install::new`].
    #[serde(default)]
    pub source: String,
    /// Whether the skill is installed.
    #[serde(default)]
    pub installed: bool,
}

/// `GET /api/skills/marketplace`: returns the skills that can be installed. Requires network access
/// on the server; without it, the list is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Marketplace;

call!(Marketplace => Vec<MarketplaceSkill>, GET "/api/skills/marketplace", Idempotent;
|_this| Ok(Request::new(http::Method::GET, "/api/skills/marketplace"));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        skills: Vec<MarketplaceSkill>,
    }
    answer.json::<Wire>("marketplace of skills").map(|wire| wire.skills)
});

/// `POST /api/skills/install`: installs a skill. Returns 409 if the skill is already installed and
/// `force` is not set.
#[derive(Clone, PartialEq, Serialize)]
#[must_use]
pub struct Install {
    source: String,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    git_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repo_path: Option<String>,
    force: bool,
}

// The source URL may contain a token.
impl fmt::Debug for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Install")
            .field("source", &crate::redact::url(&self.source))
            .field("git_ref", &self.git_ref)
            .field("repo_path", &self.repo_path)
            .field("force", &self.force)
            .finish()
    }
}

impl Install {
    /// Creates a call that installs from a git URL, `github:owner/repo`, or a directory on the
    /// server.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            git_ref: None,
            repo_path: None,
            force: false,
        }
    }

    /// Sets the branch, tag or commit.
    pub fn git_ref(mut self, git_ref: impl Into<String>) -> Self {
        self.git_ref = Some(git_ref.into());
        self
    }

    /// Sets the skill's directory in the repository.
    pub fn repo_path(mut self, path: impl Into<String>) -> Self {
        self.repo_path = Some(path.into());
        self
    }

    /// Sets whether an installed skill with the same name is replaced.
    pub fn force(mut self, yes: bool) -> Self {
        self.force = yes;
        self
    }
}

// Not retried: a second request would fail because the first one has installed the skill.
call!(Install => InstalledSkill, POST "/api/skills/install", Never;
    |this| {
        if this.source.is_empty() {
            return Err(Error::invalid("`source` must not be empty"));
        }
        Request::new(http::Method::POST, "/api/skills/install").json(this)
    };
    |answer| answer.json("installed skill"));

/// `GET /api/skills/installed`: returns the installed skills.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct ListInstalled;

call!(ListInstalled => Vec<InstalledSkill>, GET "/api/skills/installed", Idempotent;
|_this| Ok(Request::new(http::Method::GET, "/api/skills/installed"));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        skills: Vec<InstalledSkill>,
    }
    answer.json::<Wire>("installed skills").map(|wire| wire.skills)
});

/// `GET /api/skills/installed/{skill_name}`: returns an installed skill.
#[derive(Debug, Clone, PartialEq)]
pub struct GetInstalled(String);

impl GetInstalled {
    /// Creates a call for the installed skill with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(GetInstalled => InstalledSkill, GET "/api/skills/installed/{skill_name}", Idempotent;
    |this| Ok(Request::new(http::Method::GET, named(&this.0, "")?));
    |answer| answer.json("installed skill"));

/// `PATCH /api/skills/installed/{skill_name}`: sets whether agents can use the skill.
#[derive(Debug, Clone, PartialEq)]
pub struct SetEnabled(String, bool);

impl SetEnabled {
    /// Creates a call for the skill with this name.
    pub fn new(name: impl Into<String>, enabled: bool) -> Self {
        Self(name.into(), enabled)
    }
}

call!(SetEnabled => (), PATCH "/api/skills/installed/{skill_name}", Idempotent;
    |this| Request::new(http::Method::PATCH, named(&this.0, "")?)
        .json(&serde_json::json!({ "enabled": this.1 }));
    |answer| answer.done("response"));

/// `DELETE /api/skills/installed/{skill_name}`: uninstalls a skill. A repeated request returns 404.
#[derive(Debug, Clone, PartialEq)]
pub struct Uninstall(String);

impl Uninstall {
    /// Creates a call for the skill with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(Uninstall => (), DELETE "/api/skills/installed/{skill_name}", Idempotent;
    |this| Ok(Request::new(http::Method::DELETE, named(&this.0, "")?));
    |answer| answer.done("response"));

/// `POST /api/skills/installed/{skill_name}/refresh`: installs the skill again from its source.
#[derive(Debug, Clone, PartialEq)]
pub struct Refresh(String);

impl Refresh {
    /// Creates a call for the skill with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(Refresh => InstalledSkill, POST "/api/skills/installed/{skill_name}/refresh", Idempotent;
|this| Ok(Request::new(http::Method::POST, named(&this.0, "/refresh")?));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        skill: InstalledSkill,
    }
    answer.json::<Wire>("refreshed skill").map(|wire| wire.skill)
});
