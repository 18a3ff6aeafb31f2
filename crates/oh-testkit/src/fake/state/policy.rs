//! Confirmation policies and risks, which decide whether an action waits for an approval.

use oh_protocol::event::SecurityRisk;
use serde_json::{Value, json};

use crate::fake::{
    state::builtin::only_reads,
    wire::reply::{Answered, invalid},
};

/// An action to be assessed by a security analyzer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProposedAction {
    /// The kind of the analyzer, such as `PatternSecurityAnalyzer`.
    pub analyzer: String,
    /// The tool.
    pub tool: String,
    /// The arguments, without the risk that the model claims.
    pub arguments: Value,
    /// The risk that the model claims with the argument `security_risk`, or
    /// [`Unknown`](SecurityRisk::Unknown) if it claims none.
    pub claimed: SecurityRisk,
}

/// Validates a policy and adds the server's default values.
pub(crate) fn normal(policy: &Value, at: &str) -> Answered<Value> {
    let refuse = |kind: &str, at: Value, rule: &str| Err(invalid(kind, at, rule).into());
    let kind = policy["kind"].as_str().unwrap_or_default();
    match kind {
        "NeverConfirm" | "AlwaysConfirm" => Ok(json!({ "kind": kind })),
        "ConfirmRisky" => {
            let threshold = policy["threshold"].as_str().unwrap_or("HIGH");
            match threshold {
                "LOW" | "MEDIUM" | "HIGH" => {}
                "UNKNOWN" => {
                    let rule = "Value error, Threshold cannot be UNKNOWN";
                    return refuse("value_error", json!(["body", at, "threshold"]), rule);
                }
                _ => {
                    let rule = "Input should be 'UNKNOWN', 'LOW', 'MEDIUM' or 'HIGH'";
                    return refuse("enum", json!(["body", at, "threshold"]), rule);
                }
            }
            Ok(json!({
                "kind": kind,
                "threshold": threshold,
                "confirm_unknown": policy["confirm_unknown"].as_bool().unwrap_or(true),
            }))
        }
        _ => refuse(
            "value_error",
            json!(["body", at]),
            "Value error, unknown kind",
        ),
    }
}

/// Returns whether an action with this risk waits for an approval.
pub(crate) fn asks(policy: &Value, risk: &SecurityRisk) -> bool {
    match policy["kind"].as_str() {
        Some("AlwaysConfirm") => true,
        Some("ConfirmRisky") => match level(risk) {
            None => policy["confirm_unknown"] != false,
            Some(level) => {
                let threshold = policy["threshold"].as_str().unwrap_or("HIGH");
                Some(level) >= self::level(&SecurityRisk::from(threshold))
            }
        },
        _ => false,
    }
}

/// Returns the level of a risk for comparisons, or `None` for an unknown risk.
fn level(risk: &SecurityRisk) -> Option<u8> {
    match risk {
        SecurityRisk::Low => Some(1),
        SecurityRisk::Medium => Some(2),
        SecurityRisk::High => Some(3),
        _ => None,
    }
}

/// Returns the risk that a model claims for a call. The server uses it only if there is a security
/// analyzer and the tool is not read-only. An invalid value makes the call invalid.
pub(crate) fn claimed(
    analyzer: &Value,
    tool: &str,
    claim: &Value,
) -> Result<SecurityRisk, &'static str> {
    if analyzer.is_null() || claim.is_null() || only_reads(tool) {
        return Ok(SecurityRisk::Unknown);
    }
    match claim.as_str().map(SecurityRisk::from) {
        None | Some(SecurityRisk::Other(_)) => Err("the security risk is not valid"),
        Some(risk) => Ok(risk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_requires_approval_from_its_threshold() {
        let [unknown, low, medium, high] =
            ["UNKNOWN", "LOW", "MEDIUM", "HIGH"].map(SecurityRisk::from);
        let risky = |threshold: &str, unknown: bool| {
            let kind = "ConfirmRisky";
            json!({"kind": kind, "threshold": threshold, "confirm_unknown": unknown})
        };
        for (policy, asked) in [
            (
                json!({"kind": "NeverConfirm"}),
                [false, false, false, false],
            ),
            (json!({"kind": "AlwaysConfirm"}), [true, true, true, true]),
            (json!({"kind": "ConfirmRisky"}), [true, false, false, true]),
            (risky("LOW", false), [false, true, true, true]),
            (risky("MEDIUM", true), [true, false, true, true]),
            (risky("HIGH", false), [false, false, false, true]),
        ] {
            let asks = [&unknown, &low, &medium, &high].map(|risk| asks(&policy, risk));
            assert_eq!(asks, asked, "{policy}");
        }
    }

    #[test]
    fn a_claimed_risk_counts_only_with_an_analyzer_and_for_a_changing_tool() {
        let (none, some) = (Value::Null, json!({"kind": "LLMSecurityAnalyzer"}));
        let high = json!("HIGH");
        assert_eq!(claimed(&none, "terminal", &high), Ok(SecurityRisk::Unknown));
        assert_eq!(claimed(&some, "terminal", &high), Ok(SecurityRisk::High));
        assert_eq!(claimed(&some, "grep", &high), Ok(SecurityRisk::Unknown));
        assert_eq!(
            claimed(&some, "terminal", &Value::Null),
            Ok(SecurityRisk::Unknown)
        );
        assert!(claimed(&some, "terminal", &json!("SOME")).is_err());
        assert!(claimed(&some, "terminal", &json!(3)).is_err());
    }
}
