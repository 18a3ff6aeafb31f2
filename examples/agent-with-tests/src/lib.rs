//! A small agent program: it gives an agent a task and a budget, and reports what came of it.
//!
//! The program is what a user of the client would write. Its tests are the point: they run it
//! against the testkit's fake server, in milliseconds, with no Python and no model.

use std::fmt;

use openhands::{prelude::*, protocol::event::Source};

/// What the agent is asked to do, and what it may cost.
pub struct Job {
    /// The words for the agent.
    pub task: String,
    /// The command that has to succeed before the agent may stop.
    pub check: String,
    /// US dollars after which the agent is interrupted.
    pub budget: f64,
}

/// What came of a job.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Done, after being sent back so many times.
    Done { sent_back: usize },
    /// Interrupted, because it cost too much.
    TooExpensive,
    /// Not done, for this reason.
    Failed(String),
}

/// A verdict and its price.
#[derive(Debug)]
pub struct Report {
    pub verdict: Verdict,
    /// In US dollars, where the server has reported it.
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

/// Lets an agent work on a job, and watches what it spends.
pub async fn run(
    workspace: &impl WorkspaceHandle,
    llm: Llm,
    job: &Job,
) -> Result<Report, Box<dyn std::error::Error>> {
    let agent = Agent::default_preset(llm).cli_mode(true);
    let hooks = HookConfig::new().stop(Hook::command(job.check.as_str()).timeout(60));
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
