//! A CI bot: corrects a failing test, leaves the change as a patch, and reports the outcome by its
//! exit code.
//!
//! Run it with `cargo run -p openhands-examples --example ci_bot`. The project is a small one in
//! Python, which the program creates. In CI, it would be the checkout.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use openhands::{RunStatus, prelude::*, testkit::Script};
use openhands_examples::{Model, Result};
use serde_json::json;

#[tokio::main]
async fn main() -> ExitCode {
    match job().await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn job() -> Result<u8> {
    let server = LocalServer::builder().start().await?;
    let workspace = server.workspace(server.workspace_dir());
    let run = correct(&workspace, std::env::temp_dir().join("fix.patch"));
    // A job that CI cancels should end its server, too. Dropping `server` does that.
    let code = tokio::select! {
        code = run => code?,
        _ = tokio::signal::ctrl_c() => 130,
    };
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(code)
}

/// Runs the example, on any server.
pub async fn example(workspace: &Workspace) -> Result {
    let artefacts = tempfile::tempdir()?;
    let patch = artefacts.path().join("fix.patch");
    let code = correct(workspace, patch.clone()).await?;
    println!("exit code {code}\n{}", std::fs::read_to_string(patch)?);
    Ok(())
}

/// Corrects the project, writes the patch, and returns the exit code.
async fn correct(workspace: &Workspace, patch: PathBuf) -> Result<u8> {
    let script = Script::new()
        .finish("I see no error.")
        .call(
            "terminal",
            json!({"command": "sed -i 's/a - b/a + b/' add.py"}),
        )
        .finish("The test passes now.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");
    workspace
        .write("add.py", "def add(a, b):\n    return a - b\n")
        .await?;
    workspace
        .write(
            "test_add.py",
            "from add import add\nassert add(2, 3) == 5\n",
        )
        .await?;
    let commit = "git init -q && git add . && git -c user.name=ci -c user.email=ci@localhost \
                  commit -q -m start";
    if !workspace.execute(commit).await?.success() {
        return Err("the project cannot be committed".into());
    }

    // 1. The Stop hook is the definition of done: while the test fails, the agent cannot finish.
    //    Its output is the feedback for the agent.
    let test = "export PYTHONDONTWRITEBYTECODE=1; python3 test_add.py >&2 || exit 2";
    let hooks = HookConfig::new().stop(Hook::command(test).timeout(Duration::from_secs(60)));
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent)
        .hooks(hooks)
        .on_event(|event| println!("{event}"))
        .start()
        .await?;
    conversation
        .send("test_add.py fails. Correct the code, but not the test.")
        .await?;

    // 2. All limits of the job are here.
    let run = conversation
        .run()
        .max_cost(1.0)
        .timeout(Duration::from_secs(1800))
        .await?;
    println!("{run}");

    // 3. The patch is the result, also if the job has not finished: a person may continue from it.
    workspace.git().patch().to_path(patch).await?;

    // 4. One exit code for each outcome that the pipeline distinguishes.
    let code = match run.status() {
        RunStatus::Finished => 0,
        RunStatus::BudgetReached => 7,
        RunStatus::StillRunning => {
            // The timeout has ended the wait only.
            conversation.interrupt().await?;
            8
        }
        _ => 1,
    };
    conversation.delete().await?;
    Ok(code)
}
