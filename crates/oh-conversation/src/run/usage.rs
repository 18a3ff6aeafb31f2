//! The usage of a conversation: cost and tokens, in total and by usage id.

use std::{collections::BTreeMap, sync::Arc};

use oh_protocol::{
    Json, Stats,
    state::{ConversationState, Metrics, TokenUsage},
};

use crate::{Conversation, Watch, mirror::view::View};

/// The usage of a conversation, or of a part of it, as far as the server has reported it.
///
/// Every model configuration of an agent has its own usage id: `default` for the agent's model,
/// `condenser` for the model that shortens its history, and so on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    stats: Stats,
    known: bool,
}

impl Usage {
    pub(crate) fn of(state: &ConversationState) -> Self {
        Self {
            stats: state.stats(),
            known: state.get("stats").is_some_and(|stats| !stats.is_null()),
        }
    }

    /// Returns the cost in US dollars. `None` until the server has reported usage: an unknown cost
    /// is not zero.
    pub fn cost(&self) -> Option<f64> {
        self.known.then(|| self.total().accumulated_cost)
    }

    /// Returns the number of prompt tokens, including cached ones.
    pub fn prompt_tokens(&self) -> u64 {
        self.total().prompt_tokens()
    }

    /// Returns the number of completion tokens, including reasoning tokens.
    pub fn completion_tokens(&self) -> u64 {
        self.total().completion_tokens()
    }

    /// Returns the sum over all ids. The lists of single calls are empty if the usage arrived only
    /// by socket.
    pub fn total(&self) -> Metrics {
        self.stats.combined()
    }

    /// Returns the usage under one id.
    pub fn by_id(&self, usage_id: &str) -> Option<&Metrics> {
        self.stats.usage_to_metrics.get(usage_id).map(Box::as_ref)
    }

    /// Returns every id with its usage.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Metrics)> {
        let all = self.stats.usage_to_metrics.iter();
        all.map(|(id, metrics)| (id.as_str(), metrics.as_ref()))
    }

    /// Returns the difference from an earlier usage of the same conversation. Ids without a
    /// difference are omitted.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let none = Box::new(Metrics::default());
        let mut usage_to_metrics = BTreeMap::new();
        for (id, now) in &self.stats.usage_to_metrics {
            let before = earlier.stats.usage_to_metrics.get(id).unwrap_or(&none);
            let more = difference(now, before);
            if more.accumulated_cost > 0.0 || more.prompt_tokens() + more.completion_tokens() > 0 {
                usage_to_metrics.insert(id.clone(), Box::new(more));
            }
        }
        let mut stats = Stats::default();
        stats.usage_to_metrics = usage_to_metrics;
        Self {
            stats,
            known: self.known,
        }
    }
}

fn difference(now: &Metrics, before: &Metrics) -> Metrics {
    let mut more = Metrics::default();
    more.model_name = now.model_name.clone();
    more.accumulated_cost = (now.accumulated_cost - before.accumulated_cost).max(0.0);
    let later = |now: usize, before: usize| if before <= now { before } else { 0 };
    more.costs = now.costs[later(now.costs.len(), before.costs.len())..].to_vec();
    let from = later(
        now.response_latencies.len(),
        before.response_latencies.len(),
    );
    more.response_latencies = now.response_latencies[from..].to_vec();
    let from = later(now.token_usages.len(), before.token_usages.len());
    more.token_usages = now.token_usages[from..].to_vec();
    if let Some(now) = &now.accumulated_token_usage {
        let none = TokenUsage::default();
        let before = before.accumulated_token_usage.as_ref().unwrap_or(&none);
        let mut tokens = now.clone();
        for (tokens, before) in [
            (&mut tokens.prompt_tokens, before.prompt_tokens),
            (&mut tokens.completion_tokens, before.completion_tokens),
            (&mut tokens.cache_read_tokens, before.cache_read_tokens),
            (&mut tokens.cache_write_tokens, before.cache_write_tokens),
            (&mut tokens.reasoning_tokens, before.reasoning_tokens),
        ] {
            *tokens = tokens.saturating_sub(before);
        }
        more.accumulated_token_usage = Some(tokens);
    }
    more
}

/// The usage of a conversation as the server reports it: see [`Conversation::usage`].
///
/// ```no_run
/// # async fn report(conversation: &oh_conversation::Conversation) {
/// let usage = conversation.usage().current();
/// for (id, metrics) in usage.iter() {
///     println!("{id}: {} with ${}", metrics.model_name, metrics.accumulated_cost);
/// }
/// let mut changes = conversation.usage().changes();
/// while let Some(usage) = changes.next().await {
///     if let Some(cost) = usage.cost() {
///         println!("all in all ${cost}");
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct UsageHandle {
    conversation: Conversation,
}

impl Conversation {
    /// Returns the usage: cost and tokens, now and with each change.
    pub fn usage(&self) -> UsageHandle {
        UsageHandle {
            conversation: self.clone(),
        }
    }

    pub(crate) fn current_usage(&self) -> Usage {
        Usage::of(&self.mirror().read().state)
    }
}

impl UsageHandle {
    /// Returns the usage so far, as last reported by the server. The cost of a model call in
    /// progress is not included. After a [`close`](Conversation::close) the usage no longer
    /// changes.
    pub fn current(&self) -> Usage {
        self.conversation.current_usage()
    }

    /// Returns the usage as a stream of the latest value: now, and after each report of the server
    /// that changes it. If the server has reported no usage yet, the first value has no
    /// [`cost`](Usage::cost).
    pub fn changes(&self) -> Watch<Usage> {
        let look = |view: &View| view.read().state.clone();
        let same = |last: &Arc<ConversationState>, now: &Arc<ConversationState>| {
            last.get("stats").map(Json::as_str) == now.get("stats").map(Json::as_str)
        };
        Watch::new(self.conversation.view(), look, same).map(|state| Usage::of(&state))
    }
}

#[cfg(test)]
mod tests {
    use oh_protocol::{Event, Payload};
    use serde_json::{Value, json};

    use super::*;

    fn usage(stats: Value) -> Usage {
        let update = json!({"kind": "ConversationStateUpdateEvent", "id": "1", "key": "stats",
            "value": stats});
        let event = Event::from_json(update.to_string()).unwrap();
        let mut state = ConversationState::default();
        if let Payload::ConversationStateUpdate(update) = event.payload() {
            state.apply(update).unwrap();
        }
        Usage::of(&state)
    }

    #[test]
    fn added_usage_is_reported_by_id_and_in_total() {
        let before = usage(json!({"usage_to_metrics": {"default": {"model_name": "m",
            "accumulated_cost": 1.0, "accumulated_token_usage": {"prompt_tokens": 10}}}}));
        let now = usage(json!({"usage_to_metrics": {
            "default": {"model_name": "m", "accumulated_cost": 1.5,
                "accumulated_token_usage": {"prompt_tokens": 14, "completion_tokens": 2}},
            "condenser": {"model_name": "m", "accumulated_cost": 0.25},
            "idle": {"model_name": "m"}}}));
        let more = now.since(&before);
        assert!((more.cost().unwrap() - 0.75).abs() < 1e-9);
        assert_eq!((more.prompt_tokens(), more.completion_tokens()), (4, 2));
        let ids: Vec<_> = more.iter().map(|(id, _)| id.to_owned()).collect();
        assert_eq!(ids, ["condenser", "default"]);
    }

    #[test]
    fn an_unknown_cost_is_not_zero() {
        let unknown = Usage::of(&ConversationState::default());
        assert_eq!(unknown.cost(), None);
        assert_eq!(usage(json!({"usage_to_metrics": {}})).cost(), Some(0.0));
    }
}
