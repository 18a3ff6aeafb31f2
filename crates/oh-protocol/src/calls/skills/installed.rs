//! Skills installed for the server's user, and where to find more.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SkillInfo;
use crate::{
    Error, Request, Result,
    calls::{call, segment},
};

/// A skill installed for the server's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstalledSkill {
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// Whether agents get it.
    #[serde(default)]
    pub enabled: bool,
    /// Where it came from.
    #[serde(default)]
    pub source: String,
    /// The commit it came from.
    #[serde(default)]
    pub resolved_ref: Option<String>,
    /// The directory in the repository it came from.
    #[serde(default)]
    pub repo_path: Option<String>,
    /// When it was installed, in ISO 8601.
    #[serde(default)]
    pub installed_at: String,
    /// Where it is on the server.
    #[serde(default)]
    pub install_path: String,
}

/// A skill that profiles can name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CatalogSkill {
    /// The skill.
    #[serde(flatten)]
    pub skill: SkillInfo,
    /// `public` or `user`.
    #[serde(default)]
    pub origin: String,
}

/// What a synchronization did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SyncResult {
    /// `success` or `error`.
    pub status: String,
    /// What happened.
    #[serde(default)]
    pub message: String,
}

/// A skill's name as a part of a path.
fn named(name: &str, rest: &str) -> Result<String> {
    if name.is_empty() || matches!(name, "." | "..") {
        return Err(Error::invalid("a skill has a name"));
    }
    Ok(format!("/api/skills/installed/{}{rest}", segment(name)))
}

/// `GET /api/skills/catalog`: the skills that profiles can name.
#[derive(Debug, Clone, Copy, Default)]
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

/// `POST /api/skills/sync`: fetches the public skills anew. It uses the server's network.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Sync;

call!(Sync => SyncResult, POST "/api/skills/sync", Idempotent;
    |_this| Ok(Request::new(http::Method::POST, "/api/skills/sync"));
    |answer| answer.json("synchronization of skills"));

/// `GET /api/skills/marketplace`: skills that can be installed, as they came.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Marketplace;

call!(Marketplace => Vec<Value>, GET "/api/skills/marketplace", Idempotent;
|_this| Ok(Request::new(http::Method::GET, "/api/skills/marketplace"));
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        skills: Vec<Value>,
    }
    answer.json::<Wire>("marketplace of skills").map(|wire| wire.skills)
});

/// `POST /api/skills/install`: installs a skill. 409 when it is there and not to be replaced.
#[derive(Clone, Serialize)]
#[must_use]
pub struct Install {
    source: String,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    git_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repo_path: Option<String>,
    force: bool,
}

// The address of a source may hold a token.
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
    /// From a git URL, `github:owner/repo`, or a directory of the server.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            git_ref: None,
            repo_path: None,
            force: false,
        }
    }

    /// From this branch, tag or commit.
    pub fn git_ref(mut self, git_ref: impl Into<String>) -> Self {
        self.git_ref = Some(git_ref.into());
        self
    }

    /// From this directory of the repository.
    pub fn repo_path(mut self, path: impl Into<String>) -> Self {
        self.repo_path = Some(path.into());
        self
    }

    /// Replaces one of the same name.
    pub fn force(mut self, yes: bool) -> Self {
        self.force = yes;
        self
    }
}

// Sent again, it would find its own work and fail.
call!(Install => InstalledSkill, POST "/api/skills/install", Never;
    |this| {
        if this.source.is_empty() {
            return Err(Error::invalid("a skill is installed from somewhere"));
        }
        Request::new(http::Method::POST, "/api/skills/install").json(this)
    };
    |answer| answer.json("installed skill"));

/// `GET /api/skills/installed`.
#[derive(Debug, Clone, Copy, Default)]
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

/// `GET /api/skills/installed/{skill_name}`.
#[derive(Debug, Clone)]
pub struct GetInstalled(String);

impl GetInstalled {
    /// The installed skill of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(GetInstalled => InstalledSkill, GET "/api/skills/installed/{skill_name}", Idempotent;
    |this| Ok(Request::new(http::Method::GET, named(&this.0, "")?));
    |answer| answer.json("installed skill"));

/// `PATCH /api/skills/installed/{skill_name}`: whether agents get it.
#[derive(Debug, Clone)]
pub struct SetEnabled(String, bool);

impl SetEnabled {
    /// The skill of this name: yes or no.
    pub fn new(name: impl Into<String>, enabled: bool) -> Self {
        Self(name.into(), enabled)
    }
}

call!(SetEnabled => (), PATCH "/api/skills/installed/{skill_name}", Idempotent;
    |this| Request::new(http::Method::PATCH, named(&this.0, "")?)
        .json(&serde_json::json!({ "enabled": this.1 }));
    |_answer| Ok(()));

/// `DELETE /api/skills/installed/{skill_name}`. A second one is answered 404.
#[derive(Debug, Clone)]
pub struct Uninstall(String);

impl Uninstall {
    /// The skill of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(Uninstall => (), DELETE "/api/skills/installed/{skill_name}", Idempotent;
    |this| Ok(Request::new(http::Method::DELETE, named(&this.0, "")?));
    |_answer| Ok(()));

/// `POST /api/skills/installed/{skill_name}/refresh`: installs it anew from where it came.
#[derive(Debug, Clone)]
pub struct Refresh(String);

impl Refresh {
    /// The skill of this name.
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
