//! Skills: instructions that agents load when they need them.

use std::time::Duration;

use oh_protocol::calls::skills::{
    Catalog, CatalogSkill, GetInstalled, Install, InstalledSkill, ListInstalled, LoadSkills,
    LoadedSkills, Marketplace, MarketplaceSkill, Refresh, SetEnabled, SyncResult, SyncSkills,
    Uninstall,
};

use crate::{Admin, Request};

/// The time limit for requests during which the server downloads a repository.
const DOWNLOAD: Duration = Duration::from_secs(300);

/// The skills of a server: see [`Admin::skills`].
#[derive(Debug, Clone)]
pub struct Skills {
    admin: Admin,
}

impl Admin {
    /// Returns the skills that agents of the server can use.
    pub fn skills(&self) -> Skills {
        Skills {
            admin: self.clone(),
        }
    }
}

impl Skills {
    /// Returns the skills of a project, of the user and of other sources, merged
    /// (`POST /api/skills`). Waits at most 5 minutes.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn list(&self, call: LoadSkills) -> Request<LoadedSkills> {
        self.admin
            .send_within(Some(DOWNLOAD), "list the skills", call)
    }

    /// Returns the skills that agent profiles can select: those of the user, and public ones, which
    /// the server downloads (`GET /api/skills/catalog`). Waits at most 5 minutes.
    ///
    /// # Errors
    ///
    /// Returns [`Unsupported`](crate::ErrorKind::Unsupported) if the server is too old. Returns
    /// another error if the request fails.
    pub fn catalog(&self) -> Request<Vec<CatalogSkill>> {
        let call = Catalog::default();
        self.admin
            .send_within(Some(DOWNLOAD), "list the catalog of skills", call)
    }

    /// Returns the skills and plugins of the public marketplace, which the server downloads
    /// (`GET /api/skills/marketplace`). The list is empty if the server cannot download them. Waits
    /// at most 5 minutes.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn marketplace(&self) -> Request<Vec<MarketplaceSkill>> {
        let call = Marketplace::default();
        self.admin
            .send_within(Some(DOWNLOAD), "list the skills of the marketplace", call)
    }

    /// Downloads the public skills again (`POST /api/skills/sync`). Waits at most 5 minutes.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails. A failed download is not an error of the request: see
    /// [`SyncResult::status`].
    pub fn sync(&self) -> Request<SyncResult> {
        let call = SyncSkills::default();
        self.admin
            .send_within(Some(DOWNLOAD), "download the public skills", call)
    }

    /// Installs a skill (`POST /api/skills/install`). The request is not repeated after an unclear
    /// failure. Waits at most 5 minutes.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if the source is empty,
    /// [`Conflict`](crate::ErrorKind::Conflict) if the skill is already installed, and
    /// [`Validation`](crate::ErrorKind::Validation) if the source cannot be downloaded or is not a
    /// skill. Returns another error if the request fails.
    pub fn install(&self, call: Install) -> Request<InstalledSkill> {
        self.admin
            .send_within(Some(DOWNLOAD), "install the skill", call)
    }

    /// Returns the installed skills, enabled or not (`GET /api/skills/installed`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn installed(&self) -> Request<Vec<InstalledSkill>> {
        let call = ListInstalled::default();
        self.admin.send("list the installed skills", call)
    }

    /// Returns an installed skill (`GET /api/skills/installed/{skill_name}`).
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name is invalid, and
    /// [`NotFound`](crate::ErrorKind::NotFound) if the skill is not installed. Returns another
    /// error if the request fails.
    pub fn get(&self, name: impl Into<String>) -> Request<InstalledSkill> {
        self.admin
            .send("read the installed skill", GetInstalled::new(name))
    }

    /// Sets whether agents can use a skill (`PATCH /api/skills/installed/{skill_name}`).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub fn set_enabled(&self, name: impl Into<String>, enabled: bool) -> Request<()> {
        let call = SetEnabled::new(name, enabled);
        self.admin.send("enable or disable the skill", call)
    }

    /// Uninstalls a skill (`DELETE /api/skills/installed/{skill_name}`). Returns whether it
    /// existed. After a lost response the request is repeated, so the result may be false although
    /// this call removed it.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name is invalid. Returns
    /// another error if the request fails.
    pub fn uninstall(&self, name: impl Into<String>) -> Request<bool> {
        self.admin
            .delete("uninstall the skill", Uninstall::new(name))
    }

    /// Installs a skill again from its source
    /// (`POST /api/skills/installed/{skill_name}/refresh`). Waits at most 5 minutes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get), and
    /// [`Validation`](crate::ErrorKind::Validation) if the source cannot be downloaded.
    pub fn refresh(&self, name: impl Into<String>) -> Request<InstalledSkill> {
        let call = Refresh::new(name);
        self.admin
            .send_within(Some(DOWNLOAD), "refresh the skill", call)
    }
}
