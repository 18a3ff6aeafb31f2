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

    /// How many events the history may have, at least twice those that stay and four more.
    /// Server's default: 240.
    value max_size: u32 where max_size > 0 => "it is at least 1";
    /// How many tokens the history may have. Server's default: no bound.
    value max_tokens: u32;
    /// How many of the first events stay. Server's default: 2.
    value keep_first: u32;
    /// Which share of the events must go for a condensation to be worth it. Server's default:
    /// 0.1.
    value minimum_progress: f64 where 0.0 < minimum_progress && minimum_progress < 1.0
        => "it is above 0 and below 1";
    /// How often a summary of everything is tried when nothing else helps. Server's default: 5.
    value hard_context_reset_max_retries: u32
        where hard_context_reset_max_retries > 0 => "it is at least 1";
    /// By what events are cut shorter at each of those tries. Server's default: 0.8.
    value hard_context_reset_context_scaling: f64
        where 0.0 < hard_context_reset_context_scaling && hard_context_reset_context_scaling < 1.0
        => "it is above 0 and below 1";
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
        let mut fields = condenser.fields;
        let given = |name, or| fields.get(name).map_or(Some(or), Field::number);
        // What stays at either end must leave something between to summarize.
        if let (Some(max), Some(first)) = (given("max_size", 240), given("keep_first", 2))
            && max / 2 <= first.saturating_add(1)
        {
            let why = "it is less than half of `max_size`, by more than one";
            fields.put("keep_first", Field::refused(why));
        }
        Self { fields }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_to_summarize() {
        let condenser = |max_size, keep_first| {
            let given = SummarizingCondenser::new(Llm::new("m")).keep_first(keep_first);
            Condenser::from(given.max_size(max_size)).check()
        };
        condenser(400, 198).unwrap();
        let huge = SummarizingCondenser::new(Llm::new("m")).set("keep_first", u64::MAX);
        assert!(Condenser::from(huge).check().is_err());
        let error = condenser(400, 199).unwrap_err().to_string();
        assert!(
            error.starts_with("keep_first: it is less than half"),
            "{error}"
        );
    }

    #[test]
    fn a_fault_deep_in_a_pipeline_is_found() {
        let deep = SummarizingCondenser::new(Llm::new("m").api_key("**********"));
        let pipeline = Condenser::pipeline([Condenser::none(), deep.into()]);
        let error = pipeline.check().unwrap_err().to_string();
        assert!(error.starts_with("condensers[1].llm.api_key: "), "{error}");
    }
}
