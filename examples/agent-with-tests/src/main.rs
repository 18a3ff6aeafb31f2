//! Runs one job on your own agent server: `AGENT_SERVER`, `SESSION_API_KEY`, `LLM_API_KEY`.

use std::env;

use agent_with_tests::{Job, run};
use openhands::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::builder(env::var("AGENT_SERVER")?);
    if let Ok(key) = env::var("SESSION_API_KEY") {
        client = client.session_api_key(key);
    }
    let client = client.build()?;
    let model = env::var("LLM_MODEL").unwrap_or("anthropic/claude-sonnet-4-5-20250929".into());
    let llm = Llm::new(model).api_key(env::var("LLM_API_KEY")?);
    let mut arguments = env::args().skip(1);
    let (Some(directory), Some(task)) = (arguments.next(), arguments.next()) else {
        return Err("usage: agent-with-tests DIRECTORY TASK [CHECK]".into());
    };
    let job = Job {
        task,
        check: arguments.next().unwrap_or("true".into()),
        budget: 1.0,
    };
    let report = run(&Workspace::new(&client, directory), llm, &job).await?;
    println!("{report}");
    Ok(())
}
