//! The generated calls: plugins, meta-profiles, sub-agents, saved workspaces, models of ACP agents.

use oh_admin::{Admin, ErrorKind};
use oh_protocol::{
    calls::{
        acp::DiscoverAcpModels,
        meta_profiles::MetaProfile,
        plugins::{FetchPlugin, InstallPlugin, InstalledPlugin},
        skills::Install,
        workspaces::SavedWorkspace,
    },
    config::{AcpAgent, SecretSource},
};
use oh_testkit::{Fault, Mock};
use serde_json::{Value, json};

use crate::{MASK, server};

#[tokio::test]
async fn masks_and_wrong_names_are_not_sent() {
    let (server, admin) = server().await;
    let (meta, plugins) = (admin.meta_profiles(), admin.plugins());
    let secret = || SecretSource::fixed(MASK);
    let agent = || AcpAgent::new(["x"]);
    let mut strange = MetaProfile::new("m");
    strange.other.insert("key".to_owned(), json!([MASK]));
    for error in [
        meta.save("a", MetaProfile::new(MASK)).await.unwrap_err(),
        meta.save("a", strange).await.unwrap_err(),
        meta.save("a/b", MetaProfile::new("m")).await.unwrap_err(),
        meta.activate("").await.unwrap_err(),
        plugins.install(InstallPlugin::new(MASK)).await.unwrap_err(),
        plugins.install(InstallPlugin::new("")).await.unwrap_err(),
        plugins
            .fetch(FetchPlugin::new("a").secret("A", secret()))
            .await
            .unwrap_err(),
        plugins.uninstall("..").await.unwrap_err(),
        admin
            .acp()
            .models(DiscoverAcpModels::new(agent()).secret("A", secret()))
            .await
            .unwrap_err(),
        admin
            .acp()
            .models(DiscoverAcpModels::new(agent().acp_args([MASK])))
            .await
            .unwrap_err(),
        admin
            .workspaces()
            .add([SavedWorkspace::new("1", "n", MASK)])
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn unknown_fields_are_kept_and_nothing_secret_is_shown() {
    let mock = Mock::new();
    let plugins = Admin::of(&mock.client()).plugins();
    let body = json!({
        "name": "a", "source": "https://user:canary@host/x", "installed_at": "now",
        "install_path": "/p", "new": {"key": "canary"},
    });
    mock.expect("GET", "/api/plugins/installed/a")
        .answer(200, body.clone());
    let plugin = plugins.get("a").await.unwrap();
    assert!(plugin.enabled && plugin.version.is_empty() && plugin.skills.is_none());
    assert_eq!(plugin.other["new"]["key"], "canary");
    let shown = format!("{plugin:?}");
    assert!(
        shown.contains("host/x") && !shown.contains("canary"),
        "{shown}"
    );
    let written = serde_json::to_value(&plugin).unwrap();
    assert_eq!(written["new"], body["new"]);
    assert_eq!(
        serde_json::from_value::<InstalledPlugin>(written).unwrap(),
        plugin
    );
    let install = InstallPlugin::new("https://user:canary@host/x");
    assert!(!format!("{install:?}").contains("canary"));
    mock.expect("GET", "/api/plugins/installed")
        .answer(200, json!({"plugins": 1}));
    let error = plugins.installed().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_plugin_is_installed_at_most_once() {
    let (server, admin) = server().await;
    server.inject(Fault::lost_answer());
    let install = InstallPlugin::new("/p");
    let error = admin.plugins().install(install).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_removed_workspace_did_exist() {
    let mock = Mock::new();
    let saved = Admin::of(&mock.client()).workspaces();
    let path = "/api/workspaces?path=%2Fa+b";
    mock.expect("DELETE", path)
        .answer(200, json!({"deleted": true}));
    mock.expect("DELETE", path)
        .answer(404, json!({"detail": "Workspace not found"}));
    assert!(saved.remove("/a b").await.unwrap());
    assert!(!saved.remove("/a b").await.unwrap());
    mock.expect("GET", "/api/workspaces")
        .answer(404, json!({"detail": "Not Found"}));
    let error = saved.list().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    mock.expect("GET", "/api/workspaces")
        .answer(200, Value::Null);
    saved.list().await.unwrap_err();
    mock.verify().unwrap();
}

#[tokio::test]
async fn skills_are_administered() {
    let mock = Mock::new();
    let admin = Admin::of(&mock.client());
    let skill = json!({"name": "polish", "enabled": true});
    let skills = admin.skills();
    mock.expect("GET", "/api/skills/marketplace").answer(
        200,
        json!({"skills": [{"name": "polish", "description": null, "source": "s", "new": 1}]}),
    );
    let offered = skills.marketplace().await.unwrap();
    assert_eq!((&*offered[0].source, offered[0].installed), ("s", false));
    mock.expect("POST", "/api/skills/install")
        .answer(200, skill.clone());
    let installed = skills.install(Install::new("s")).await.unwrap();
    assert!(installed.enabled && installed.name == "polish");
    mock.expect("DELETE", "/api/skills/installed/polish")
        .answer(404, json!({"detail": "Skill 'polish' is not installed"}));
    assert!(!skills.uninstall("polish").await.unwrap());
    mock.expect("POST", "/api/skills/sync")
        .answer(200, json!({"status": "error", "message": "no network"}));
    assert_eq!(skills.sync().await.unwrap().status, "error");
    for error in [
        skills.install(Install::new("")).await.unwrap_err(),
        skills.get("").await.unwrap_err(),
        skills.set_enabled("..", true).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    mock.verify().unwrap();
}
