//! The usage of a conversation in one line.

use std::fmt;

use oh_protocol::{Event, Payload, Stats, event::StateChange};

/// The tokens and the cost of a conversation so far.
///
/// `Display` formats one line, such as
/// `tokens: 12.3K in, 1.2K out · cache 50.0 % · context 6.2 % · $0.0125`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Totals {
    /// The number of input tokens.
    pub prompt_tokens: u64,
    /// The number of output tokens.
    pub completion_tokens: u64,
    /// The number of input tokens that were read from a cache.
    pub cache_read_tokens: u64,
    /// The number of output tokens for reasoning.
    pub reasoning_tokens: u64,
    /// The cost, in US dollars.
    pub cost: f64,
    /// The part of the context window that the last call of the agent used, from 0 to 1. `None` if
    /// the size of the window is unknown.
    pub context: Option<f64>,
}

impl Totals {
    /// Returns the totals of a conversation's stats, summed over all usages.
    pub fn of(stats: &Stats) -> Self {
        let sum = stats.combined();
        let tokens = sum.accumulated_token_usage.unwrap_or_default();
        // Only the agent's own model has the context of the conversation.
        let agent = stats.usage_to_metrics.get("default");
        let agent = agent.and_then(|metrics| metrics.accumulated_token_usage.as_ref());
        let context = agent.filter(|usage| usage.context_window > 0);
        Self {
            prompt_tokens: tokens.prompt_tokens,
            completion_tokens: tokens.completion_tokens,
            cache_read_tokens: tokens.cache_read_tokens,
            reasoning_tokens: tokens.reasoning_tokens,
            cost: sum.accumulated_cost,
            context: context
                .map(|usage| (usage.per_turn_token as f64 / usage.context_window as f64).min(1.0)),
        }
    }

    /// Returns the totals that an event reports, or `None` if the event reports none.
    pub fn in_event(event: &Event) -> Option<Self> {
        let Payload::ConversationStateUpdate(update) = event.payload() else {
            return None;
        };
        match &update.change {
            StateChange::Stats(stats) => Some(Self::of(stats)),
            StateChange::FullState(state) if state.get("stats").is_some() => {
                Some(Self::of(&state.stats()))
            }
            _ => None,
        }
    }

    /// Returns the part of the input tokens that was read from a cache, from 0 to 1. Never more
    /// than 1, although some providers do not count cached tokens as input.
    pub fn cache_rate(&self) -> f64 {
        match self.prompt_tokens {
            0 => 0.0,
            all => (self.cache_read_tokens as f64 / all as f64).min(1.0),
        }
    }

    /// Returns whether nothing was used.
    pub fn is_zero(&self) -> bool {
        self.prompt_tokens == 0 && self.completion_tokens == 0 && self.cost == 0.0
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prompt, completion) = (count(self.prompt_tokens), count(self.completion_tokens));
        write!(f, "tokens: {prompt} in, {completion} out")?;
        if self.reasoning_tokens > 0 {
            write!(f, " ({} reasoning)", count(self.reasoning_tokens))?;
        }
        if self.cache_read_tokens > 0 {
            write!(f, " · cache {:.1} %", self.cache_rate() * 100.0)?;
        }
        if let Some(context) = self.context {
            write!(f, " · context {:.1} %", context * 100.0)?;
        }
        write!(f, " · ${:.4}", self.cost)
    }
}

/// Formats a count with three digits and K, M or B.
fn count(count: u64) -> String {
    let mut value = count as f64;
    if count < 1000 {
        return count.to_string();
    }
    for unit in ["K", "M"] {
        value /= 1000.0;
        // Rounding must not result in `1000.0K`.
        if value < 999.95 {
            return format!("{value:.1}{unit}");
        }
    }
    format!("{:.1}B", value / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_units() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0K"),
            (12_345, "12.3K"),
            (999_949, "999.9K"),
            (999_950, "1.0M"),
            (2_500_000, "2.5M"),
            (999_999_999, "1.0B"),
            (7_000_000_000, "7.0B"),
        ] {
            assert_eq!(count(number), shown);
        }
    }

    #[test]
    fn the_cache_rate_and_the_context_are_at_most_all() {
        let stats: Stats = serde_json::from_str(
            r#"{"usage_to_metrics": {
            "default": {"accumulated_cost": 0.5, "accumulated_token_usage": {
                "prompt_tokens": 100, "completion_tokens": 20, "cache_read_tokens": 900,
                "reasoning_tokens": 5, "context_window": 1000, "per_turn_token": 2000}},
            "condenser": {"accumulated_cost": 0.25, "accumulated_token_usage": {
                "prompt_tokens": 100, "context_window": 10, "per_turn_token": 5}}}}"#,
        )
        .unwrap();
        assert_eq!(
            Totals::of(&stats).to_string(),
            "tokens: 200 in, 20 out (5 reasoning) · cache 100.0 % · context 100.0 % · $0.7500"
        );
    }
}
