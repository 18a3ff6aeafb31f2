//! Effects of a start request's settings on the real server, with the scripted model.

use openhands::{
    Conversation, Payload, WorkspaceExt,
    protocol::{config::*, event::SecurityRisk},
    testkit::{Script, ScriptedModel},
};
use serde_json::{Value, json};

#[tokio::test]
async fn the_server_follows_a_start_request() {
    let script = Script::new()
        .call(
            "terminal",
            json!({"command": "echo \"<$GIVEN>\"; echo ${#GIVEN}"}),
        )
        .call("notify", json!({"text": "half way"}))
        .finish("Done.");
    let model = ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let directory = server.workspace_dir().display().to_string();
    let workspace = server.client().workspace(&directory);

    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("canary-key")
        .extra_header("X-Probe", "seen-by-all")
        .extra_body("probe", "in the body")
        .num_retries(0)
        .usage_id("worker");
    let parameters = json!({
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
    });
    let context = AgentContext::new()
        .system_message_suffix("SUFFIX-OF-THE-PROMPT")
        .skill(Skill::new("tides", "SKILL-ABOUT-TIDES").trigger(Trigger::keywords(["tide"])));
    let agent = Agent::default_preset(llm)
        .cli_mode(true)
        .agent_context(context)
        .filter_tools_regex("^(terminal|notify)$")
        .critic(Critic::agent_finished());
    let conversation = Conversation::builder(&workspace, agent)
        .tag("team", "tools")
        .max_iterations(20)
        .configure(|start| {
            start
                .confirmation_policy(ConfirmationPolicy::risky(SecurityRisk::High))
                .security_analyzer(SecurityAnalyzer::from(PatternAnalyzer::new()))
                .secret(
                    "GIVEN",
                    SecretSource::fixed("canary-secret").description("a probe"),
                )
                .client_tool(
                    ClientToolSpec::new("notify", "Notifies the user.").parameters(parameters),
                )
                .sub_agent(SubAgent::new("reviewer").description("reviews"))
                .user_id("somebody")
                .stuck_detection(false)
        })
        .start()
        .await
        .unwrap();

    // The server has stored all settings, and returns no secret.
    let state = conversation.info().await.unwrap().state().clone();
    let at = |path: &str| {
        let (field, rest) = path.split_once('/').unwrap_or((path, ""));
        let json = serde_json::to_value(state.get(field).unwrap()).unwrap();
        assert!(!json.to_string().contains("canary"), "{json}");
        json.pointer(&format!("/{rest}"))
            .or(rest.is_empty().then_some(&json))
            .cloned()
    };
    assert_eq!(at("tags/team"), Some(json!("tools")));
    assert_eq!(at("max_iterations"), Some(json!(20)));
    assert_eq!(at("confirmation_policy/threshold"), Some(json!("HIGH")));
    assert_eq!(
        at("security_analyzer/kind"),
        Some(json!("PatternSecurityAnalyzer"))
    );
    assert_eq!(at("agent/llm/usage_id"), Some(json!("worker")));
    assert_eq!(at("agent/condenser/max_size"), Some(json!(80)));
    assert_eq!(at("agent/critic/kind"), Some(json!("AgentFinishedCritic")));

    // The agent uses the settings.
    conversation.send("When is high tide?").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();
    let requests = model.requests();
    let first = &requests[0];
    assert_eq!(first.header("x-probe"), Some("seen-by-all"));
    assert_eq!(first.header("authorization"), Some("Bearer canary-key"));
    assert_eq!(first.body()["probe"], "in the body");
    assert!(first.contains("SUFFIX-OF-THE-PROMPT"));
    assert!(first.contains("SKILL-ABOUT-TIDES"));
    let mut tools = first.tools();
    tools.sort_unstable();
    assert_eq!(tools, ["finish", "notify", "terminal", "think"]);

    let mut printed = String::new();
    let mut notified = None;
    for event in conversation.events().iter() {
        let json: Value = serde_json::from_slice(event.raw()).unwrap();
        assert!(!json.to_string().contains("canary"), "{json}");
        match event.payload() {
            Payload::Observation(seen) if seen.tool_name == "terminal" => printed = seen.text(),
            Payload::Action(action) if action.tool_name == "notify" => {
                notified = Some(json["action"].clone());
            }
            _ => {}
        }
    }
    // The command received the secret's 13 characters; its output contains none of them.
    assert!(
        printed.contains("13") && !printed.contains("<>"),
        "{printed}"
    );
    assert_eq!(notified.unwrap()["text"], "half way");
    conversation.close().await.unwrap();
    server
        .shutdown(std::time::Duration::from_secs(20))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_request_that_breaks_a_rule_is_never_sent() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let workspace = server
        .client()
        .workspace(server.workspace_dir().display().to_string());
    let masked = Agent::default_preset(Llm::new("m").api_key("**********"));
    let error = Conversation::builder(&workspace, masked)
        .start()
        .await
        .unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        shown.contains("agent.llm.api_key: the server's mask"),
        "{shown}"
    );
    let count = openhands::protocol::calls::conversations::Count::default();
    assert_eq!(server.client().call(&count).await.unwrap(), 0);
    server
        .shutdown(std::time::Duration::from_secs(20))
        .await
        .unwrap();
}
