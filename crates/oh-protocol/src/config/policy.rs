//! Confirmation policies: when an action waits for approval.

use super::{
    fields::{Field, Fields},
    model::model,
};
use crate::event::SecurityRisk;

model! {
    /// When an action waits for approval before it runs (`confirmation_policy`).
    pub struct ConfirmationPolicy;
    by_hand: ["kind", "threshold"];

    /// Whether an action of unknown risk waits, too, under [`risky`](Self::risky). Server's
    /// default: yes.
    value confirm_unknown: bool;
}

impl ConfirmationPolicy {
    /// Never: what a server does unless told otherwise (`NeverConfirm`).
    pub fn never() -> Self {
        Self::custom("NeverConfirm")
    }

    /// Always (`AlwaysConfirm`).
    pub fn always() -> Self {
        Self::custom("AlwaysConfirm")
    }

    /// When its risk is at least this (`ConfirmRisky`). It takes a security analyzer to know it.
    pub fn risky(threshold: SecurityRisk) -> Self {
        let threshold = match threshold {
            SecurityRisk::Unknown => {
                Field::refused("it is LOW, MEDIUM or HIGH: say `confirm_unknown` for the rest")
            }
            known => Field::plain(known),
        };
        let mut policy = Self::custom("ConfirmRisky");
        policy.fields.put("threshold", threshold);
        policy
    }

    /// A kind that this version does not know; [`set`](Self::set) gives its fields.
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
    fn nothing_waits_for_an_unknown_risk() {
        let policy = ConfirmationPolicy::risky(SecurityRisk::Unknown);
        let error = policy.check().unwrap_err().to_string();
        assert!(error.starts_with("threshold: it is LOW"), "{error}");
        ConfirmationPolicy::risky(SecurityRisk::Low)
            .check()
            .unwrap();
    }
}
