//! MCP servers that work, and one that fails.

use std::time::Duration;

use openhands::{
    Agent, Conversation, LocalServer,
    conversation::McpStatus,
    protocol::{
        calls::mcp::{TestServer, TestedServer},
        config::McpServer,
    },
    testkit::Script,
};
use serde_json::json;

use super::{agent, finishes, is_old, model, outcome, workspace};

/// Returns a server with one tool, run by the agent server's own Python.
fn echo(server: &LocalServer) -> McpServer {
    let code = "from fastmcp import FastMCP\nm = FastMCP('echo')\n@m.tool\ndef echo(text: str) -> \
                str:\n    return text\nm.run()";
    let python = server.environment().python();
    McpServer::stdio(python.display().to_string()).args(["-c", code])
}

async fn with(server: &LocalServer, agent: Agent) -> Conversation {
    let builder = Conversation::builder(&workspace(server), agent);
    builder.start().await.unwrap()
}

pub(super) async fn the_status_of_mcp_servers_is_reported(server: &LocalServer) {
    let broken = McpServer::stdio("/no/such/program").args(["--verbose"]);
    let works = TestServer::new(echo(server)).timeout(Duration::from_secs(60));
    let works = server
        .client()
        .call(&works)
        .timeout(Duration::from_secs(90));
    let tools = vec!["echo".to_owned()];
    assert_eq!(
        works.await.unwrap(),
        TestedServer::Works {
            tools,
            tool_result: None,
            oauth_state: None,
        }
    );
    let fails = TestServer::new(broken.clone()).name("broken");
    let fails = server.client().call(&fails).await.unwrap();
    let TestedServer::Fails { error, error_kind } = fails else {
        panic!("{fails:?}");
    };
    assert_eq!(error_kind, "connection", "{error}");
    assert!(error.contains("/no/such/program"), "{error}");

    let is_old = is_old(server).await;
    let script = Script::new()
        .call("echo", json!({"text": "through MCP"}))
        .finish("Done.");
    let script = match is_old {
        true => script,
        false => script.finish("Done without."),
    };
    let model = model(script).await;
    let conversation = with(server, agent(&model).mcp_server("echo", echo(server))).await;
    assert_eq!(
        conversation.agent().mcp_status().await.unwrap(),
        McpStatus::NotStarted
    );
    conversation.send("Say it.").await.unwrap();
    finishes(&conversation).await;
    let tools = vec!["echo".to_owned()];
    let connected = McpStatus::Connected { tools };
    assert_eq!(conversation.agent().mcp_status().await.unwrap(), connected);
    // Also works for a handle that does not hold the start of the log.
    let late = Conversation::attach(server.client(), conversation.id()).live();
    assert_eq!(
        late.await.unwrap().agent().mcp_status().await.unwrap(),
        connected
    );

    let off = agent(&model).mcp_server("off", broken.clone().enabled(false));
    let off = with(server, off).await;
    assert_eq!(
        off.agent().mcp_status().await.unwrap(),
        McpStatus::NotConfigured
    );
    let conversation = with(server, agent(&model).mcp_server("broken", broken)).await;
    if is_old {
        // The server rejects the message and returns the reason.
        let error = conversation.send("Go.").await.unwrap_err();
        let detail = error.transport_error().and_then(|error| error.detail());
        let detail = detail.unwrap_or_default().to_owned();
        assert!(detail.contains("MCP Connection Failure"), "{error:?}");
        model.verify().unwrap();
        return;
    }
    conversation.send("Go.").await.unwrap();
    let outcome = outcome(&conversation).await;
    assert!(outcome.is_finished(), "{outcome}");
    let status = conversation.agent().mcp_status().await.unwrap();
    let servers = vec!["broken".to_owned()];
    assert_eq!(status, McpStatus::Failed { servers });
    assert!(status.is_failed());
    model.verify().unwrap();
}
