//! A worker of a queue: hands each job to an agent server and exits.
//!
//! Reads one job a line from stdin: a UUID, a space, and the task. Prints the job and its status.
//! A job that was handed over before is not started again, so a queue may deliver it twice.
//!
//! `OPENHANDS_URL` and `OPENHANDS_KEY` are the server's address and its session key. `LLM_MODEL`,
//! `LLM_API_KEY` and `LLM_BASE_URL` configure the model.

use std::{
    env,
    error::Error,
    io::{self, BufRead},
};

use oh_control::Control;
use oh_protocol::config::{Agent, Llm, StartConversation};
use oh_transport::Client;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

// One thread is enough for a program that waits for one response at a time.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let mut client = Client::builder(&variable("OPENHANDS_URL")?);
    if let Ok(key) = env::var("OPENHANDS_KEY") {
        client = client.session_api_key(key);
    }
    let control = Control::of(&client.build()?);
    let mut failed = 0;
    for line in io::stdin().lock().lines() {
        let line = line?;
        // A job that fails stays in the queue. The others are not affected.
        match hand_over(&control, &line).await {
            Ok(status) => println!("{line}: {status}"),
            Err(error) => {
                failed += 1;
                eprintln!("{line}: {error}");
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(format!("{failed} jobs failed").into()),
    }
}

/// Starts the conversation of a job, unless there is one. Returns its status.
async fn hand_over(control: &Control, line: &str) -> Outcome<String> {
    let (id, task) = line.split_once(' ').ok_or("expected an id and a task")?;
    let start = StartConversation::new(agent()?, "/tmp/jobs")
        .conversation_id(id.parse()?)
        .initial_message(task);
    let created = control.create(start).await?;
    let status = created.info.execution_status();
    Ok(match created.is_new {
        true => format!("started, {status}"),
        false => format!("was started before, {status}"),
    })
}

fn agent() -> Outcome<Agent> {
    let llm = Llm::from_env("LLM_")?;
    Ok(Agent::default_preset(llm).cli_mode(true))
}

fn variable(name: &str) -> Outcome<String> {
    env::var(name).map_err(|_| format!("set {name}").into())
}
