//! Security analyzers: what judges how risky an action is.

use super::{
    Llm,
    fields::{Field, Fields},
    model::model,
};

model! {
    /// What judges how risky an action is (`security_analyzer`).
    ///
    /// Made from a type with options, such as [`PatternAnalyzer`], or by a constructor.
    pub struct SecurityAnalyzer;
    by_hand: ["kind", "analyzers"];

    /// Whether one of several that does not know makes all of them not know. Server's default:
    /// no.
    value propagate_unknown: bool;
}

impl SecurityAnalyzer {
    /// The agent's own model judges each action as it chooses it (`LLMSecurityAnalyzer`).
    pub fn llm() -> Self {
        Self::custom("LLMSecurityAnalyzer")
    }

    /// Rules the server has for what no agent should do (`PolicyRailSecurityAnalyzer`).
    pub fn policy_rail() -> Self {
        Self::custom("PolicyRailSecurityAnalyzer")
    }

    /// The worst of what several say (`EnsembleSecurityAnalyzer`); at least one.
    pub fn ensemble(analyzers: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        let analyzers = match analyzers.into_iter().map(Into::into).collect::<Vec<Self>>() {
            none if none.is_empty() => Field::refused("it names at least one analyzer"),
            some => some.into_iter().collect(),
        };
        let mut ensemble = Self::custom("EnsembleSecurityAnalyzer");
        ensemble.fields.put("analyzers", analyzers);
        ensemble
    }

    /// A kind that this version does not know; [`set`](Self::set) gives its fields.
    pub fn custom(kind: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("SecurityAnalyzer").with("kind", kind.into()),
        }
    }
}

model! {
    /// Judges by patterns in what an action would do (`PatternSecurityAnalyzer`).
    ///
    /// The server has patterns of its own for each of the four lists; giving one list replaces
    /// its patterns there.
    pub struct PatternAnalyzer;
    by_hand: ["kind"];

    /// What makes what is executed risky.
    list high_patterns: RiskPattern;
    /// What makes what is executed somewhat risky.
    list medium_patterns: RiskPattern;
    /// What makes any part of an action risky.
    list injection_high_patterns: RiskPattern;
    /// What makes any part of an action somewhat risky.
    list injection_medium_patterns: RiskPattern;
}

impl PatternAnalyzer {
    /// The server's own patterns.
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
    /// What this (Python) regular expression finds; a description; and a name for what was
    /// found, such as `DET_EXEC_DESTRUCT`.
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
    /// Asks the Gray Swan Cygnal service (`GraySwanAnalyzer`).
    pub struct GraySwanAnalyzer;
    by_hand: ["kind"];

    /// The service's key. Server's default: its variable `GRAYSWAN_API_KEY`.
    secret api_key;
    /// The service's policy. Server's default: its variable `GRAYSWAN_POLICY_ID`.
    text policy_id;
    /// Where the service is.
    address api_url;
    /// How many recent events it is shown. Server's default: 20.
    value history_limit: u32;
    /// How many characters of the conversation it is shown. Server's default: 30 000.
    value max_message_chars: u32;
    /// How long it may take, in seconds. Server's default: 30.
    value timeout: f64;
    /// Up to which score a risk is low. Server's default: 0.3.
    value low_threshold: f64;
    /// Up to which score a risk is medium; above it is high. Server's default: 0.7.
    value medium_threshold: f64;
}

impl GraySwanAnalyzer {
    /// With the server's own key and policy.
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
    /// Lets a model of its own judge, apart from the agent's (`ToolShieldLLMSecurityAnalyzer`).
    pub struct ToolShieldAnalyzer;
    by_hand: ["kind", "llm"];

    /// How many earlier actions it is shown. Server's default: 20.
    value history_window: u32 where history_window > 0 => "it is at least 1";
    /// Guidelines for its judgement. Server's default: none.
    text safety_experiences;
}

impl ToolShieldAnalyzer {
    /// Judgement by this model.
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
    fn several_are_at_least_one() {
        let error = SecurityAnalyzer::ensemble(Vec::<SecurityAnalyzer>::new()).check();
        assert_eq!(
            error.unwrap_err().to_string(),
            "analyzers: it names at least one analyzer"
        );
    }

    #[test]
    fn keys_are_not_shown_and_faults_found_inside_of_several() {
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
