//! Cost, tokens and latencies of a conversation.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// What a conversation has used, by usage id (`default`, `condenser`, …).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Metrics of each model configuration.
    #[serde(default)]
    pub usage_to_metrics: BTreeMap<String, Metrics>,
}

/// What one model configuration has used.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Metrics {
    /// The model's name.
    #[serde(default)]
    pub model_name: String,
    /// Cost so far, in US dollars.
    #[serde(default)]
    pub accumulated_cost: f64,
    /// Tokens so far.
    #[serde(default)]
    pub accumulated_token_usage: Option<TokenUsage>,
}

/// Tokens.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct TokenUsage {
    /// Tokens the model read.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens the model wrote.
    #[serde(default)]
    pub completion_tokens: u64,
    /// Of those read, from a cache.
    #[serde(default)]
    pub cache_read_tokens: u64,
    /// Of those read, put into a cache.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Of those written, for reasoning.
    #[serde(default)]
    pub reasoning_tokens: u64,
}

impl Stats {
    pub(super) fn from_json(value: &Value) -> Self {
        Self::deserialize(value).unwrap_or_default()
    }

    /// All usages together.
    pub fn combined(&self) -> Metrics {
        let mut sum = Metrics::default();
        for metrics in self.usage_to_metrics.values() {
            sum.accumulated_cost += metrics.accumulated_cost;
            let Some(usage) = &metrics.accumulated_token_usage else {
                continue;
            };
            let total = sum
                .accumulated_token_usage
                .get_or_insert_with(TokenUsage::default);
            total.prompt_tokens += usage.prompt_tokens;
            total.completion_tokens += usage.completion_tokens;
            total.cache_read_tokens += usage.cache_read_tokens;
            total.cache_write_tokens += usage.cache_write_tokens;
            total.reasoning_tokens += usage.reasoning_tokens;
        }
        sum
    }
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
    fn combined_adds_up_all_usages() {
        let stats = Stats::from_json(&serde_json::json!({"usage_to_metrics": {
            "default": {"accumulated_cost": 1.0, "accumulated_token_usage": {"prompt_tokens": 3}},
            "condenser": {"accumulated_cost": 0.25, "accumulated_token_usage": {"prompt_tokens": 4}},
        }}));
        let sum = stats.combined();
        assert!((sum.accumulated_cost - 1.25).abs() < 1e-12);
        assert_eq!(sum.prompt_tokens(), 7);
    }
}
