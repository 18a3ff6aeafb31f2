//! Confirmation policies, which determine when an action waits for approval.

use super::{
    fields::{Field, Fields},
    model::model,
};
use crate::event::SecurityRisk;

model! {
    /// A policy that determines when an action waits for approval before it runs
    /// (`confirmation_policy`).
    ///
    /// ```
    /// use oh_protocol::{config::ConfirmationPolicy, event::SecurityRisk};
    ///
    /// // Waits for an approval of actions with a medium, high or unknown risk.
    /// let policy = ConfirmationPolicy::risky(SecurityRisk::Medium);
    /// policy.check()?;
    /// # Ok::<(), oh_protocol::Error>(())
    /// ```
    pub struct ConfirmationPolicy;
    by_hand: ["kind", "threshold"];

    /// Sets whether an action of unknown risk also waits, under [`risky`](Self::risky). Server
    /// default: true.
    value confirm_unknown: bool;
}

impl ConfirmationPolicy {
    /// Creates a policy that never asks, which is the server default (`NeverConfirm`).
    pub fn never() -> Self {
        Self::custom("NeverConfirm")
    }

    /// Creates a policy that always asks (`AlwaysConfirm`).
    pub fn always() -> Self {
        Self::custom("AlwaysConfirm")
    }

    /// Creates a policy that asks if the risk is at least `threshold` (`ConfirmRisky`). Requires a
    /// security analyzer, which rates the risk.
    pub fn risky(threshold: SecurityRisk) -> Self {
        let threshold = match threshold {
            SecurityRisk::Unknown => Field::refused(
                "must be LOW, MEDIUM or HIGH: use `confirm_unknown` for unknown risks",
            ),
            known => Field::plain(known),
        };
        let mut policy = Self::custom("ConfirmRisky");
        policy.fields.put("threshold", threshold);
        policy
    }

    /// Creates a policy that approves actions up to and including `risk` without asking. The server
    /// asks for higher risks and for every action whose risk is unknown (`ConfirmRisky`).
    ///
    /// | Argument | Runs without asking | Asks |
    /// |-|-|-|
    /// | `Low` | `LOW` | `MEDIUM`, `HIGH`, unknown |
    /// | `Medium` | `LOW`, `MEDIUM` | `HIGH`, unknown |
    ///
    /// A server without a security analyzer rates every action as unknown, so it asks for each
    /// action. If one action of a step needs approval, the whole step waits.
    ///
    /// All other risks are rejected, because no policy of the server runs `HIGH` and asks for
    /// unknown risks. [`check`](Self::check) returns an error in that case, and nothing is sent.
    /// Instead, use [`always`](Self::always) and approve by [`SecurityRisk`] in the program, or
    /// [`never`](Self::never) to run everything.
    ///
    /// ```
    /// use oh_protocol::{config::ConfirmationPolicy, event::SecurityRisk};
    ///
    /// let policy = ConfirmationPolicy::approve_up_to(SecurityRisk::Medium);
    /// policy.check()?;
    /// # Ok::<(), oh_protocol::Error>(())
    /// ```
    pub fn approve_up_to(risk: SecurityRisk) -> Self {
        // The server asks from the threshold on, so the threshold is the next higher risk.
        let threshold = match risk {
            SecurityRisk::Low => Field::plain(SecurityRisk::Medium),
            SecurityRisk::Medium => Field::plain(SecurityRisk::High),
            _ => Field::refused(
                "a policy cannot approve actions up to HIGH, or of unknown risk: use `always` and \
                 approve in the program, or `never`",
            ),
        };
        let mut policy = Self::custom("ConfirmRisky");
        policy.fields.put("threshold", threshold);
        policy.confirm_unknown(true)
    }

    /// Creates a policy of a kind that this version does not support. Use [`set`](Self::set) for
    /// its fields.
    pub fn custom(kind: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("ConfirmationPolicy").with("kind", kind.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirm_risky_rejects_an_unknown_threshold() {
        let policy = ConfirmationPolicy::risky(SecurityRisk::Unknown);
        let error = policy.check().unwrap_err().to_string();
        assert!(error.starts_with("threshold: must be LOW"), "{error}");
        ConfirmationPolicy::risky(SecurityRisk::Low)
            .check()
            .unwrap();
    }

    /// Returns whether the server asks for an action of this risk under a policy
    /// (`should_confirm`).
    fn asks(policy: &serde_json::Value, risk: &str) -> bool {
        let rank = |risk: &str| ["LOW", "MEDIUM", "HIGH"].iter().position(|of| *of == risk);
        assert_eq!(policy["kind"], "ConfirmRisky");
        match rank(risk) {
            None => policy["confirm_unknown"] == true,
            Some(risk) => risk >= rank(policy["threshold"].as_str().unwrap()).unwrap(),
        }
    }

    #[test]
    fn riskier_and_unknown_actions_need_approval() {
        for limit in [SecurityRisk::Low, SecurityRisk::Medium] {
            let policy = ConfirmationPolicy::approve_up_to(limit.clone());
            policy.check().unwrap();
            let wire = serde_json::to_value(&policy).unwrap();
            for word in ["LOW", "MEDIUM", "HIGH", "UNKNOWN"] {
                let risk = SecurityRisk::from(word);
                assert_eq!(asks(&wire, word), risk > limit, "{word} above {limit}");
            }
        }
    }

    #[test]
    fn an_approval_that_the_server_cannot_express_is_rejected() {
        for limit in ["HIGH", "UNKNOWN", "CRITICAL"] {
            let policy = ConfirmationPolicy::approve_up_to(limit.into());
            let error = policy.check().unwrap_err().to_string();
            assert!(
                error.starts_with("threshold: a policy cannot approve"),
                "{error}"
            );
            assert!(policy.check().is_err());
        }
    }
}
