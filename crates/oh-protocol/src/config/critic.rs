//! Critics: what judges an agent's work as it goes. Experimental on the server.

use secrecy::SecretString;

use super::{
    fields::{Field, Fields},
    model::model,
};
use crate::open_enum::open_enum;

open_enum! {
    /// What a critic judges.
    CriticMode {
        /// What ends a run: the finish action, or a message of the agent.
        FinishAndMessage = "finish_and_message",
        /// Every action, which is slower.
        AllActions = "all_actions",
    }
}

model! {
    /// What judges an agent's work as it goes (`critic` of an agent).
    pub struct Critic;
    by_hand: ["kind", "iterative_refinement"];

    /// What it judges. Server's default: [`CriticMode::FinishAndMessage`].
    value mode: CriticMode;
}

impl Critic {
    /// Content with everything (`PassCritic`).
    pub fn pass() -> Self {
        Self::custom("PassCritic")
    }

    /// Content when the agent finished by its finish action (`AgentFinishedCritic`).
    pub fn agent_finished() -> Self {
        Self::custom("AgentFinishedCritic")
    }

    /// Content when something was changed (`EmptyPatchCritic`).
    pub fn empty_patch() -> Self {
        Self::custom("EmptyPatchCritic")
    }

    /// A kind that this version does not know; [`set`](Self::set) gives its fields.
    pub fn custom(kind: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("Critic").with("kind", kind.into()),
        }
    }

    /// Sends the agent back to work while the critic's score is below `success_threshold` (0 to
    /// 1; servers suggest 0.6), up to `max_iterations` times (they suggest 3).
    pub fn iterative_refinement(mut self, success_threshold: f64, max_iterations: u32) -> Self {
        put_refinement(&mut self.fields, success_threshold, max_iterations);
        self
    }
}

model! {
    /// A critic that is a model of its own, on a classification service (`APIBasedCritic`).
    pub struct ApiCritic;
    by_hand: ["kind", "api_key", "iterative_refinement"];

    /// Where the service is.
    address server_url;
    /// The model's name there. Server's default: `critic`.
    text model_name;
    /// The tokenizer of that model, by its name on Hugging Face.
    text tokenizer_name;
    /// Whether the model is shown the agent's tools. Server's default: yes.
    value pass_tools_definitions: bool;
    /// How long it may take, in seconds. Server's default: 300.
    value timeout_seconds: f64;
    /// Whether the first label of an answer is that of success. Server's default: yes.
    value has_success_label: bool;
    /// The labels of the user's mood.
    list sentiment_labels: String;
    /// The labels of what the agent did wrong.
    list agent_issue_labels: String;
    /// The labels of what went wrong around it.
    list infra_labels: String;
    /// The labels of what the user does next.
    list user_followup_labels: String;
    /// Adds the label of a mood.
    entry sentiment_map/sentiment: String;
    /// From which probability on something the agent did wrong sends it back to work, 0 to 1.
    /// Server's default: 0.75.
    value issue_threshold: f64
        where (0.0..=1.0).contains(&issue_threshold) => "it is between 0 and 1";
    /// What it judges. Server's default: [`CriticMode::FinishAndMessage`].
    value mode: CriticMode;
}

impl ApiCritic {
    /// With this key for the service.
    pub fn new(api_key: impl Into<SecretString>) -> Self {
        Self {
            fields: Fields::of("ApiCritic")
                .with("kind", Field::plain("APIBasedCritic"))
                .with("api_key", Field::secret(api_key)),
        }
    }

    /// Sends the agent back to work while the critic's score is below `success_threshold` (0 to
    /// 1; servers suggest 0.6), up to `max_iterations` times (they suggest 3).
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
        _ => Field::refused("it is between 0 and 1"),
    };
    let iterations = match max_iterations {
        0 => Field::refused("it is at least 1"),
        some => Field::plain(some),
    };
    fields.insert("iterative_refinement", "success_threshold", threshold);
    fields.insert("iterative_refinement", "max_iterations", iterations);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_shares() {
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
    fn its_key_is_not_shown() {
        let critic = Critic::from(ApiCritic::new("canary"));
        assert!(!format!("{critic:?}").contains("canary"));
    }
}
