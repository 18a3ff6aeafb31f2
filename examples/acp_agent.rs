//! An agent of another vendor, or your own: the server runs any program that speaks the Agent
//! Client Protocol (ACP), such as Claude Code, Codex or Gemini CLI.
//!
//! Run it with `cargo run -p openhands-examples --example acp_agent`. The agent here is a parrot in
//! this file. It needs no model and no key. For Claude Code, write
//! `AcpAgent::new(["npx", "-y", "@agentclientprotocol/claude-agent-acp"])` and log in first.

use std::{
    env,
    io::{Write as _, stdin, stdout},
    time::Duration,
};

use openhands::{prelude::*, protocol::config::AcpAgent};
use openhands_examples::Result;
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result {
    if env::args().nth(1).as_deref() == Some("--parrot") {
        return parrot();
    }
    let server = LocalServer::builder().start().await?;
    example(&server.workspace(server.workspace_dir())).await?;
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Runs the example, on any server on this machine.
pub async fn example(workspace: &Workspace) -> Result {
    println!("model: none, the agent is a parrot");

    // The command runs on the server's machine. The rest is as with the server's own agent: events,
    // runs, budgets, attach and fork.
    let program = env::current_exe()?.display().to_string();
    let agent = AcpAgent::new([program.as_str(), "--parrot"]);
    let conversation = Conversation::builder(workspace, agent)
        .on_event(|event| println!("{event}"))
        .start()
        .await?;
    for word in ["Hello!", "Goodbye!"] {
        conversation.send(word).await?;
        println!("{}", conversation.run().await?.ensure_finished()?);
        println!("answer: {}", conversation.agent().final_response().await?);
    }
    conversation.delete().await?;
    Ok(())
}

/// Speaks the protocol: a JSON object on each line, requests on stdin, responses on stdout.
pub fn parrot() -> Result {
    let mut out = stdout().lock();
    for line in stdin().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let params = &request["params"];
        let result = match request["method"].as_str().unwrap_or_default() {
            "initialize" => json!({
                "protocolVersion": 1,
                "agentInfo": {"name": "parrot", "version": "1.0.0"},
            }),
            "session/new" => json!({"sessionId": "only"}),
            "session/prompt" => {
                let said = params["prompt"][0]["text"].as_str().unwrap_or_default();
                let content = json!({"type": "text", "text": format!("You said: {said}")});
                for update in [
                    json!({"sessionUpdate": "agent_message_chunk", "content": content}),
                    // The server waits for the usage after each answer, for a limited time.
                    json!({"sessionUpdate": "usage_update", "used": 10, "size": 1000}),
                ] {
                    let params = json!({"sessionId": "only", "update": update});
                    let note =
                        json!({"jsonrpc": "2.0", "method": "session/update", "params": params});
                    writeln!(out, "{note}")?;
                }
                json!({"stopReason": "end_turn"})
            }
            _ => json!({}),
        };
        // A message without an id is a notification, and gets no response.
        if !request["id"].is_null() {
            let response = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
            writeln!(out, "{response}")?;
        }
        out.flush()?;
    }
    Ok(())
}
