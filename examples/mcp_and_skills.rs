//! Tools of an MCP server, and skills: instructions that an agent gets when they are needed.
//!
//! Run it with `cargo run -p openhands-examples --example mcp_and_skills`. The MCP server is a
//! function in this file: the agent server starts this program again with `--stock`, and uses its
//! stdin and stdout. For another server, write
//! `McpServer::stdio("uvx").args(["mcp-server-fetch"])` or `McpServer::http(url)`.

use std::{
    env,
    io::{Write as _, stdin, stdout},
    time::Duration,
};

use openhands::{
    admin::Admin,
    conversation::McpStatus,
    prelude::*,
    protocol::{
        calls::mcp::{TestServer, TestedServer},
        config::{McpServer, Skill},
    },
    testkit::{Script, Step, model::ModelRequest},
};
use openhands_examples::{Model, Result};
use serde_json::{Value, json};

/// A skill in the repository. `triggers` are words: a message with one of them activates the skill.
const PRICES: &str = "---
name: prices
description: How to state prices.
triggers:
- price
---
State each price in euros, including tax.
";

#[tokio::main]
async fn main() -> Result {
    if env::args().nth(1).as_deref() == Some("--stock") {
        return stock();
    }
    let server = LocalServer::builder().start().await?;
    example(&server.workspace(server.workspace_dir())).await?;
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Runs the example, on any server on this machine.
pub async fn example(workspace: &Workspace) -> Result {
    // Fails if a request does not contain both skills, or the result of the tool.
    let script = Script::new()
        .step(Step::call("count_stock", json!({"item": "tulip"})).check(has_both_skills))
        .step(Step::finish("12 tulips, at 1.19 EUR. The Shop").expect("12 of tulip"));
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    // 1. Try the MCP server alone. A broken one would not stop an agent: the agent would only lack
    //    the tools, so look for the reason here.
    let program = env::current_exe()?.display().to_string();
    let stock = || McpServer::stdio(&program).args(["--stock"]);
    let admin = Admin::of(workspace.client());
    for (name, server) in [
        ("stock", stock()),
        ("broken", McpServer::stdio("/no/such/program")),
    ] {
        match admin.mcp().test(TestServer::new(server).name(name)).await? {
            TestedServer::Works { tools, .. } => println!("{name} has {}", tools.join(", ")),
            TestedServer::Fails { error, .. } => println!("{name} fails: {error}"),
            other => println!("{name}: {other:?}"),
        }
    }

    // 2. The skills of the repository: files in `.agents/skills`, and `AGENTS.md`. `agent_context`
    //    loads them from the workspace. A skill without a trigger is part of the system prompt.
    workspace
        .write(".agents/skills/prices/SKILL.md", PRICES)
        .await?;
    let tone = Skill::new("tone", "Answer in one sentence. Sign as The Shop.");
    let context = workspace.agent_context().await?.skill(tone);

    // 3. The agent gets both.
    let agent = Agent::default_preset(model.agent())
        .cli_mode(true)
        .mcp_server("stock", stock())
        .agent_context(context);
    let conversation = Conversation::builder(workspace, agent).start().await?;
    conversation
        .send("How many tulips are there, and at which price?")
        .await?;
    println!("{}", conversation.run().await?.ensure_finished()?);

    // 4. MCP servers start with the first message. `Failed` names those that did not.
    match conversation.agent().mcp_status().await? {
        McpStatus::Connected { tools } => println!("connected: {}", tools.join(", ")),
        other => return Err(format!("the MCP server is not connected: {other:?}").into()),
    }
    for event in &conversation.events() {
        match event.payload() {
            Payload::Message(message) if !message.activated_skills.is_empty() => {
                println!("activated: {:?}", message.activated_skills);
            }
            Payload::Observation(result) => println!("result: {}", result.observation.text()),
            _ => {}
        }
    }
    println!("answer: {}", conversation.agent().final_response().await?);
    conversation.delete().await?;
    model.verify()
}

fn has_both_skills(request: &ModelRequest) -> Result<(), String> {
    let texts = ["Sign as The Shop.", "including tax"];
    match texts.iter().find(|text| !request.contains(text)) {
        None => Ok(()),
        Some(text) => Err(format!("the model does not get `{text}`")),
    }
}

/// Serves one tool: a JSON object on each line, requests on stdin, responses on stdout.
pub fn stock() -> Result {
    let mut out = stdout().lock();
    for line in stdin().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let params = &request["params"];
        let result = match request["method"].as_str().unwrap_or_default() {
            "initialize" => json!({
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "stock", "version": "1.0.0"},
            }),
            "tools/list" => json!({"tools": [{
                "name": "count_stock",
                "description": "Counts an item in the stock.",
                "inputSchema": {
                    "type": "object",
                    "properties": {"item": {"type": "string"}},
                    "required": ["item"],
                },
            }]}),
            "tools/call" => {
                let item = params["arguments"]["item"].as_str().unwrap_or_default();
                let text = format!("The stock has 12 of {item}.");
                json!({"content": [{"type": "text", "text": text}]})
            }
            _ => json!({}),
        };
        // A message without an id is a notification, and gets no response.
        if !request["id"].is_null() {
            let response = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
            writeln!(out, "{response}")?;
            out.flush()?;
        }
    }
    Ok(())
}
