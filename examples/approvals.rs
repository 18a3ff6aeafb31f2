//! Approvals by risk, with two people who may approve.
//!
//! Run it with `cargo run -p openhands-examples --example approvals`.
//!
//! The agent's model states the risk of each action. Actions with a high risk wait for an answer;
//! all others run at once. Both people see each request. The first answer counts, and the other
//! person learns that the request is no longer open.

use std::time::Duration;

use openhands::{
    ErrorKind, conversation::PendingAction, prelude::*, protocol::config::SecurityAnalyzer,
    testkit::Script,
};
use openhands_examples::{Model, Result};
use serde_json::json;

#[tokio::main]
async fn main() -> Result {
    let server = LocalServer::builder().start().await?;
    example(&server.workspace(server.workspace_dir())).await?;
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Runs the example, on any server.
pub async fn example(workspace: &Workspace) -> Result {
    let command = |line: &str, risk: &str| {
        let mut arguments = json!({"command": line, "summary": line});
        arguments["security_risk"] = risk.into();
        arguments
    };
    let script = Script::new()
        .call("terminal", command("echo one > kept.txt", "LOW"))
        .call("terminal", command("rm kept.txt", "HIGH"))
        .call("terminal", command("echo two >> kept.txt", "HIGH"))
        .finish("I changed the file.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    // 1. Ask for actions with a high risk. By default, actions of unknown risk are asked for too.
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent)
        .confirmation_policy(ConfirmationPolicy::risky(SecurityRisk::High))
        .security_analyzer(SecurityAnalyzer::llm())
        .start()
        .await?;

    // 2. Each person has a connection, usually in another program. A person who joins late first
    //    gets the requests that are still open.
    let second = Conversation::attach(workspace.client(), conversation.id()).await?;
    let people = [
        tokio::spawn(approver("Ada", conversation.clone())),
        tokio::spawn(approver("Grace", second.clone())),
    ];

    // 3. Run until the agent has finished. The budget counts all runs together.
    let mut answers = conversation.approvals().events();
    conversation
        .send("Write one to kept.txt, then remove the file, then append two to it.")
        .await?;
    let run = loop {
        let run = conversation.run().max_total_cost(1.0).await?;
        if run.status() != RunStatus::WaitingForConfirmation {
            break run.ensure_finished()?;
        }
        while let Some(event) = answers.next().await {
            if matches!(event, ApprovalEvent::Withdrawn(_)) {
                break;
            }
        }
    };
    println!("{run}");
    println!(
        "kept.txt: {:?}",
        workspace.execute("cat kept.txt").await?.stdout()
    );

    second.close().await?;
    conversation.delete().await?;
    for person in people {
        person.await??;
    }
    model.verify()
}

/// Answers requests until the conversation is closed.
async fn approver(name: &'static str, conversation: Conversation) -> openhands::Result<()> {
    let approvals = conversation.approvals();
    let mut events = approvals.events();
    while let Some(event) = events.next().await {
        let ApprovalEvent::Requested(actions) = event else {
            continue;
        };
        for action in &actions {
            println!(
                "{name} sees: {:?}, risk {}",
                action.summary(),
                action.risk()
            );
        }
        // An answer names the actions that were shown. If they have been answered already, or if
        // others wait, the result is a conflict, and nothing is approved.
        let answer = match actions.iter().all(is_harmless) {
            true => approvals.approve(&actions).await,
            false => approvals.reject(&actions, "Do not remove files.").await,
        };
        match answer.map_err(openhands::Error::from) {
            Ok(()) => println!("{name} answered"),
            Err(error) if error.kind() == ErrorKind::Conflict => println!("{name} was too late"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes the place of the decision of a person.
fn is_harmless(action: &PendingAction) -> bool {
    match action.action() {
        Some(Action::Terminal(terminal)) => !terminal.command.contains("rm "),
        _ => true,
    }
}
