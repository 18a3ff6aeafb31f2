//! Tests of the reported status of an agent's MCP servers.

use oh_conversation::{Conversation, McpStatus};
use oh_testkit::{FakeConversation, FakeServer};
use oh_transport::Client;
use serde_json::{Value, json};

async fn reported(fake: &FakeConversation, server: &FakeServer, tail: Option<usize>) -> McpStatus {
    let client = Client::builder(server.url())
        .session_api_key(server.session_api_key())
        .build()
        .unwrap();
    let attach = Conversation::attach(&client, fake.id());
    let attach = match tail {
        Some(events) => attach.tail(events),
        None => attach,
    };
    let conversation = attach.await.unwrap();
    let status = conversation.agent().mcp_status().await.unwrap();
    conversation.close().await.unwrap();
    status
}

fn agent(kind: &str, config: &Value) -> Value {
    json!({"kind": kind, "mcp_config": config})
}

fn prompt(kinds: &[&str]) -> Value {
    let tools = kinds.iter().enumerate();
    let tools: Vec<_> = tools
        .map(|(n, kind)| json!({"kind": kind, "title": format!("tool{n}")}))
        .collect();
    json!({"system_prompt": {"type": "text", "text": "Be good."}, "tools": tools})
}

#[tokio::test]
async fn the_list_of_tools_reports_the_state_of_each_server() {
    let two = json!({"a": {"command": "x"}, "b": {"command": "y", "enabled": false}});
    let failed = || McpStatus::Failed {
        servers: vec!["a".into()],
    };
    let connected = McpStatus::Connected {
        tools: vec!["tool1".into()],
    };
    for (kind, config, tools, expected) in [
        ("Agent", json!({}), None, McpStatus::NotConfigured),
        ("Agent", Value::Null, None, McpStatus::NotConfigured),
        (
            "Agent",
            json!({"a": {"enabled": false}}),
            None,
            McpStatus::NotConfigured,
        ),
        ("Agent", two.clone(), None, McpStatus::NotStarted),
        ("Agent", two.clone(), Some(&["TerminalTool"][..]), failed()),
        (
            "Agent",
            json!({"mcpServers": two.clone()}),
            Some(&[]),
            failed(),
        ),
        (
            "Agent",
            two.clone(),
            Some(&["TerminalTool", "MCPToolDefinition"]),
            connected,
        ),
        ("ACPAgent", two, None, McpStatus::Unknown),
    ] {
        let server = FakeServer::start().await.unwrap();
        let fake = server.create();
        fake.set("agent", agent(kind, &config));
        if let Some(tools) = tools {
            fake.log("agent", "SystemPromptEvent", prompt(tools));
        }
        fake.fill(200, 10).await;
        assert_eq!(reported(&fake, &server, None).await, expected, "{config}");
        // The event with the list is not among the newest events.
        assert_eq!(
            reported(&fake, &server, Some(10)).await,
            expected,
            "{config}"
        );
    }
}
