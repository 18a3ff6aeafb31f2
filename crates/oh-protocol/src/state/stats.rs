//! Cost, tokens and latencies of a conversation.

use std::collections::BTreeMap;

use crate::{Text, wire::wire};

wire! {
    #[derive(Default)]
    /// What a conversation has used, by usage id (`default`, `condenser`, …).
    Stats {
        /// Metrics of each model configuration.
        usage_to_metrics: BTreeMap<Text, Box<Metrics>> = default,
    }

    #[derive(Default)]
    /// What one model configuration has used.
    Metrics {
        /// The model's name.
        model_name: Text = default,
        /// Cost so far, in US dollars.
        accumulated_cost: f64 = default,
        /// At which cost the server stops, in US dollars.
        max_budget_per_task: Option<f64> = default,
        /// Tokens so far.
        accumulated_token_usage: Option<TokenUsage> = default,
        /// Each call's cost. The sockets leave it out.
        costs: Vec<Cost> = default,
        /// How long each call took. The sockets leave it out.
        response_latencies: Vec<ResponseLatency> = default,
        /// Each call's tokens. The sockets leave it out.
        token_usages: Vec<TokenUsage> = default,
    }

    #[derive(Default)]
    /// Tokens.
    TokenUsage {
        /// The model's name.
        model: Text = default,
        /// Tokens the model read.
        prompt_tokens: u64 = default,
        /// Tokens the model wrote.
        completion_tokens: u64 = default,
        /// Of those read, from a cache.
        cache_read_tokens: u64 = default,
        /// Of those read, put into a cache.
        cache_write_tokens: u64 = default,
        /// Of those written, for reasoning.
        reasoning_tokens: u64 = default,
        /// How much the model can read at once.
        context_window: u64 = default,
        /// How much it read and wrote in the last call.
        per_turn_token: u64 = default,
        /// Ties it to an answer of the model.
        response_id: Text = default,
    }

    /// What one call cost.
    Cost {
        /// The model's name.
        model: Text = default,
        /// In US dollars.
        cost: f64 = default,
        /// When, in seconds since 1970.
        timestamp: f64 = default,
    }

    /// How long one call took.
    ResponseLatency {
        /// The model's name.
        model: Text = default,
        /// In seconds.
        latency: f64 = default,
        /// Ties it to an answer of the model.
        response_id: Text = default,
    }
}

impl Stats {
    /// All usages together. A count that does not fit stays at its largest value.
    pub fn combined(&self) -> Metrics {
        let mut sum = Metrics::default();
        for metrics in self.usage_to_metrics.values() {
            sum.accumulated_cost += metrics.accumulated_cost;
            sum.costs.extend_from_slice(&metrics.costs);
            sum.response_latencies
                .extend_from_slice(&metrics.response_latencies);
            sum.token_usages.extend_from_slice(&metrics.token_usages);
            let Some(usage) = &metrics.accumulated_token_usage else {
                continue;
            };
            let total = sum
                .accumulated_token_usage
                .get_or_insert_with(TokenUsage::default);
            add(&mut total.prompt_tokens, usage.prompt_tokens);
            add(&mut total.completion_tokens, usage.completion_tokens);
            add(&mut total.cache_read_tokens, usage.cache_read_tokens);
            add(&mut total.cache_write_tokens, usage.cache_write_tokens);
            add(&mut total.reasoning_tokens, usage.reasoning_tokens);
        }
        sum
    }
}

/// What a server sends must not overflow.
fn add(total: &mut u64, more: u64) {
    *total = total.saturating_add(more);
}

impl Metrics {
    /// Tokens the model read.
    pub fn prompt_tokens(&self) -> u64 {
        self.accumulated_token_usage
            .as_ref()
            .map_or(0, |usage| usage.prompt_tokens)
    }

    /// Tokens the model wrote.
    pub fn completion_tokens(&self) -> u64 {
        self.accumulated_token_usage
            .as_ref()
            .map_or(0, |usage| usage.completion_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_does_not_fit_stays_at_the_largest_count() {
        let json = r#"{"usage_to_metrics": {
            "a": {"accumulated_token_usage": {"prompt_tokens": 18446744073709551615}},
            "b": {"accumulated_token_usage": {"prompt_tokens": 1, "reasoning_tokens": 2}}
        }}"#;
        let stats: Stats = crate::wire::decode(&json.into()).unwrap();
        let sum = stats.combined();
        assert_eq!(sum.prompt_tokens(), u64::MAX);
        assert_eq!(sum.accumulated_token_usage.unwrap().reasoning_tokens, 2);
    }

    #[test]
    fn combined_adds_up_all_usages() {
        let json = r#"{"usage_to_metrics": {
            "default": {"accumulated_cost": 1.0, "accumulated_token_usage": {"prompt_tokens": 3}},
            "condenser": {"accumulated_cost": 0.25, "accumulated_token_usage": {"prompt_tokens": 4},
                "response_latencies": [{"model": "m", "latency": 1.5, "response_id": "r"}]}
        }}"#;
        let stats: Stats = crate::wire::decode(&json.into()).unwrap();
        let sum = stats.combined();
        assert!((sum.accumulated_cost - 1.25).abs() < 1e-12);
        assert_eq!(sum.prompt_tokens(), 7);
        assert_eq!(sum.response_latencies.len(), 1);
    }
}
