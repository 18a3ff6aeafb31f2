//! The server masks secrets in its responses. A mask that is sent back removes the real secret, so
//! no request contains one.

use oh_protocol::{
    Call, ConversationId,
    calls::{
        Any,
        agent_profiles::{Materialize, SaveAgentProfile},
        connections::{CreateConnection, UpdateConnection},
        conversations::{Create, SetSecrets, SwitchLlm},
        mcp::{StartOAuth, SubmitOAuthCallback, TestServer},
        profiles::{SaveProfile, ValidateProfile},
        settings::{AddMcpServer, PatchMcpServer, SetSecret, UpdateSettings},
    },
    config::{
        Agent, AgentProfile, Llm, McpAuth, McpServer, McpServerPatch, SecretSource,
        StartConversation, ToolSpec,
    },
};
use serde_json::json;

const MASK: &str = "**********";

/// Checks that a call is rejected with this path in the message, and that the message shows the
/// rule.
fn rejected(call: &impl Call, path: &str) {
    let error = call.request().expect_err(path).to_string();
    assert!(error.contains(path), "{path}: {error}");
}

#[test]
fn every_body_with_a_secret_rejects_the_mask() {
    let id = ConversationId::random();
    let llm = || Llm::new("m").api_key(MASK);
    let bearer = || McpServer::http("https://h").auth(McpAuth::bearer(MASK));
    rejected(&SaveProfile::new("n", llm()), "api_key");
    rejected(&ValidateProfile::new("n", llm()), "api_key");
    rejected(
        &SaveProfile::new("n", Llm::new("m").extra_header("X", MASK)),
        "extra_headers.X",
    );
    rejected(
        &SaveProfile::new("n", Llm::new("m").aws_session_token(MASK)),
        "aws_session_token",
    );
    let profile = || AgentProfile::new("m").tool(ToolSpec::new("t").param("key", MASK));
    rejected(
        &SaveAgentProfile::new("n", profile()),
        "tools[0].params.key",
    );
    rejected(
        &Materialize::new("n").draft(profile()),
        "tools[0].params.key",
    );
    rejected(&CreateConnection::new("n", MASK), "api_key");
    rejected(&CreateConnection::new("n", format!(" {MASK}\n")), "api_key");
    rejected(&UpdateConnection::new("n").api_key(MASK), "api_key");
    rejected(&SetSecret::new("A", MASK), "value");
    rejected(&UpdateSettings::new().llm(llm()), "api_key");
    let agent = json!({"mcp_config": {"a": {"env": {"B": MASK}}}});
    rejected(
        &UpdateSettings::new().agent(agent),
        "agent_settings_diff.mcp_config.a.env.B",
    );
    let list = json!({"a": [1, MASK]});
    rejected(&UpdateSettings::new().conversation(list.clone()), "a[1]");
    rejected(&UpdateSettings::new().misc(list), "misc_settings_diff.a[1]");
    rejected(&AddMcpServer::new("n", bearer()), "auth.value");
    rejected(
        &AddMcpServer::new("n", McpServer::stdio("x").env("A", MASK)),
        "env.A",
    );
    rejected(
        &PatchMcpServer::new("n", McpServerPatch::new().header("A", MASK)),
        "headers.A",
    );
    rejected(
        &PatchMcpServer::new("n", McpServerPatch::new().auth(McpAuth::bearer(MASK))),
        "auth",
    );
    rejected(&TestServer::new(bearer()), "auth.value");
    let arguments = serde_json::Map::from_iter([("token".to_owned(), MASK.into())]);
    let test = TestServer::new(McpServer::stdio("x")).tool_call("t", arguments);
    rejected(&test, "tool_call.arguments.token");
    rejected(&StartOAuth::new(TestServer::new(bearer())), "auth.value");
    rejected(&SubmitOAuthCallback::new("n", MASK), "callback_url");
    rejected(&SwitchLlm::new(id, llm()), "");
    rejected(
        &SetSecrets::new(id).secret("A", SecretSource::fixed(MASK)),
        "",
    );
    let start = StartConversation::new(Agent::new(llm()), "/w");
    rejected(&Create::new(start), "");
    let error = Any::post("/x")
        .body(&json!({"deep": [{"api_key": MASK}]}))
        .unwrap_err();
    assert!(
        error.to_string().contains("body.deep[0].api_key"),
        "{error}"
    );
}
