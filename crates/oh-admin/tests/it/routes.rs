//! Checks which request each public method really sends. The list is `routes.txt`: `cargo xtask
//! api-coverage` reads it, and it may contain a line only if this test saw the request.

use std::collections::BTreeSet;

use oh_admin::Admin;
use oh_protocol::{
    calls::{
        acp::DiscoverAcpModels,
        connections::{CreateConnection, UpdateConnection},
        mcp::TestServer,
        meta_profiles::MetaProfile,
        operations,
        plugins::{FetchPlugin, InstallPlugin, ListPlugins},
        settings::{Expose, SetSecret, UpdateSettings},
        sub_agents::ListSubAgents,
        workspaces::{SavedWorkspace, WorkspaceParent},
    },
    config::{AcpAgent, AgentProfile, Llm, McpServer, McpServerPatch},
};
use oh_testkit::{FakeServer, fake::Seen};

/// Returns the operation of a request.
fn operation(request: &Seen) -> String {
    let mut all = operations();
    let found = all.find(|known| request.is(known.method.as_str(), known.route));
    let found = found.unwrap_or_else(|| panic!("{request:?} has no typed call"));
    format!("{} {}", found.method, found.route)
}

#[tokio::test]
async fn every_listed_method_requests_its_operation() {
    let server = FakeServer::start().await.unwrap();
    let admin = Admin::of(&server.client().unwrap());
    let mut sent = BTreeSet::new();
    // The results do not matter here.
    macro_rules! sends {
        ($($name:literal: $call:expr;)*) => {$(
            server.forget_requests();
            let _ = $call.await;
            let requests = server.requests();
            // A call that the fake server does not support is repeated.
            let operations: BTreeSet<_> = requests.iter().map(operation).collect();
            assert_eq!(operations.len(), 1, "{}: {operations:?}", $name);
            sent.extend(operations.iter().map(|it| format!("{it} by {}", $name)));
        )*};
    }
    let login = admin.subscription().login().await.unwrap();
    sends! {
        "Subscription::models": admin.subscription().models();
        "Subscription::status": admin.subscription().status();
        "Login::poll": login.poll();
        "Subscription::logout": admin.subscription().logout();
        "Models::providers": admin.models().providers();
        "Models::list": admin.models().list();
        "Models::of_provider": admin.models().of_provider("openai");
        "Models::verified": admin.models().verified();
        "Connections::list": admin.connections().list();
        "Connections::create": admin.connections().create(CreateConnection::new("a", "key"));
        "Connections::update": admin.connections().update(UpdateConnection::new("a").provider("b"));
        "Connections::delete": admin.connections().delete("a");
        "Profiles::list": admin.profiles().list();
        "Profiles::get": admin.profiles().get("a", Expose::Masked);
        "Profiles::save": admin.profiles().save("a", Llm::new("m"));
        "Profiles::validate": admin.profiles().validate("a", Llm::new("m"));
        "Profiles::rename": admin.profiles().rename("a", "b");
        "Profiles::activate": admin.profiles().activate("b");
        "Profiles::delete": admin.profiles().delete("b");
        "AgentProfiles::list": admin.agent_profiles().list();
        "AgentProfiles::get": admin.agent_profiles().get("a");
        "AgentProfiles::save": admin.agent_profiles().save("a", AgentProfile::new("m"));
        "AgentProfiles::rename": admin.agent_profiles().rename("a", "b");
        "AgentProfiles::activate": admin.agent_profiles().activate(uuid::Uuid::nil());
        "AgentProfiles::materialize": admin.agent_profiles().materialize("b");
        "AgentProfiles::materialize_draft":
            admin.agent_profiles().materialize_draft("b", AgentProfile::new("m"));
        "AgentProfiles::delete": admin.agent_profiles().delete("b");
        "MetaProfiles::list": admin.meta_profiles().list();
        "MetaProfiles::get": admin.meta_profiles().get("a");
        "MetaProfiles::save": admin.meta_profiles().save("a", MetaProfile::new("m"));
        "MetaProfiles::activate": admin.meta_profiles().activate("a");
        "MetaProfiles::delete": admin.meta_profiles().delete("a");
        "Plugins::list": admin.plugins().list(ListPlugins::new());
        "Plugins::fetch": admin.plugins().fetch(FetchPlugin::new("a"));
        "Plugins::install": admin.plugins().install(InstallPlugin::new("a"));
        "Plugins::installed": admin.plugins().installed();
        "Plugins::get": admin.plugins().get("a");
        "Plugins::set_enabled": admin.plugins().set_enabled("a", true);
        "Plugins::uninstall": admin.plugins().uninstall("a");
        "Plugins::refresh": admin.plugins().refresh("a");
        "Plugins::marketplace": admin.plugins().marketplace();
        "SubAgents::list": admin.sub_agents().list(ListSubAgents::new());
        "Acp::models": admin.acp().models(DiscoverAcpModels::new(AcpAgent::new(["a"])));
        "WorkspacePages::open": admin.workspace_pages().open();
        "WorkspacePages::close": admin.workspace_pages().close();
        "SavedWorkspaces::list": admin.workspaces().list();
        "SavedWorkspaces::add": admin.workspaces().add([SavedWorkspace::new("i", "n", "/p")]);
        "SavedWorkspaces::remove": admin.workspaces().remove("/p");
        "SavedWorkspaces::add_parents":
            admin.workspaces().add_parents([WorkspaceParent::new("i", "n", "/p")]);
        "SavedWorkspaces::remove_parent": admin.workspaces().remove_parent("/p");
        "Settings::get": admin.settings().get();
        "Settings::get_with": admin.settings().get_with(Expose::Plain);
        "Settings::update": admin.settings().update(UpdateSettings::new().active_profile(None));
        "Settings::agent_schema": admin.settings().agent_schema();
        "Settings::conversation_schema": admin.settings().conversation_schema();
        "Secrets::list": admin.secrets().list();
        "Secrets::of_agent_profile": admin.secrets().of_agent_profile("a");
        "Secrets::value": admin.secrets().value("A");
        "Secrets::set": admin.secrets().set("A", "value");
        "Secrets::put": admin.secrets().put(SetSecret::new("A", "value"));
        "Secrets::delete": admin.secrets().delete("A");
        "Mcp::list": admin.mcp().list();
        "Mcp::add": admin.mcp().add("a", McpServer::stdio("x"));
        "Mcp::patch": admin.mcp().patch("a", McpServerPatch::new().cwd(None));
        "Mcp::delete": admin.mcp().delete("a");
        "Mcp::test": admin.mcp().test(TestServer::new(McpServer::stdio("x")));
        "Mcp::authorize": admin.mcp().authorize(TestServer::new(McpServer::http("u")));
        "Mcp::authorization": admin.mcp().authorization("a");
        "Mcp::authorized": admin.mcp().authorized("a");
        "Mcp::submit_callback": admin.mcp().submit_callback("a", "http://localhost/");
    }
    // Reads the status first.
    server.forget_requests();
    let _ = admin.subscription().login().await;
    let begun = server.requests().iter().map(operation).next_back().unwrap();
    sent.insert(format!("{begun} by Subscription::login"));
    let listed: BTreeSet<_> = include_str!("routes.txt")
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, sent);
}
