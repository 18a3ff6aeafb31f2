//! Tests for configurations in requests: values that are rejected, and values that are never shown.

use std::error::Error as _;

use http::Method;
use oh_protocol::{
    Call, ConversationId, ErrorKind,
    calls::conversations::{Create, SwitchLlm},
    config::{
        AcpAgent, Agent, AgentContext, ApiCritic, GraySwanAnalyzer, Llm, McpAuth, McpServer,
        SecretSource, Skill, StartConversation, SubAgent, ToolSpec,
    },
};
use serde_json::json;

fn llm(key: &str) -> Llm {
    Llm::new("openai/gpt-5")
        .api_key(key)
        .aws_secret_access_key(key)
        .extra_header("X-Key", key)
}

fn server(key: &str) -> McpServer {
    McpServer::http(format!("https://user:{key}@host/mcp?key={key}"))
        .header("X-Key", key)
        .auth(McpAuth::bearer(key))
}

/// Returns a request that contains this key in all fields for secrets.
fn start(key: &str) -> StartConversation {
    let context = AgentContext::new()
        .secret("KEY", key)
        .skill(Skill::new("s", "text").mcp_tool("m", server(key)));
    let agent = Agent::default_preset(llm(key))
        .tool(ToolSpec::new("glob").param("key", key))
        .mcp_server("m", server(key))
        .agent_context(context)
        .critic(ApiCritic::new(key))
        .set("unheard_of", json!({"key": key}));
    StartConversation::new(agent, "/project")
        .secret("KEY", SecretSource::fixed(key))
        .secret(
            "LOOKED_UP",
            SecretSource::lookup("http://h").header("X-Key", key),
        )
        .security_analyzer(GraySwanAnalyzer::new().api_key(key))
        .sub_agent(
            SubAgent::new("a")
                .mcp_server("m", server(key))
                .metadata("key", key),
        )
        .observability_metadata("key", key)
}

#[test]
fn secrets_are_in_the_body_and_never_shown() {
    let create = Create::new(start("canary"));
    let request = create.request().unwrap();
    let body = String::from_utf8(request.body.clone().unwrap().to_vec()).unwrap();
    assert!(body.matches("canary").count() > 20, "{body}");
    let shown = format!("{create:?} {create:#?} {request:?} {:?}", start("canary"));
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn pitfall_25_a_mask_anywhere_is_rejected_with_its_place() {
    let refused = [
        (
            "agent.llm.api_key",
            StartConversation::new(Agent::new(Llm::new("m").api_key("**********")), "/w"),
        ),
        (
            "agent.mcp_config.m.auth.value",
            StartConversation::new(
                AcpAgent::new(["x"])
                    .mcp_server("m", McpServer::sse("h").auth(McpAuth::bearer("**********"))),
                "/w",
            ),
        ),
        (
            "secrets.KEY.value",
            start("canary").secret("KEY", "**********"),
        ),
        (
            "agent_definitions[1].metadata.key",
            start("canary").sub_agent(SubAgent::new("b").metadata("key", "**********")),
        ),
    ];
    for (path, start) in refused {
        let error = Create::new(start).request().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error
                .context()
                .starts_with(&format!("{path}: the server's mask")),
            "{error}"
        );
        assert!(error.source().is_none());
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[test]
fn an_invalid_model_is_rejected_in_every_call() {
    let error = SwitchLlm::new(
        ConversationId::random(),
        Llm::new("m").api_key("**********"),
    )
    .request()
    .unwrap_err();
    assert!(
        error.context().starts_with("api_key: the server's mask"),
        "{error}"
    );
}

#[test]
fn a_create_without_an_id_is_rejected() {
    let agent = || Agent::new(Llm::new("m"));
    let json = serde_json::to_value(StartConversation::new(agent(), "/w")).unwrap();
    let mut without = json.as_object().unwrap().clone();
    without.remove("conversation_id");
    for start in [
        StartConversation::from_json(without.clone().into()).unwrap(),
        StartConversation::new(agent(), "/w").set("conversation_id", json!(null)),
        StartConversation::new(agent(), "/w").set("conversation_id", "mine"),
    ] {
        let error = Create::new(start).request().unwrap_err();
        assert!(error.context().starts_with("conversation_id: "), "{error}");
    }
    let start = StartConversation::from_json(json).unwrap();
    let request = Create::new(start).request().unwrap();
    assert_eq!(request.method, Method::POST);
    let id = ConversationId::random();
    let start = StartConversation::from_json(without.into())
        .unwrap()
        .conversation_id(id);
    assert_eq!(start.id(), id);
    Create::new(start).request().unwrap();
}

#[test]
fn configurations_are_deserialized_and_compared_by_their_json() {
    let whole = start("canary");
    let text = serde_json::to_string(&whole).unwrap();
    let again: StartConversation = serde_json::from_str(&text).unwrap();
    assert_eq!(again, whole);
    assert!(!format!("{again:?}").contains("canary"));
    let other = start("other").conversation_id(whole.id());
    assert_ne!(again, other, "secrets count");

    let llm: Llm = serde_json::from_value(json!({"temperature": 0.5, "model": "m"})).unwrap();
    assert_eq!(llm, Llm::new("m").temperature(0.5), "in any order");
    assert_ne!(llm, Llm::new("m"));
    // Fields of a newer server stay.
    let newer = json!({"model": "m", "unheard_of": [1]});
    let llm: Llm = serde_json::from_value(newer.clone()).unwrap();
    assert_eq!(serde_json::to_value(&llm).unwrap(), newer);

    let error = serde_json::from_str::<Llm>("[]").unwrap_err().to_string();
    assert!(error.contains("Llm: must be a JSON object"), "{error}");
    let masked: Llm =
        serde_json::from_value(json!({"model": "m", "api_key": "**********"})).unwrap();
    assert!(masked.check().is_err(), "a mask is not a secret");
}
