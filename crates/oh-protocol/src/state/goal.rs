//! How far a goal is: what the server tells of a loop of runs towards an objective.

use crate::{Text, open_enum::open_enum, wire::wire};

open_enum! {
    /// Where a goal stands.
    #[derive(Default)]
    GoalState {
        /// It is being worked on.
        #[default]
        Running = "running",
        /// The judge says that it is reached.
        Complete = "complete",
        /// The rounds are used up without it.
        Capped = "capped",
        /// Someone stopped it, a run failed, or the server ended; it can be resumed.
        Interrupted = "interrupted",
    }
}

wire! {
    /// A goal as the server tells of it: the value of a state change under the key `goal`, at
    /// the start, after each round that did not reach it, and at the end.
    GoalStatus {
        /// Whether the loop goes on.
        active: bool = default,
        /// Where it stands.
        status: GoalState = default,
        /// How many rounds have been judged.
        iteration: u64 = default,
        /// How many there will be at most.
        max_iterations: u64 = default,
        /// What is to be reached.
        objective: Text = default,
        /// What the judge said last.
        verdict: Option<GoalVerdict> = default,
    }

    /// What the judge says of a round.
    GoalVerdict {
        /// How likely the objective is reached, 0 to 1.
        score: f64 = default,
        /// Whether it is.
        complete: bool = default,
        /// What is missing; empty when it is reached.
        missing: Text = default,
    }
}

impl GoalStatus {
    /// Whether it was reached.
    pub fn is_complete(&self) -> bool {
        self.status == GoalState::Complete
    }
}
