//! Models and agents that are stored on a server under a name, so that programs need no key.
//!
//! Run it with `cargo run -p openhands-examples --example stored_profile`.

use std::time::Duration;

use openhands::{
    admin::Admin,
    prelude::*,
    protocol::{
        calls::settings::Expose,
        config::{AgentProfile, AgentSource},
    },
    testkit::Script,
};
use openhands_examples::{Model, Result};

#[tokio::main]
async fn main() -> Result {
    let server = LocalServer::builder().start().await?;
    example(&server.workspace(server.workspace_dir())).await?;
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Runs the example, on any server.
pub async fn example(workspace: &Workspace) -> Result {
    let script = Script::new()
        .finish("Looks good.")
        .finish("I agree.")
        .finish("Still good.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    // 1. An operator stores two models, once. Profiles keep all settings of a model and its key.
    let admin = Admin::of(workspace.client());
    let (fast, careful) = (model.agent(), model.agent().temperature(0.0));
    admin.profiles().save("example-fast", fast).await?;
    admin.profiles().save("example-careful", careful).await?;
    let stored = admin
        .profiles()
        .get("example-careful", Expose::Masked)
        .await?;
    println!("example-careful: key is set: {}", stored.api_key_set);

    // 2. A program names the profile. The key passes through the program once, but is not in it.
    let llm = workspace.llm_profile("example-fast").await?;
    let agent = Agent::default_preset(llm).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent).start().await?;
    conversation.send("Is the README good?").await?;
    println!("{}", conversation.run().await?.ensure_finished()?);

    // 3. Another model for the next run. The conversation, and what it cost, stay.
    conversation
        .settings()
        .switch_profile("example-careful")
        .await?;
    conversation.send("Are you sure?").await?;
    println!("{}", conversation.run().await?.ensure_finished()?);
    conversation.delete().await?;

    // 4. A whole agent under a name: its model, its tools and the secrets that it may use. The
    //    program sends nothing but an id, so the key stays on the server.
    let agents = admin.agent_profiles();
    let reviewer = AgentProfile::new("example-fast")
        .tool("terminal")
        .tool("file_editor");
    agents.save("example-reviewer", reviewer).await?;
    let report = agents.materialize("example-reviewer").await?;
    println!(
        "example-reviewer is usable: {} {:?}",
        report.valid, report.errors
    );
    let id = agents.get("example-reviewer").await?.id;
    let conversation = Conversation::builder(workspace, AgentSource::profile(id))
        .start()
        .await?;
    conversation.send("Look once more.").await?;
    println!("{}", conversation.run().await?.ensure_finished()?);
    conversation.delete().await?;

    agents.delete("example-reviewer").await?;
    for name in ["example-fast", "example-careful"] {
        admin.profiles().delete(name).await?;
    }
    model.verify()
}
