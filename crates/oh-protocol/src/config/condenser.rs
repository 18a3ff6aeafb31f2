//! Condensers, which shorten a long history to fit the model's context.

use super::{
    Llm,
    fields::{Field, Fields},
    model::model,
};

model! {
    /// A condenser, which shortens a long history (`condenser` of an agent).
    ///
    /// Created by a constructor or from a [`SummarizingCondenser`].
    pub struct Condenser;
    by_hand: ["kind"];

    /// Sets the condensers of a pipeline, in the order in which they run.
    list condensers: Condenser;
}

impl Condenser {
    /// Creates a condenser that keeps the whole history (`NoOpCondenser`).
    pub fn none() -> Self {
        Self::custom("NoOpCondenser")
    }

    /// Creates a condenser that runs several condensers in sequence (`PipelineCondenser`).
    pub fn pipeline(condensers: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        Self::custom("PipelineCondenser").condensers(condensers)
    }

    /// Creates a condenser of a kind that this version does not support. Use [`set`](Self::set) for
    /// its fields.
    pub fn custom(kind: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("Condenser").with("kind", kind.into()),
        }
    }
}

model! {
    /// A condenser that replaces the middle of a long history with a summary
    /// (`LLMSummarizingCondenser`).
    pub struct SummarizingCondenser;
    by_hand: ["kind", "llm"];

    /// Sets the maximum number of events. Must be at least twice `keep_first` plus four. Server
    /// default: 240.
    value max_size: u32 where max_size > 0 => "must be at least 1";
    /// Sets the maximum number of tokens. Server default: no limit.
    value max_tokens: u32;
    /// Sets how many events at the start are always kept. Server default: 2.
    value keep_first: u32;
    /// Sets the minimum share of events that a condensation must remove. Server default: 0.1.
    value minimum_progress: f64 where 0.0 < minimum_progress && minimum_progress < 1.0
        => "must be above 0 and below 1";
    /// Sets how often a summary of the whole history is attempted if nothing else helps. Server
    /// default: 5.
    value hard_context_reset_max_retries: u32
        where hard_context_reset_max_retries > 0 => "must be at least 1";
    /// Sets the factor by which events are shortened for each of these attempts. Server default:
    /// 0.8.
    value hard_context_reset_context_scaling: f64
        where 0.0 < hard_context_reset_context_scaling && hard_context_reset_context_scaling < 1.0
        => "must be above 0 and below 1";
}

impl SummarizingCondenser {
    /// Creates a condenser that summarizes with this model.
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
        // There must be events left to summarize between the events that are kept at both ends.
        if let (Some(max), Some(first)) = (given("max_size", 240), given("keep_first", 2))
            && max / 2 <= first.saturating_add(1)
        {
            let why = "must be less than half of `max_size` minus 1";
            fields.put("keep_first", Field::refused(why));
        }
        Self { fields }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condenser_must_have_events_left_to_summarize() {
        let condenser = |max_size, keep_first| {
            let given = SummarizingCondenser::new(Llm::new("m")).keep_first(keep_first);
            Condenser::from(given.max_size(max_size)).check()
        };
        condenser(400, 198).unwrap();
        let huge = SummarizingCondenser::new(Llm::new("m")).set("keep_first", u64::MAX);
        assert!(Condenser::from(huge).check().is_err());
        let error = condenser(400, 199).unwrap_err().to_string();
        assert!(
            error.starts_with("keep_first: must be less than half"),
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
