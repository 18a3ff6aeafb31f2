//! Public skills and plugins. A git repository on this machine takes the place of the public one.

use std::{fs, path::PathBuf, process::Command};

use openhands::{
    admin::ErrorKind,
    protocol::calls::{
        plugins::{FetchPlugin, InstallPlugin},
        skills::{Install, LoadSkills},
    },
};
use serde_json::json;
use tempfile::TempDir;

use super::stage::Stage;

/// The repository that the server downloads public skills from.
const PUBLIC: &str = "https://github.com/OpenHands/extensions";

/// The stand-in of the public repository.
pub(super) struct Extensions {
    directory: PathBuf,
    commit: String,
}

impl Extensions {
    /// Creates the repository, and makes git in `home` use it in place of the public one.
    pub(super) fn new(home: &TempDir) -> Self {
        let directory = home.path().join("extensions");
        let write = |path: &str, text: &str| {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let skill = |name| format!("---\nname: {name}\ndescription: A skill.\n---\nDo it.\n");
        let marketplace = json!({
            "name": "public", "owner": {"name": "Tests"},
            // As in the public repository, skills are listed as plugins.
            "plugins": [
                {"name": "helper", "source": "./plugins/helper", "description": "Helps"},
                {"name": "sharpen", "source": "./skills/sharpen", "description": "Sharp"},
            ],
        });
        write("marketplaces/default.json", &marketplace.to_string());
        write("skills/sharpen/SKILL.md", &skill("sharpen"));
        let manifest = json!({"name": "helper", "version": "1.0.0", "description": "Helps"});
        write("plugins/helper/.plugin/plugin.json", &manifest.to_string());
        write("plugins/helper/skills/assist/SKILL.md", &skill("assist"));
        let here = directory.display();
        let config = format!(
            "[url \"file://{here}\"]\n\tinsteadOf = {PUBLIC}\n\tinsteadOf = {PUBLIC}.git\n"
        );
        fs::write(home.path().join(".gitconfig"), config).unwrap();
        let mut this = Self {
            directory,
            commit: String::new(),
        };
        this.git(&["init", "-q", "-b", "main"]);
        this.git(&["add", "."]);
        this.git(&[
            "-c",
            "user.name=Ada",
            "-c",
            "user.email=a@b",
            "commit",
            "-qm",
            "One",
        ]);
        this.commit = this.git(&["rev-parse", "HEAD"]);
        this
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        let output = git.args(arguments).current_dir(&self.directory).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

pub(super) async fn public_skills_are_found(stage: &Stage, extensions: &Extensions) {
    let skills = stage.admin.skills();
    let synced = skills.sync().await.unwrap();
    assert_eq!(synced.status, "success", "{synced:?}");

    let catalog = skills.catalog().await.unwrap();
    let sharpen = catalog.iter().find(|one| one.skill.name == "sharpen");
    assert_eq!(sharpen.unwrap().origin, "public", "{catalog:?}");
    let public = LoadSkills::new().public(true);
    let loaded = skills.list(public).await.unwrap();
    assert!(
        loaded.skills.iter().any(|one| one.name == "sharpen"),
        "{loaded:?}"
    );

    let offered = skills.marketplace().await.unwrap();
    let sharpen = offered.iter().find(|one| one.name == "sharpen").unwrap();
    assert_eq!(
        (sharpen.description.as_deref(), sharpen.installed),
        (Some("Sharp"), false)
    );

    let install = || Install::new(PUBLIC).repo_path("skills/sharpen");
    let installed = skills.install(install()).await.unwrap();
    assert_eq!((&*installed.name, installed.enabled), ("sharpen", true));
    assert_eq!(installed.resolved_ref.as_deref(), Some(&*extensions.commit));
    let error = skills.install(install()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let offered = skills.marketplace().await.unwrap();
    assert!(
        offered
            .iter()
            .any(|one| one.name == "sharpen" && one.installed),
        "{offered:?}"
    );
    assert_eq!(skills.refresh("sharpen").await.unwrap().name, "sharpen");
    skills.set_enabled("sharpen", false).await.unwrap();
    assert!(!skills.get("sharpen").await.unwrap().enabled);
    assert!(
        skills
            .installed()
            .await
            .unwrap()
            .iter()
            .any(|one| one.name == "sharpen")
    );
    assert!(skills.uninstall("sharpen").await.unwrap());
    assert!(!skills.uninstall("sharpen").await.unwrap());
    for error in [
        skills.get("sharpen").await.unwrap_err(),
        skills.set_enabled("sharpen", true).await.unwrap_err(),
        skills.refresh("sharpen").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    for error in [
        skills.install(Install::new("")).await.unwrap_err(),
        skills.uninstall("..").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

pub(super) async fn public_plugins_are_fetched(stage: &Stage, extensions: &Extensions) {
    let plugins = stage.admin.plugins();
    let source = format!("file://{}", extensions.directory.display());
    let fetch = || FetchPlugin::new(&source).repo_path("plugins/helper");
    let fetched = plugins.fetch(fetch().git_ref("main")).await.unwrap();
    assert_eq!(fetched.resolved_ref.as_deref(), Some(&*extensions.commit));
    assert_eq!(fetched.manifest["version"], "1.0.0");
    assert_eq!(fetched.skills, ["assist"]);
    let absent = plugins.fetch(fetch().git_ref("absent")).await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::Validation, "{absent}");

    let offered = plugins.marketplace().await.unwrap();
    let helper = offered.iter().find(|one| one.name == "helper").unwrap();
    assert!(!helper.installed, "{helper:?}");
    let install = InstallPlugin::new(PUBLIC).repo_path("plugins/helper");
    let installed = plugins.install(install).await.unwrap();
    assert_eq!((&*installed.name, &*installed.version), ("helper", "1.0.0"));
    assert!(plugins.uninstall("helper").await.unwrap());
}

/// Runs last: the repository is gone afterwards.
pub(super) async fn a_failed_download_is_reported(stage: &Stage, extensions: &Extensions) {
    fs::remove_dir_all(&extensions.directory).unwrap();
    let synced = stage.admin.skills().sync().await.unwrap();
    assert_eq!(synced.status, "error", "{synced:?}");
    assert!(!synced.message.is_empty());
}
