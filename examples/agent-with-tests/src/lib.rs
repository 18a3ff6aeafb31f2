//! A small agent program: gives an agent a task and a budget, and reports the result.
//!
//! The program is written as a user of the client would write it. The tests run it against the
//! testkit's fake server, in milliseconds, without Python and without a model.

use std::{fmt, time::Duration};

use openhands::{prelude::*, protocol::event::Source};

/// A task for the agent, and its budget.
pub struct Job {
    /// The task, as a message to the agent.
    pub task: String,
    /// The command that must succeed before the agent may stop.
    pub check: String,
    /// The limit in US dollars at which the agent is interrupted.
    pub budget: f64,
}

/// The result of a job.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// The agent finished, after the check sent it back this many times.
    Done { sent_back: usize },
    /// The agent was interrupted, because it exceeded the budget.
    TooExpensive,
    /// The agent did not finish, for this reason.
    Failed(String),
}

/// A verdict with its cost.
#[derive(Debug)]
pub struct Report {
    pub verdict: Verdict,
    /// The cost in US dollars, if the server has reported it.
    pub cost: Option<f64>,
    pub actions: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Done { sent_back: 0 } => write!(f, "done")?,
            Verdict::Done { sent_back } => write!(f, "done, sent back {sent_back} time(s)")?,
            Verdict::TooExpensive => write!(f, "stopped: over budget")?,
            Verdict::Failed(reason) => write!(f, "failed: {reason}")?,
        }
        match self.cost {
            Some(cost) => write!(f, " (${cost:.2}, {} actions)", self.actions),
            None => write!(f, " (cost unknown, {} actions)", self.actions),
        }
    }
}

/// Runs a job with an agent, and enforces its budget.
pub async fn run(
    workspace: &impl WorkspaceHandle,
    llm: Llm,
    job: &Job,
) -> Result<Report, Box<dyn std::error::Error>> {
    let agent = Agent::default_preset(llm).cli_mode(true);
    let hooks =
        HookConfig::new().stop(Hook::command(job.check.as_str()).timeout(Duration::from_secs(60)));
    let conversation = Conversation::builder(workspace, agent)
        .hooks(hooks)
        .start()
        .await?;
    conversation.send(job.task.as_str()).await?;

    let outcome = conversation.run().max_cost(job.budget).await?;

    let log = conversation.events();
    let sent_back = log
        .of_kind("MessageEvent")
        .filter(|event| *event.source() == Source::Environment)
        .count();
    let verdict = match outcome.status() {
        RunStatus::Finished => Verdict::Done { sent_back },
        RunStatus::BudgetReached => Verdict::TooExpensive,
        _ => Verdict::Failed(outcome.to_string()),
    };
    let report = Report {
        verdict,
        cost: outcome.cost(),
        actions: log.of_kind("ActionEvent").count(),
    };
    conversation.close().await?;
    Ok(report)
}
