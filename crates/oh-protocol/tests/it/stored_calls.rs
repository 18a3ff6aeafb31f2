//! Recorded responses about agents, plugins, skills, meta-profiles and saved workspaces.

use oh_protocol::{
    calls::{
        acp::DiscoverAcpModels,
        agent_profiles::{
            ActivateAgentProfile, DeleteAgentProfile, GetAgentProfile, ListAgentProfiles,
            Materialize, SaveAgentProfile,
        },
        meta_profiles::{
            ActivateMetaProfile, DeleteMetaProfile, GetMetaProfile, ListMetaProfiles, MetaProfile,
            SaveMetaProfile,
        },
        plugins::{
            FetchPlugin, GetInstalledPlugin, InstallPlugin, ListInstalledPlugins, ListPlugins,
            RefreshPlugin, SetPluginEnabled, UninstallPlugin,
        },
        skills::{
            GetInstalled, Install, ListInstalled, LoadSkills, Refresh, SetEnabled, Uninstall,
        },
        sub_agents::ListSubAgents,
        workspaces::{
            AddWorkspaceParents, AddWorkspaces, ListWorkspaces, RemoveWorkspace,
            RemoveWorkspaceParent, SavedWorkspace, WorkspaceParent,
        },
    },
    config::{AcpAgent, AgentProfile, DefinitionLevel},
};

use crate::admin_calls::read;

#[test]
fn recorded_agents_are_decoded() {
    read(&SaveAgentProfile::new("reviewer", AgentProfile::new("new")));
    let stored = read(&GetAgentProfile::new("reviewer")).remove(0);
    assert_eq!((&*stored.name, stored.revision), ("reviewer", 0));
    let list = read(&ListAgentProfiles::default()).remove(0);
    let known = list.profiles.iter().find(|one| one.name == "reviewer");
    assert_eq!(known.unwrap().id, Some(stored.id));
    assert!(list.active_agent_profile_id.is_some());
    let report = read(&Materialize::new("reviewer")).remove(0);
    assert!(!report.valid && report.errors == ["LLM profile 'new' not found"]);
    read(&ActivateAgentProfile::new(stored.id));
    read(&DeleteAgentProfile::new("reviewer"));

    let tester = read(&ListSubAgents::new()).remove(0).remove(0);
    assert_eq!((&*tester.name, &*tester.model), ("tester", "fast"));
    assert_eq!(tester.level, Some(DefinitionLevel::Project));
    assert!(!tester.is_builtin && tester.system_prompt == "Test.");

    let models = read(&DiscoverAcpModels::new(AcpAgent::new(["x"]))).remove(0);
    assert_eq!(models.agent_name.as_deref(), Some("player"));
    assert_eq!(models.current_model_id.as_deref(), Some("a"));
    assert_eq!(
        models.available_models[0].description.as_deref(),
        Some("One")
    );
    assert!(models.error.is_none() && !models.supports_runtime_model_switch);
}

#[test]
fn recorded_plugins_and_skills_are_decoded() {
    let fetched = read(&FetchPlugin::new("s")).remove(0);
    assert_eq!(fetched.skills, ["one"]);
    let installed = read(&InstallPlugin::new("s")).remove(0);
    assert_eq!((&*installed.name, &*installed.version), ("helper", "1.0.0"));
    assert_eq!(installed.skills.as_ref().unwrap()[0].name, "one");
    assert_eq!(
        read(&ListInstalledPlugins::default())[0],
        std::slice::from_ref(&installed)
    );
    assert_eq!(read(&GetInstalledPlugin::new("helper"))[0], installed);
    read(&SetPluginEnabled::new("helper", true));
    assert_eq!(
        read(&RefreshPlugin::new("helper"))[0].source,
        installed.source
    );
    assert_eq!(read(&ListPlugins::new())[0][0].name, "helper");
    read(&UninstallPlugin::new("helper"));

    let installed = read(&Install::new("s")).remove(0);
    assert_eq!((&*installed.name, installed.enabled), ("polish", true));
    assert_eq!(
        read(&ListInstalled::default())[0],
        std::slice::from_ref(&installed)
    );
    assert_eq!(read(&GetInstalled::new("polish"))[0], installed);
    read(&SetEnabled::new("polish", true));
    assert_eq!(read(&Refresh::new("polish"))[0].name, "polish");
    let loaded = read(&LoadSkills::new()).remove(0);
    assert_eq!(
        (&*loaded.skills[0].name, loaded.sources["sdk_base"]),
        ("polish", 1)
    );
    read(&Uninstall::new("polish"));
}

#[test]
fn recorded_meta_profiles_and_workspaces_are_decoded() {
    read(&SaveMetaProfile::new("rules", MetaProfile::new("m")));
    let rules = read(&GetMetaProfile::new("rules")).remove(0);
    assert_eq!((&*rules.classifier_model, rules.classes.len()), ("m", 2));
    let list = read(&ListMetaProfiles::default()).remove(0);
    assert_eq!(list.meta_profiles[0].num_classes, 2);
    assert!(read(&ActivateMetaProfile::new("rules"))[0].applied);
    read(&DeleteMetaProfile::new("rules"));

    let one = || SavedWorkspace::new("1", "One", "/srv/one");
    let all = || WorkspaceParent::new("p", "All", "/srv");
    assert_eq!(read(&AddWorkspaces::new([one()]))[0].workspaces, [one()]);
    let list = read(&AddWorkspaceParents::new([all()])).remove(0);
    assert_eq!(
        (&list.parents, &list.workspaces),
        (&vec![all()], &vec![one()])
    );
    assert_eq!(read(&ListWorkspaces::default())[0], list);
    read(&RemoveWorkspace::new("/srv/one"));
    read(&RemoveWorkspaceParent::new("/srv"));
}
