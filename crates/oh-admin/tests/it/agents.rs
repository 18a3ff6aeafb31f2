//! Agent profiles on the fake server.

use oh_admin::ErrorKind;
use oh_protocol::{
    calls::{Any, agent_profiles::AgentProfileInfo, settings::UpdateSettings},
    config::{AcpAgentProfile, AgentProfile, Llm, McpServer, ToolSpec},
};
use oh_testkit::Mock;
use serde_json::json;
use uuid::Uuid;

use crate::{MASK, server};

#[tokio::test]
async fn an_agent_profile_keeps_its_id_until_it_is_deleted() {
    let (_server, admin) = server().await;
    let agents = admin.agent_profiles();
    agents.save("a", AgentProfile::new("fast")).await.unwrap();
    let first = agents.get("a").await.unwrap();
    let again = first.profile.clone().tool("terminal");
    agents.save("a", again).await.unwrap();
    agents.rename("a", "b").await.unwrap();
    let second = agents.get("b").await.unwrap();
    assert_eq!((second.id, second.revision), (first.id, 1));
    let tools: Vec<serde_json::Value> = second.profile.get("tools").unwrap();
    assert_eq!(tools, [json!({"name": "terminal"})]);

    agents.activate(second.id).await.unwrap();
    let list = agents.list().await.unwrap();
    assert_eq!(list.active_agent_profile_id, Some(second.id));
    let info: &AgentProfileInfo = list.find("b").unwrap();
    assert_eq!(info.llm_profile_ref.as_deref(), Some("fast"));
    let settings = admin.settings();
    let cleared = UpdateSettings::new().active_agent_profile(None);
    let cleared = settings.update(cleared).await.unwrap();
    assert_eq!(cleared.active_agent_profile_id, None);

    agents
        .save("c", AcpAgentProfile::new("codex"))
        .await
        .unwrap();
    let error = agents.rename("b", "c").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    agents.delete("b").await.unwrap();
    agents.delete("b").await.unwrap();
    for error in [
        agents.get("b").await.unwrap_err(),
        agents.rename("b", "d").await.unwrap_err(),
        agents.activate(second.id).await.unwrap_err(),
        agents.materialize("b").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

#[tokio::test]
async fn a_report_names_missing_references() {
    let (_server, admin) = server().await;
    let agents = admin.agent_profiles();
    let profile = || AgentProfile::new("fast").mcp_server_refs(["fetch"]);
    let report = agents.materialize_draft("new", profile()).await.unwrap();
    assert!(!report.valid && !report.llm_profile_resolved);
    assert_eq!(report.errors.len(), 2, "{report:?}");
    assert_eq!(report.dangling_mcp_server_refs, ["fetch"]);
    let llm = Llm::new("m").api_key("canary");
    admin.profiles().save("fast", llm).await.unwrap();
    let fetch = McpServer::stdio("x").env("TOKEN", "canary");
    admin.mcp().add("fetch", fetch).await.unwrap();
    agents.save("new", profile()).await.unwrap();
    let report = agents.materialize("new").await.unwrap();
    assert!(report.valid && report.llm_api_key_set, "{report:?}");
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn a_server_that_ignores_the_draft_is_too_old() {
    let mock = Mock::new();
    let admin = oh_admin::Admin::of(&mock.client());
    let agents = admin.agent_profiles();
    let old = json!({"agent_kind": "openhands", "valid": true});
    let path = "/api/agent-profiles/a/materialize";
    mock.expect("POST", path).answer(200, old.clone());
    let error = agents
        .materialize_draft("a", AgentProfile::new("m"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("too old"), "{error}");
    mock.expect("POST", path).answer(200, old);
    assert!(agents.materialize("a").await.unwrap().valid);
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_profile_with_a_mask_or_a_wrong_name_is_not_sent() {
    let (server, admin) = server().await;
    let agents = admin.agent_profiles();
    let masked = || AgentProfile::new("m").tool(ToolSpec::new("a").param("key", MASK));
    for error in [
        agents.save("a", masked()).await.unwrap_err(),
        agents.materialize_draft("a", masked()).await.unwrap_err(),
        agents
            .save("a", AcpAgentProfile::new("codex").acp_args([MASK]))
            .await
            .unwrap_err(),
        agents.save("", AgentProfile::new("m")).await.unwrap_err(),
        agents.get("../settings").await.unwrap_err(),
        agents.delete("a/b").await.unwrap_err(),
        agents.rename(".", "b").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert!(server.requests().is_empty());
    let error = agents
        .save("a b", AgentProfile::new("m"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    let error = agents.activate(Uuid::nil()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_conversation_is_started_with_a_profile() {
    let (server, admin) = server().await;
    let client = server.client().unwrap();
    let llm = Llm::new("m").api_key("canary");
    admin.profiles().save("fast", llm).await.unwrap();
    let agents = admin.agent_profiles();
    agents.save("a", AgentProfile::new("fast")).await.unwrap();
    let id = agents.get("a").await.unwrap().id;
    let start = |id: Uuid| {
        let body = json!({"workspace": {"working_dir": "/w"}, "agent_profile_id": id});
        Any::post("/api/conversations").body(&body).unwrap()
    };
    let made = client.call(&start(id)).await.unwrap();
    let info = made.to_value();
    assert_eq!(info["agent"]["llm"]["model"], "m");
    let launched = &info["launched_agent_profile"];
    assert_eq!(launched["agent_profile_id"], json!(id));
    let error = client.call(&start(Uuid::nil())).await.unwrap_err();
    assert_eq!(error.kind(), oh_transport::ErrorKind::NotFound, "{error}");
}
