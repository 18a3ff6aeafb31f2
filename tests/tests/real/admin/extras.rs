//! Meta-profiles, plugins, sub-agents, saved workspaces and the models of ACP agents.

use openhands::{
    LocalServer,
    admin::ErrorKind,
    protocol::{
        calls::{
            acp::DiscoverAcpModels,
            meta_profiles::{MetaProfile, MetaProfileClass},
            plugins::{FetchPlugin, InstallPlugin, ListPlugins},
            settings::UpdateSettings,
            sub_agents::ListSubAgents,
            workspaces::{SavedWorkspace, WorkspaceParent},
        },
        config::{AcpAgent, DefinitionLevel, SecretSource},
    },
};
use serde_json::json;
use tempfile::TempDir;

use super::stage::{CANARY, Stage};

/// The text that the server returns in place of a secret.
const MASK: &str = "**********";

pub(super) async fn a_meta_profile_lives(stage: &Stage) {
    let meta = stage.admin.meta_profiles();
    let routes = || {
        MetaProfile::new("classifier").classes([
            MetaProfileClass::new("easy tasks", "fast"),
            MetaProfileClass::new("hard tasks", "slow"),
        ])
    };
    meta.save("routes", routes()).await.unwrap();
    let read = meta.get("routes").await.unwrap();
    assert_eq!(
        (&read.classes, &read.classifier_model),
        (&routes().classes, &"classifier".into())
    );
    // What was read can be saved again.
    meta.save("routes", read).await.unwrap();
    let direct = MetaProfile::new("classifier")
        .prompt_template("{{ model_table }} {{ instance_text }}")
        .model_table("fast, slow");
    meta.save("direct", direct.clone()).await.unwrap();
    assert_eq!(
        meta.get("direct").await.unwrap().model_table,
        direct.model_table
    );
    assert!(meta.activate("routes").await.unwrap().applied);
    let list = meta.list().await.unwrap();
    assert_eq!(list.active_meta_profile.as_deref(), Some("routes"));
    let info = list.meta_profiles.iter().find(|info| info.name == "routes");
    assert_eq!(info.unwrap().num_classes, 2);
    let settings = stage.admin.settings().get().await.unwrap();
    assert_eq!(settings.active_meta_profile.as_deref(), Some("routes"));

    for error in [
        meta.save("bad", MetaProfile::new("classifier"))
            .await
            .unwrap_err(),
        meta.save("a b", routes()).await.unwrap_err(),
        meta.save("x".repeat(65), routes()).await.unwrap_err(),
        meta.save("bad", routes().prompt_template("{{ instance_text }}"))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    }
    for error in [
        meta.save("a/b", routes()).await.unwrap_err(),
        meta.save("", routes()).await.unwrap_err(),
        meta.save("a", routes().model_table(MASK))
            .await
            .unwrap_err(),
        meta.get("..").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    for name in ["routes", "direct"] {
        meta.delete(name).await.unwrap();
        meta.delete(name).await.unwrap();
        for error in [
            meta.get(name).await.unwrap_err(),
            meta.activate(name).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }
    assert_eq!(meta.list().await.unwrap().active_meta_profile, None);
    let cleared = UpdateSettings::new().active_meta_profile(None);
    stage.admin.settings().update(cleared).await.unwrap();
}

pub(super) async fn workspaces_are_saved(stage: &Stage) {
    let saved = stage.admin.workspaces();
    let one = SavedWorkspace::new("1", "One", "/srv/one").parent_path("/srv");
    let two = SavedWorkspace::new("2", "Two \u{e4}", "/srv/two & more");
    let list = saved
        .add([one.clone(), two.clone(), two.clone()])
        .await
        .unwrap();
    assert_eq!(list.workspaces, [one.clone(), two.clone()]);
    let parent = WorkspaceParent::new("p", "All", "/srv");
    let list = saved.add_parents([parent.clone()]).await.unwrap();
    assert_eq!((list.parents, list.workspaces.len()), (vec![parent], 2));
    assert!(saved.remove("/srv/two & more").await.unwrap());
    assert!(!saved.remove("/srv/two & more").await.unwrap());
    assert!(saved.remove_parent("/srv").await.unwrap());
    assert!(!saved.remove_parent("/srv").await.unwrap());
    let list = saved.list().await.unwrap();
    assert_eq!((list.workspaces, list.parents.len()), (vec![one], 0));
    for item in [
        SavedWorkspace::new("", "n", "/p"),
        SavedWorkspace::new("i", "", "/p"),
        SavedWorkspace::new("i", "x".repeat(257), "/p"),
    ] {
        let error = saved.add([item]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    }
    assert!(saved.remove("/srv/one").await.unwrap());
}

pub(super) async fn a_plugin_lives(stage: &Stage, home: &TempDir) {
    let plugins = stage.admin.plugins();
    let directory = home.path().join("a-plugin");
    let write = |path: &str, text: &str| {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        ".plugin/plugin.json",
        &json!({"name": "a-plugin", "version": "1.0.0", "description": "For tests"}).to_string(),
    );
    write(
        "skills/one/SKILL.md",
        "---\nname: one\ndescription: A skill.\n---\nDo one.\n",
    );
    write(
        "commands/two.md",
        "---\ndescription: A command.\n---\nDo two.\n",
    );
    let source = directory.display().to_string();

    let secret = SecretSource::fixed(CANARY);
    let fetch = FetchPlugin::new(&source)
        .secret("TOKEN", secret)
        .timeout(std::time::Duration::from_millis(1500));
    assert!(!format!("{fetch:?}").contains(CANARY));
    let fetched = plugins.fetch(fetch).await.unwrap();
    assert_eq!(
        (&*fetched.skills, &*fetched.commands),
        (&["one".to_owned()][..], &["two".to_owned()][..])
    );
    assert_eq!(fetched.manifest["version"], "1.0.0");

    let installed = plugins.install(InstallPlugin::new(&source)).await.unwrap();
    assert_eq!((&*installed.name, installed.enabled), ("a-plugin", true));
    let skills = installed.skills.as_deref().unwrap();
    assert!(skills.iter().any(|skill| skill.name == "one"), "{skills:?}");
    assert_eq!(plugins.get("a-plugin").await.unwrap(), installed);
    assert_eq!(plugins.installed().await.unwrap(), [installed]);
    let error = plugins
        .install(InstallPlugin::new(&source))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    write(
        ".plugin/plugin.json",
        &json!({"name": "a-plugin", "version": "2.0.0"}).to_string(),
    );
    let forced = InstallPlugin::new(&source).force(true);
    assert_eq!(plugins.install(forced).await.unwrap().version, "2.0.0");
    assert_eq!(plugins.refresh("a-plugin").await.unwrap().version, "2.0.0");
    let of_user = || ListPlugins::new().load_project(false);
    let known = plugins.list(of_user()).await.unwrap();
    assert!(
        known.iter().any(|plugin| plugin.name == "a-plugin"),
        "{known:?}"
    );
    plugins.set_enabled("a-plugin", false).await.unwrap();
    assert!(!plugins.get("a-plugin").await.unwrap().enabled);
    let known = plugins.list(of_user()).await.unwrap();
    assert!(
        !known.iter().any(|plugin| plugin.name == "a-plugin"),
        "{known:?}"
    );
    assert!(plugins.uninstall("a-plugin").await.unwrap());
    assert!(!plugins.uninstall("a-plugin").await.unwrap());
    for error in [
        plugins.get("a-plugin").await.unwrap_err(),
        plugins.set_enabled("a-plugin", true).await.unwrap_err(),
        plugins.refresh("a-plugin").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    let absent = home.path().join("absent").display().to_string();
    for error in [
        plugins
            .install(InstallPlugin::new(&absent))
            .await
            .unwrap_err(),
        plugins.fetch(FetchPlugin::new(&absent)).await.unwrap_err(),
        plugins.get("Not A Name").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    }
    for error in [
        plugins.install(InstallPlugin::new("")).await.unwrap_err(),
        plugins.get("").await.unwrap_err(),
        plugins.uninstall("a/b").await.unwrap_err(),
        plugins
            .install(InstallPlugin::new(&source).git_ref(MASK))
            .await
            .unwrap_err(),
        plugins
            .fetch(FetchPlugin::new(&source).secret("A", SecretSource::fixed(MASK)))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

pub(super) async fn sub_agents_are_found(stage: &Stage, home: &TempDir) {
    let project = home.path().join("of-sub-agents");
    let agents = project.join(".agents/agents");
    std::fs::create_dir_all(&agents).unwrap();
    let text = "---\nname: tester\ndescription: Tests.\ntools: [terminal]\nmodel: fast\n\
                max_iteration_per_run: 7\npermission_mode: never_confirm\ncustom: 1\n---\nTest it.\n";
    std::fs::write(agents.join("tester.md"), text).unwrap();
    let sub_agents = stage.admin.sub_agents();
    let list = ListSubAgents::new().project_dir(project.display().to_string());
    let all = sub_agents.list(list.clone()).await.unwrap();
    let tester = all.iter().find(|agent| agent.name == "tester").unwrap();
    assert_eq!(
        (&*tester.model, &*tester.tools),
        ("fast", &["terminal".to_owned()][..])
    );
    assert_eq!(tester.level, Some(DefinitionLevel::Project));
    assert_eq!(tester.max_iteration_per_run, Some(7));
    assert!(!tester.is_builtin && tester.system_prompt.contains("Test it."));
    assert!(all.iter().any(|agent| agent.is_builtin));
    let own = sub_agents.list(list.load_builtin(false).load_user(false));
    assert_eq!(own.await.unwrap().len(), 1);
}

/// The program of an ACP agent, which offers two models.
const AGENT: &str = "\
import json, sys
for line in sys.stdin:
    call = json.loads(line)
    result = {}
    if call.get('method') == 'initialize':
        result = {'protocolVersion': 1, 'agentInfo': {'name': 'player', 'version': '3'},
                  'agentCapabilities': {}}
    if call.get('method') == 'session/new':
        result = {'sessionId': 's', 'models': {'currentModelId': 'a', 'availableModels': [
            {'modelId': 'a', 'name': 'A'}, {'modelId': 'b', 'name': 'B', 'description': 'Bee'}]}}
    if 'id' in call:
        print(json.dumps({'jsonrpc': '2.0', 'id': call['id'], 'result': result}), flush=True)
";

pub(super) async fn an_acp_agent_names_its_models(stage: &Stage, server: &LocalServer) {
    let acp = stage.admin.acp();
    let python = server.environment().python().display().to_string();
    let agent = AcpAgent::new([&*python, "-c", AGENT]).acp_server("custom");
    let discover = DiscoverAcpModels::new(agent)
        .secret("TOKEN", SecretSource::fixed(CANARY))
        .refresh(true);
    assert!(!format!("{discover:?}").contains(CANARY));
    let found = acp.models(discover).await.unwrap();
    assert!(found.error.is_none(), "{found:?}");
    assert_eq!(found.agent_name.as_deref(), Some("player"), "{found:?}");
    assert_eq!(found.current_model_id.as_deref(), Some("a"));
    let names: Vec<_> = found
        .available_models
        .iter()
        .map(|model| &*model.model_id)
        .collect();
    assert_eq!(names, ["a", "b"]);

    let broken = AcpAgent::new(["/no/such/program"]).acp_server("custom");
    let found = acp.models(DiscoverAcpModels::new(broken)).await.unwrap();
    let error = found.error.unwrap();
    assert_eq!(error.code, "ACPSpawnError", "{error:?}");
    let masked =
        DiscoverAcpModels::new(AcpAgent::new(["x"])).secret("A", SecretSource::fixed(MASK));
    let error = acp.models(masked).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let unknown = AcpAgent::new(["x"]).acp_server("no-such-agent");
    let error = acp
        .models(DiscoverAcpModels::new(unknown))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
}
