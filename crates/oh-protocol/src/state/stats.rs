//! Cost, tokens and latencies of a conversation.

use std::collections::BTreeMap;

use crate::{Text, json::declare::wire};

wire! {
    /// The usage of a conversation, by usage id (`default`, `condenser`, …).
    Stats {
        /// The metrics of each model configuration.
        usage_to_metrics: BTreeMap<Text, Box<Metrics>> = default,
    }

    /// The usage of one model configuration.
    Metrics {
        /// The name of the model.
        model_name: Text = default,
        /// The total cost, in US dollars.
        accumulated_cost: f64 = default,
        /// The cost at which the server stops, in US dollars.
        max_budget_per_task: Option<f64> = default,
        /// The total token usage.
        accumulated_token_usage: Option<TokenUsage> = default,
        /// The cost of each call. Events on the sockets omit this field.
        costs: Vec<Cost> = default,
        /// The latency of each call. Events on the sockets omit this field.
        response_latencies: Vec<ResponseLatency> = default,
        /// The token usage of each call. Events on the sockets omit this field.
        token_usages: Vec<TokenUsage> = default,
    }

    /// The token usage of one or more calls.
    TokenUsage {
        /// The name of the model.
        model: Text = default,
        /// The number of input tokens.
        prompt_tokens: u64 = default,
        /// The number of output tokens.
        completion_tokens: u64 = default,
        /// The number of input tokens that were read from a cache.
        cache_read_tokens: u64 = default,
        /// The number of input tokens that were written to a cache.
        cache_write_tokens: u64 = default,
        /// The number of output tokens for reasoning.
        reasoning_tokens: u64 = default,
        /// The size of the model's context window, in tokens.
        context_window: u64 = default,
        /// The number of input and output tokens of the last call.
        per_turn_token: u64 = default,
        /// The id of the model's response.
        response_id: Text = default,
    }

    /// The cost of one call.
    Cost {
        /// The name of the model.
        model: Text = default,
        /// The cost in US dollars.
        cost: f64 = default,
        /// The time of the call, in seconds since 1970.
        timestamp: f64 = default,
    }

    /// The latency of one call.
    ResponseLatency {
        /// The name of the model.
        model: Text = default,
        /// The latency in seconds.
        latency: f64 = default,
        /// The id of the model's response.
        response_id: Text = default,
    }
}

impl Stats {
    /// Returns the sum of all usages. Counts saturate at their maximum.
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

/// Adds with saturation, because values from a server must not cause an overflow.
fn add(total: &mut u64, more: u64) {
    *total = total.saturating_add(more);
}

impl Metrics {
    /// Returns the total number of input tokens.
    pub fn prompt_tokens(&self) -> u64 {
        self.accumulated_token_usage
            .as_ref()
            .map_or(0, |usage| usage.prompt_tokens)
    }

    /// Returns the total number of output tokens.
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
    fn an_overflowing_sum_stays_at_the_largest_count() {
        let json = r#"{"usage_to_metrics": {
            "a": {"accumulated_token_usage": {"prompt_tokens": 18446744073709551615}},
            "b": {"accumulated_token_usage": {"prompt_tokens": 1, "reasoning_tokens": 2}}
        }}"#;
        let stats: Stats = crate::json::wire::decode(&json.into()).unwrap();
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
        let stats: Stats = crate::json::wire::decode(&json.into()).unwrap();
        let sum = stats.combined();
        assert!((sum.accumulated_cost - 1.25).abs() < 1e-12);
        assert_eq!(sum.prompt_tokens(), 7);
        assert_eq!(sum.response_latencies.len(), 1);
    }
}
