//! The status of a goal: a loop of runs towards an objective.

use crate::{
    Text,
    json::{declare::wire, open_enum::open_enum},
};

open_enum! {
    /// The state of a goal.
    #[derive(Default)]
    GoalState {
        /// The agent is working on the goal.
        #[default]
        Running = "running",
        /// The judge considers the goal reached.
        Complete = "complete",
        /// The maximum number of rounds was reached without success.
        Capped = "capped",
        /// The goal was stopped, a run failed, or the server ended. The goal can be resumed.
        Interrupted = "interrupted",
    }
}

wire! {
    /// The status of a goal: the value of a state change with the key `goal`. The server sends it
    /// at the start, after each round that did not reach the goal, and at the end.
    GoalStatus {
        /// Whether the loop continues.
        active: bool = default,
        /// The state of the goal.
        status: GoalState = default,
        /// The number of judged rounds.
        iteration: u64 = default,
        /// The maximum number of rounds.
        max_iterations: u64 = default,
        /// The objective.
        objective: Text = default,
        /// The judge's last verdict.
        verdict: Option<GoalVerdict> = default,
    }

    /// The judge's verdict on a round.
    GoalVerdict {
        /// The estimated probability that the objective is reached, from 0 to 1.
        score: f64 = default,
        /// Whether the objective is reached.
        complete: bool = default,
        /// The missing parts. Empty if the objective is reached.
        missing: Text = default,
    }
}

impl GoalStatus {
    /// Returns whether the goal was reached.
    pub fn is_complete(&self) -> bool {
        self.status == GoalState::Complete
    }
}
