//! A server of the generation before the session socket.

use std::time::Duration;

use openhands::{
    admin::{Admin, ErrorKind},
    protocol::{
        calls::{
            acp::DiscoverAcpModels,
            connections::{CreateConnection, UpdateConnection},
            plugins::FetchPlugin,
            settings::{Expose, UpdateSettings},
            sub_agents::ListSubAgents,
            workspaces::SavedWorkspace,
        },
        config::{AcpAgent, AgentProfile, Llm, McpServer},
    },
};

#[tokio::test]
async fn keys_of_an_older_server_are_administered() {
    let home = openhands_tests::home();
    let server = openhands_tests::server_before(&home).start().await.unwrap();
    let admin = Admin::of(server.client());
    let (connections, profiles) = (admin.connections(), admin.profiles());
    let made = connections
        .create(CreateConnection::new("Team", "key"))
        .await;
    let made = made.unwrap();
    let masked = UpdateConnection::new(&made.id).api_key("**********");
    let error = connections.update(masked).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let llm = Llm::new("openai/m").provider_connection_id(&made.id);
    profiles.save("kept", llm).await.unwrap();
    profiles.activate("kept").await.unwrap();
    // This version resolves a connection at activation only.
    let read = profiles.get("kept", Expose::Plain).await.unwrap();
    assert!(read.api_key_set && read.config["api_key"].is_null());
    let settings = admin.settings().get_with(Expose::Plain).await.unwrap();
    assert_eq!(settings.agent_settings["llm"]["api_key"], "key");
    let secret = admin.secrets().set("TOKEN", "value").await.unwrap();
    assert_eq!(admin.secrets().list().await.unwrap(), [secret]);
    let local = McpServer::stdio("true").env("A", "b");
    let stored = admin.mcp().add("local", local).await.unwrap();
    assert_eq!((&*stored[0].name, stored[0].enabled), ("local", true));
    // This version ignores the unknown field, so that nothing is left to change.
    let newer = UpdateSettings::new().active_meta_profile(None);
    let error = admin.settings().update(newer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    let listed = profiles.list().await.unwrap();
    assert_eq!(listed.active_profile.as_deref(), Some("kept"));
    let error = profiles.activate("none").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = connections.delete(&made.id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    an_older_server_stores_agents(&admin).await;
    newer_operations_are_unsupported(&admin).await;
    assert!(!admin.models().verified().await.unwrap().is_empty());
    server.shutdown(Duration::from_secs(30)).await.unwrap();
}

async fn an_older_server_stores_agents(admin: &Admin) {
    let agents = admin.agent_profiles();
    let profile = AgentProfile::new("kept").tool("terminal");
    agents.save("old", profile).await.unwrap();
    let stored = agents.get("old").await.unwrap();
    agents.save("old", stored.profile).await.unwrap();
    agents.rename("old", "older").await.unwrap();
    agents.activate(stored.id).await.unwrap();
    let list = agents.list().await.unwrap();
    assert_eq!(list.active_agent_profile_id, Some(stored.id));
    assert_eq!(list.find("older").unwrap().revision, Some(1));
    let report = agents.materialize("older").await.unwrap();
    assert!(report.llm_profile_resolved, "{report:?}");
    // This version does not have this field.
    let newer = AgentProfile::new("kept").persona("A tester.");
    let error = agents.save("newer", newer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    // This version reports on the stored profile instead of the draft.
    let draft = AgentProfile::new("missing");
    let error = agents.materialize_draft("older", draft).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    agents.delete("older").await.unwrap();
}

async fn newer_operations_are_unsupported(admin: &Admin) {
    let saved = SavedWorkspace::new("1", "One", "/srv/one");
    let list = admin.workspaces().add([saved.clone()]).await.unwrap();
    assert_eq!(list.workspaces, [saved]);
    assert!(admin.plugins().installed().await.unwrap().is_empty());
    let sub_agents = admin.sub_agents().list(ListSubAgents::new()).await;
    assert!(sub_agents.unwrap().iter().any(|agent| agent.is_builtin));
    let agent = AcpAgent::new(["true"]).acp_server("custom");
    for error in [
        admin.meta_profiles().list().await.unwrap_err(),
        admin.meta_profiles().get("a").await.unwrap_err(),
        admin.meta_profiles().activate("a").await.unwrap_err(),
        admin
            .acp()
            .models(DiscoverAcpModels::new(agent))
            .await
            .unwrap_err(),
        admin
            .plugins()
            .fetch(FetchPlugin::new("/srv"))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}
