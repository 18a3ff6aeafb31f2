//! Security analyzers, which rate the risk of actions.

use super::{
    Llm,
    fields::{Field, Fields},
    model::model,
};

model! {
    /// A security analyzer, which rates the risk of actions (`security_analyzer`).
    ///
    /// Created by a constructor or from a type with options, such as [`PatternAnalyzer`].
    pub struct SecurityAnalyzer;
    by_hand: ["kind", "analyzers"];

    /// Sets whether an ensemble reports an unknown risk if one of its analyzers does. Server
    /// default: false.
    value propagate_unknown: bool;
}

impl SecurityAnalyzer {
    /// Creates an analyzer that uses the risk stated by the agent's own model for each action
    /// (`LLMSecurityAnalyzer`).
    pub fn llm() -> Self {
        Self::custom("LLMSecurityAnalyzer")
    }

    /// Creates an analyzer with the server's built-in rules for dangerous actions
    /// (`PolicyRailSecurityAnalyzer`).
    pub fn policy_rail() -> Self {
        Self::custom("PolicyRailSecurityAnalyzer")
    }

    /// Creates an analyzer that returns the highest risk of several analyzers, at least one
    /// (`EnsembleSecurityAnalyzer`).
    pub fn ensemble(analyzers: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        let analyzers = match analyzers.into_iter().map(Into::into).collect::<Vec<Self>>() {
            none if none.is_empty() => Field::refused("must have at least one analyzer"),
            some => some.into_iter().collect(),
        };
        let mut ensemble = Self::custom("EnsembleSecurityAnalyzer");
        ensemble.fields.put("analyzers", analyzers);
        ensemble
    }

    /// Creates an analyzer of a kind that this version does not support. Use [`set`](Self::set) for
    /// its fields.
    pub fn custom(kind: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("SecurityAnalyzer").with("kind", kind.into()),
        }
    }
}

model! {
    /// An analyzer that searches actions for patterns (`PatternSecurityAnalyzer`).
    ///
    /// The server has default patterns for each of the four lists. Setting a list replaces the
    /// default patterns of that list.
    pub struct PatternAnalyzer;
    by_hand: ["kind"];

    /// Sets the patterns for high risk in executed content.
    list high_patterns: RiskPattern;
    /// Sets the patterns for medium risk in executed content.
    list medium_patterns: RiskPattern;
    /// Sets the patterns for high risk in any part of an action.
    list injection_high_patterns: RiskPattern;
    /// Sets the patterns for medium risk in any part of an action.
    list injection_medium_patterns: RiskPattern;
}

impl PatternAnalyzer {
    /// Creates an analyzer with the server's default patterns.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("PatternAnalyzer")
                .with("kind", Field::plain("PatternSecurityAnalyzer")),
        }
    }
}

impl Default for PatternAnalyzer {
    fn default() -> Self {
        Self::new()
    }
}

/// A pattern of a [`PatternAnalyzer`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct RiskPattern([String; 3]);

impl RiskPattern {
    /// Creates a pattern from a (Python) regular expression, a description, and the name of the
    /// detected risk, such as `DET_EXEC_DESTRUCT`.
    pub fn new(
        pattern: impl Into<String>,
        description: impl Into<String>,
        detector: impl Into<String>,
    ) -> Self {
        Self([pattern.into(), description.into(), detector.into()])
    }
}

impl From<RiskPattern> for Field {
    fn from(pattern: RiskPattern) -> Self {
        Self::plain(pattern.0)
    }
}

model! {
    /// An analyzer that uses the Gray Swan Cygnal service (`GraySwanAnalyzer`).
    pub struct GraySwanAnalyzer;
    by_hand: ["kind"];

    /// Sets the API key. Server default: the server's variable `GRAYSWAN_API_KEY`.
    secret api_key;
    /// Sets the policy id. Server default: the server's variable `GRAYSWAN_POLICY_ID`.
    text policy_id;
    /// Sets the URL of the service.
    address api_url;
    /// Sets how many recent events are sent to the service. Server default: 20.
    value history_limit: u32;
    /// Sets how many characters of the conversation are sent to the service. Server default: 30
    /// 000.
    value max_message_chars: u32;
    /// Sets the timeout of an assessment. Server default: 30 s.
    seconds timeout;
    /// Sets the maximum score for a low risk. Server default: 0.3.
    value low_threshold: f64;
    /// Sets the maximum score for a medium risk; higher scores mean a high risk. Server default:
    /// 0.7.
    value medium_threshold: f64;
}

impl GraySwanAnalyzer {
    /// Creates an analyzer with the server's own key and policy.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("GraySwanAnalyzer").with("kind", Field::plain("GraySwanAnalyzer")),
        }
    }
}

impl Default for GraySwanAnalyzer {
    fn default() -> Self {
        Self::new()
    }
}

model! {
    /// An analyzer that uses a separate model (`ToolShieldLLMSecurityAnalyzer`).
    pub struct ToolShieldAnalyzer;
    by_hand: ["kind", "llm"];

    /// Sets how many earlier actions the model gets. Server default: 20.
    value history_window: u32 where history_window > 0 => "must be at least 1";
    /// Sets guidelines for the model. Server default: none.
    text safety_experiences;
}

impl ToolShieldAnalyzer {
    /// Creates an analyzer that uses this model.
    pub fn new(llm: Llm) -> Self {
        Self {
            fields: Fields::of("ToolShieldAnalyzer")
                .with("kind", Field::plain("ToolShieldLLMSecurityAnalyzer"))
                .with("llm", llm),
        }
    }
}

macro_rules! analyzers {
    ($($name:ident),*) => { $(
        impl From<$name> for SecurityAnalyzer {
            fn from(analyzer: $name) -> Self {
                Self { fields: analyzer.fields }
            }
        }
    )* };
}
analyzers!(PatternAnalyzer, GraySwanAnalyzer, ToolShieldAnalyzer);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_has_at_least_one_analyzer() {
        let error = SecurityAnalyzer::ensemble(Vec::<SecurityAnalyzer>::new()).check();
        assert_eq!(
            error.unwrap_err().to_string(),
            "analyzers: must have at least one analyzer"
        );
    }

    #[test]
    fn keys_are_hidden_and_faults_are_found_in_an_ensemble() {
        let both = |key: &str| {
            let gray = SecurityAnalyzer::from(GraySwanAnalyzer::new().api_key(key));
            let shield = ToolShieldAnalyzer::new(Llm::with_canary());
            SecurityAnalyzer::ensemble([gray, shield.into()])
        };
        assert!(!format!("{:?}", both("canary")).contains("canary"));
        let error = both("**********").check().unwrap_err().to_string();
        assert!(error.starts_with("analyzers[0].api_key: "), "{error}");
    }
}
