//! Critics, which evaluate an agent's work as it runs. Experimental on the server.

use secrecy::SecretString;

use super::{
    fields::{Field, Fields},
    model::model,
};
use crate::json::open_enum::open_enum;

open_enum! {
    /// The events that a critic evaluates.
    CriticMode {
        /// Events that end a run: the finish action or a message of the agent.
        FinishAndMessage = "finish_and_message",
        /// Every action. Slower.
        AllActions = "all_actions",
    }
}

model! {
    /// A critic, which evaluates an agent's work as it runs (`critic` of an agent).
    pub struct Critic;
    by_hand: ["kind", "iterative_refinement"];

    /// Sets the events that are evaluated. Server default: [`CriticMode::FinishAndMessage`].
    value mode: CriticMode;
}

impl Critic {
    /// Creates a critic that accepts everything (`PassCritic`).
    pub fn pass() -> Self {
        Self::custom("PassCritic")
    }

    /// Creates a critic that accepts work that ended with the finish action
    /// (`AgentFinishedCritic`).
    pub fn agent_finished() -> Self {
        Self::custom("AgentFinishedCritic")
    }

    /// Creates a critic that accepts work that changed something (`EmptyPatchCritic`).
    pub fn empty_patch() -> Self {
        Self::custom("EmptyPatchCritic")
    }

    /// Creates a critic of a kind that this version does not support. Use [`set`](Self::set) for
    /// its fields.
    pub fn custom(kind: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("Critic").with("kind", kind.into()),
        }
    }

    /// Makes the agent continue while the critic's score is below `success_threshold` (0 to 1;
    /// servers suggest 0.6), up to `max_iterations` times (servers suggest 3).
    pub fn iterative_refinement(mut self, success_threshold: f64, max_iterations: u32) -> Self {
        put_refinement(&mut self.fields, success_threshold, max_iterations);
        self
    }
}

model! {
    /// A critic that uses a separate model on a classification service (`APIBasedCritic`).
    pub struct ApiCritic;
    by_hand: ["kind", "api_key", "iterative_refinement"];

    /// Sets the URL of the service.
    address server_url;
    /// Sets the name of the model on the service. Server default: `critic`.
    text model_name;
    /// Sets the model's tokenizer, by its name on Hugging Face.
    text tokenizer_name;
    /// Sets whether the agent's tools are included in the request. Server default: true.
    value pass_tools_definitions: bool;
    /// Sets the timeout of an evaluation (`timeout_seconds`). Server default: 300 s.
    seconds timeout_seconds/timeout;
    /// Sets whether the first label of a response is the success label. Server default: true.
    value has_success_label: bool;
    /// Sets the labels for the user's sentiment.
    list sentiment_labels: String;
    /// Sets the labels for mistakes of the agent.
    list agent_issue_labels: String;
    /// Sets the labels for infrastructure problems.
    list infra_labels: String;
    /// Sets the labels for the user's follow-up.
    list user_followup_labels: String;
    /// Adds the label of a sentiment.
    entry sentiment_map/sentiment: String;
    /// Sets the probability, from 0 to 1, from which a mistake makes the agent continue its work.
    /// Server default: 0.75.
    value issue_threshold: f64
        where (0.0..=1.0).contains(&issue_threshold) => "must be between 0 and 1";
    /// Sets the events that are evaluated. Server default: [`CriticMode::FinishAndMessage`].
    value mode: CriticMode;
}

impl ApiCritic {
    /// Creates a critic with an API key for the service.
    pub fn new(api_key: impl Into<SecretString>) -> Self {
        Self {
            fields: Fields::of("ApiCritic")
                .with("kind", Field::plain("APIBasedCritic"))
                .with("api_key", Field::secret(api_key)),
        }
    }

    /// Makes the agent continue while the critic's score is below `success_threshold` (0 to 1;
    /// servers suggest 0.6), up to `max_iterations` times (servers suggest 3).
    pub fn iterative_refinement(mut self, success_threshold: f64, max_iterations: u32) -> Self {
        put_refinement(&mut self.fields, success_threshold, max_iterations);
        self
    }
}

impl From<ApiCritic> for Critic {
    fn from(critic: ApiCritic) -> Self {
        Self {
            fields: critic.fields,
        }
    }
}

fn put_refinement(fields: &mut Fields, success_threshold: f64, max_iterations: u32) {
    let threshold = match success_threshold {
        fits if (0.0..=1.0).contains(&fits) => Field::plain(fits),
        _ => Field::refused("must be between 0 and 1"),
    };
    let iterations = match max_iterations {
        0 => Field::refused("must be at least 1"),
        some => Field::plain(some),
    };
    fields.insert("iterative_refinement", "success_threshold", threshold);
    fields.insert("iterative_refinement", "max_iterations", iterations);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_between_zero_and_one() {
        for (critic, path) in [
            (
                Critic::pass().iterative_refinement(1.1, 1),
                "iterative_refinement.success_threshold",
            ),
            (
                Critic::pass().iterative_refinement(0.5, 0),
                "iterative_refinement.max_iterations",
            ),
            (
                ApiCritic::new("k").issue_threshold(-0.1).into(),
                "issue_threshold",
            ),
        ] {
            let error = critic.check().unwrap_err().to_string();
            assert!(error.starts_with(path), "{error}");
        }
    }

    #[test]
    fn the_key_of_a_critic_is_not_shown() {
        let critic = Critic::from(ApiCritic::new("canary"));
        assert!(!format!("{critic:?}").contains("canary"));
    }
}
