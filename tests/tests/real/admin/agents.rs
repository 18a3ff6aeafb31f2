//! Agent profiles.

use openhands::{
    Conversation, LocalServer, WorkspaceExt as _,
    admin::ErrorKind,
    protocol::{
        calls::settings::UpdateSettings,
        config::{
            AcpAgentProfile, AgentProfile, AgentSource, CondenserSettings, LaunchAdditions,
            ToolSpec, Verification,
        },
    },
};
use tempfile::TempDir;
use uuid::Uuid;

use super::stage::{CANARY, Stage};

const MODEL: &str = "of-agents";

/// An agent profile with every field.
fn everything() -> AgentProfile {
    AgentProfile::new(MODEL)
        .tool("terminal")
        .tool(ToolSpec::new("file_editor").param("more", 1))
        .mcp_server_refs(Vec::<String>::new())
        .secret_refs(["TOKEN"])
        .persona("A tester.")
        .system_message_suffix("Be brief.")
        .disabled_skills(["github"])
        .public_skills(Vec::<String>::new())
        .condenser(
            CondenserSettings::summarizing()
                .enabled(true)
                .max_size(20)
                .max_tokens(9)
                .keep_first(3)
                .minimum_progress(0.5),
        )
        .verification(
            Verification::new()
                .critic_enabled(false)
                .critic_threshold(0.5)
                .enable_iterative_refinement(true)
                .max_refinement_iterations(2)
                .critic_server_url("http://127.0.0.1:9/")
                .critic_model_name("c"),
        )
        .enable_classify_and_switch_llm_tool(false)
        .meta_profile_ref("none")
        .tool_concurrency_limit(2)
}

pub(super) async fn an_agent_profile_lives(stage: &Stage) {
    let agents = stage.admin.agent_profiles();
    stage
        .admin
        .profiles()
        .save(MODEL, stage.llm())
        .await
        .unwrap();
    agents.save("worker", everything()).await.unwrap();
    let first = agents.get("worker").await.unwrap();
    // What was read can be saved again.
    agents.save("worker", first.profile.clone()).await.unwrap();
    let second = agents.get("worker").await.unwrap();
    assert_eq!((second.id, second.revision), (first.id, 1));
    let sent = serde_json::to_value(everything()).unwrap();
    let stored = serde_json::to_value(&second.profile).unwrap();
    for (name, value) in sent.as_object().unwrap() {
        if !value.is_object() && name != "tools" {
            assert_eq!(stored[name], *value, "{name}");
        }
    }
    assert_eq!(stored["condenser"]["max_size"], 20);
    assert_eq!(stored["verification"]["critic_model_name"], "c");
    assert_eq!(stored["tools"][1]["params"]["more"], 1);

    agents.rename("worker", "helper").await.unwrap();
    agents.activate(first.id).await.unwrap();
    let list = agents.list().await.unwrap();
    assert_eq!(list.active_agent_profile_id, Some(first.id));
    let info = list.find("helper").unwrap();
    assert_eq!((info.id, info.revision), (Some(first.id), Some(1)));
    assert_eq!(info.mcp_server_refs.as_deref(), Some(&[][..]));
    let settings = stage.admin.settings().get().await.unwrap();
    let active = settings.active_agent_profile_id;
    assert_eq!(active, Some(first.id.to_string()));

    // A model profile in use cannot be deleted.
    let error = stage.admin.profiles().delete(MODEL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains("helper"), "{error}");

    let custom = AcpAgentProfile::custom("agent --flag 'a b'")
        .acp_args(["--more"])
        .acp_model("m")
        .acp_session_mode("s")
        .acp_prompt_timeout(std::time::Duration::from_secs(3))
        .acp_startup_timeout(std::time::Duration::from_millis(1500))
        .mcp_server_refs(Vec::<String>::new())
        .secret_refs(["TOKEN"]);
    agents.save("acp", custom).await.unwrap();
    let acp = agents.get("acp").await.unwrap().profile;
    assert_eq!(acp.get::<f64>("acp_startup_timeout"), Some(1.5));
    let report = agents.materialize("acp").await.unwrap();
    assert!(report.valid && report.agent_kind == "acp", "{report:?}");
    let error = agents.rename("acp", "helper").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");

    for name in ["helper", "acp"] {
        agents.delete(name).await.unwrap();
        agents.delete(name).await.unwrap();
        for error in [
            agents.get(name).await.unwrap_err(),
            agents.rename(name, "other").await.unwrap_err(),
            agents.materialize(name).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }
    let error = agents.activate(first.id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    // The server activates another profile.
    let list = agents.list().await.unwrap();
    let active = list.active_agent_profile_id.unwrap();
    assert_eq!(list.find("default").unwrap().id, Some(active));
    let cleared = UpdateSettings::new().active_agent_profile(None);
    stage.admin.settings().update(cleared).await.unwrap();
    agents.delete("default").await.unwrap();
}

pub(super) async fn a_report_names_missing_references(stage: &Stage) {
    let agents = stage.admin.agent_profiles();
    let draft = AgentProfile::new("missing").mcp_server_refs(["absent"]);
    let report = agents.materialize_draft("draft", draft).await.unwrap();
    assert!(!report.valid && !report.llm_profile_resolved, "{report:?}");
    assert_eq!(report.dangling_mcp_server_refs, ["absent"]);
    assert_eq!(report.errors.len(), 2, "{report:?}");
    assert!(report.resolved_settings.is_none());
    let draft = AgentProfile::new(MODEL).tool("no_such_tool");
    let report = agents.materialize_draft("draft", draft).await.unwrap();
    assert_eq!(report.unusable_tools, ["no_such_tool"]);
    let report = agents.materialize_draft("draft", AgentProfile::new(MODEL));
    let report = report.await.unwrap();
    assert!(report.valid && report.llm_api_key_set, "{report:?}");
    let settings = report.resolved_settings.unwrap();
    assert!(!settings.to_string().contains(CANARY), "{settings}");

    // Rejected by the server.
    for profile in [
        AgentProfile::new(MODEL).set("more", 1),
        AgentProfile::new(MODEL).set("acp_server", "codex"),
        AgentProfile::new(MODEL).set("condenser", serde_json::json!({"max_size": 1})),
        AcpAgentProfile::new("no-such-agent").into(),
        AcpAgentProfile::new("codex")
            .set("llm_profile_ref", "m")
            .into(),
    ] {
        let error = agents.save("bad", profile.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
        let error = agents.materialize_draft("bad", profile).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    }
    for name in ["-", "a b", "\u{e4}", &"x".repeat(65)] {
        let error = agents.save(name, AgentProfile::new(MODEL));
        assert_eq!(error.await.unwrap_err().kind(), ErrorKind::Validation);
    }
    // Rejected before anything is sent.
    for profile in [
        AgentProfile::new(MODEL).tool(ToolSpec::new("a").param("key", "**********")),
        AgentProfile::new(""),
        AcpAgentProfile::custom("").into(),
    ] {
        let error = agents.save("bad", profile).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

pub(super) async fn a_conversation_uses_a_profile(
    stage: &Stage,
    server: &LocalServer,
    home: &TempDir,
) {
    let agents = stage.admin.agent_profiles();
    let secrets = stage.admin.secrets();
    for name in ["AGENT_SECRET", "OTHER_SECRET"] {
        secrets.set(name, CANARY).await.unwrap();
    }
    let profile = AgentProfile::new(MODEL)
        .tool("terminal")
        .secret_refs(["AGENT_SECRET"]);
    agents.save("runs", profile).await.unwrap();
    let id = agents.get("runs").await.unwrap().id;
    let directory = home.path().join("of-agents");
    std::fs::create_dir_all(&directory).unwrap();
    let workspace = server.workspace(directory.display().to_string());
    let of_agent = workspace
        .secrets_of_agent_profile(id.to_string())
        .await
        .unwrap();
    assert_eq!(of_agent.keys().collect::<Vec<_>>(), ["AGENT_SECRET"]);
    let nobody = workspace.secrets_of_agent_profile(Uuid::nil().to_string());
    let error = nobody.await.unwrap_err();
    assert_eq!(
        error.kind(),
        openhands::workspace::ErrorKind::NotFound,
        "{error}"
    );
    for name in ["AGENT_SECRET", "OTHER_SECRET"] {
        assert!(secrets.delete(name).await.unwrap());
    }
    let conversation = Conversation::builder(&workspace, AgentSource::profile(id))
        .autotitle(false)
        .start()
        .await
        .unwrap();
    conversation.send("Hello.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    assert!(outcome.is_finished(), "{outcome:?}");
    let agent = conversation.state().agent().unwrap().to_value();
    assert_eq!(
        agent["llm"]["model"],
        stage.llm().get::<String>("model").unwrap()
    );
    conversation.delete().await.unwrap();

    for (id, additions, what) in [
        (Uuid::nil(), LaunchAdditions::new(), "not found"),
        (
            id,
            LaunchAdditions::new().llm_profile_ref("missing"),
            "missing",
        ),
    ] {
        let error = Conversation::builder(&workspace, AgentSource::profile(id))
            .launch_additions(additions)
            .start()
            .await
            .unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
    agents.delete("runs").await.unwrap();
    stage.admin.profiles().delete(MODEL).await.unwrap();
}
