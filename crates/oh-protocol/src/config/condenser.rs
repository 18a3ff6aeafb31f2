//! Condensers: how a long history is made short enough for the model.

use super::{
    Llm,
    fields::{Field, Fields},
    model::model,
};

model! {
    /// How a history that grows too long is shortened (`condenser` of an agent).
    ///
    /// Made from a [`SummarizingCondenser`], or by a constructor.
    pub struct Condenser;
    by_hand: ["kind"];

    /// The condensers of a pipeline, in the order they work.
    list condensers: Condenser;
}

impl Condenser {
    /// Keeps everything (`NoOpCondenser`).
    pub fn none() -> Self {
        Self::custom("NoOpCondenser")
    }

    /// Several, one after the other (`PipelineCondenser`).
    pub fn pipeline(condensers: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        Self::custom("PipelineCondenser").condensers(condensers)
    }

    /// A kind that this version does not know; [`set`](Self::set) gives its fields.
    pub fn custom(kind: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("Condenser").with("kind", kind.into()),
        }
    }
}

model! {
    /// Replaces the middle of a long history by a summary (`LLMSummarizingCondenser`).
    pub struct SummarizingCondenser;
    by_hand: ["kind", "llm"];

    /// How many events the history may have. Server's default: 240.
    value max_size: u32 where max_size > 0 => "it is at least 1";
    /// How many tokens the history may have. Server's default: no bound.
    value max_tokens: u32;
    /// How many of the first events stay. Server's default: 2.
    value keep_first: u32;
    /// Which share of the events must go for a condensation to be worth it. Server's default:
    /// 0.1.
    value minimum_progress: f64 where minimum_progress > 0.0 => "it is above 0";
    /// How often a summary of everything is tried when nothing else helps. Server's default: 5.
    value hard_context_reset_max_retries: u32
        where hard_context_reset_max_retries > 0 => "it is at least 1";
    /// By what events are cut shorter at each of those tries. Server's default: 0.8.
    value hard_context_reset_context_scaling: f64
        where hard_context_reset_context_scaling > 0.0 => "it is above 0";
}

impl SummarizingCondenser {
    /// Summaries by this model.
    pub fn new(llm: Llm) -> Self {
        Self {
            fields: Fields::of("SummarizingCondenser")
                .with("kind", Field::plain("LLMSummarizingCondenser"))
                .with("llm", llm),
        }
    }
}

impl From<SummarizingCondenser> for Condenser {
    fn from(condenser: SummarizingCondenser) -> Self {
        Self {
            fields: condenser.fields,
        }
    }
}
