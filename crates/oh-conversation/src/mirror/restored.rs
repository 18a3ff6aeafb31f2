//! The settings of this process that the server loses when it loads a conversation again.

use std::sync::{Arc, Mutex, MutexGuard};

use oh_protocol::{
    Json,
    config::{ConfirmationPolicy, SecurityAnalyzer},
};
use serde::Serialize;

use crate::{lock::lock, mirror::changes::Part};

/// Settings of this process, which every link to the conversation sets again whenever the server
/// may have lost them.
#[derive(Default)]
pub(crate) struct Restored {
    /// Held while a setting is sent: the newest setting wins.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    set: Mutex<Set>,
}

#[derive(Clone, Default)]
pub(crate) struct Set {
    pub(crate) policy: Option<Chosen<ConfirmationPolicy>>,
    pub(crate) analyzer: Option<Chosen<Option<SecurityAnalyzer>>>,
    /// How many times this process has set one of them.
    pub(crate) version: u64,
}

/// A setting that this program has sent.
#[derive(Clone)]
pub(crate) struct Chosen<T> {
    pub(crate) value: T,
    /// The length of the log at that time. If another program has changed the setting since then,
    /// the log shows it.
    pub(crate) since: usize,
}

impl Restored {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Set> {
        lock(&self.set)
    }

    /// Returns the policy to set again: the one that this program has set, or a newer one of
    /// another program that may ask for approval; `None` if this program has set none. Another
    /// program does not lift a policy of this one. `newer`: returns the newest change that is not
    /// older than a length of the log.
    pub(crate) fn policy(
        &self,
        newer: impl FnOnce(usize) -> Option<Json>,
    ) -> Option<ConfirmationPolicy> {
        let ours = self.lock().policy.clone()?;
        let newer = newer(ours.since);
        let newer = newer.filter(|newer| is_other_policy(&ours.value, newer));
        match newer.filter(may_ask) {
            None => Some(ours.value),
            // A value that cannot be decoded cannot be set again either.
            Some(newer) => newer.decode().ok(),
        }
    }

    /// Returns the analyzer to set again: the one that this program has set or removed, or a newer
    /// choice of another program; `None` if this program has made no choice. `newer`: as above.
    pub(crate) fn analyzer(
        &self,
        newer: impl FnOnce(usize) -> Option<Json>,
    ) -> Option<Option<SecurityAnalyzer>> {
        let ours = self.lock().analyzer.clone()?;
        let newer = newer(ours.since);
        match newer.filter(|newer| differs(&ours.value, newer)) {
            None => Some(ours.value),
            Some(newer) if newer.get("kind").is_none() => Some(None),
            Some(newer) => newer.decode().ok().map(Some),
        }
    }

    /// Returns the settings that were sent before the first event that a mirror has held.
    pub(crate) fn sent_before(&self, begin: usize) -> Vec<Part> {
        let set = self.lock();
        let policy = set.policy.as_ref().map(|it| (Part::Policy, it.since));
        let analyzer = set.analyzer.as_ref().map(|it| (Part::Analyzer, it.since));
        let sent = [policy, analyzer].into_iter().flatten();
        sent.filter(|(_, since)| *since < begin)
            .map(|(part, _)| part)
            .collect()
    }
}

/// Returns whether a reported policy may ask for approval.
pub(crate) fn may_ask(policy: &Json) -> bool {
    let kind = policy.get("kind");
    let kind = kind.and_then(|kind| kind.as_text());
    kind.is_some_and(|kind| *kind != *"NeverConfirm")
}

/// Returns whether a policy may ask for approval.
pub(crate) fn asks_by(policy: &ConfirmationPolicy) -> bool {
    serde_json::to_value(policy).map_or(true, |policy| policy["kind"] != "NeverConfirm")
}

/// Returns whether a reported policy is another than this one. A field that only one of them has
/// makes the policies differ, because the field may decide whether the server asks.
pub(crate) fn is_other_policy(ours: &ConfirmationPolicy, reported: &Json) -> bool {
    let mut ours = serde_json::to_value(ours).unwrap_or_default();
    if ours["kind"] == "ConfirmRisky"
        && let Some(fields) = ours.as_object_mut()
    {
        // The server's default, which its reports include.
        fields
            .entry("confirm_unknown")
            .or_insert_with(|| true.into());
    }
    ours != reported.to_value()
}

/// Returns whether a reported setting is another than this one. Fields that this one leaves to the
/// server's defaults are not compared.
fn differs(ours: &impl Serialize, reported: &Json) -> bool {
    let ours = serde_json::to_value(ours).unwrap_or_default();
    let reported = reported.to_value();
    match ours.as_object() {
        Some(ours) => ours
            .iter()
            .any(|(field, value)| reported.get(field) != Some(value)),
        None => reported.is_object(),
    }
}

#[cfg(test)]
mod tests {
    use oh_protocol::{Event, Payload, event::SecurityRisk};

    use super::*;

    fn reported(value: &str) -> Json {
        let event = format!(
            r#"{{"kind":"ConversationStateUpdateEvent","id":"1","key":"confirmation_policy",
            "value":{value}}}"#
        );
        match Event::from_json(event).unwrap().decode() {
            Payload::ConversationStateUpdate(update) => update.value,
            _ => panic!("another kind"),
        }
    }

    #[test]
    fn a_policy_differs_by_any_of_its_fields() {
        let risky = r#"{"kind":"ConfirmRisky","threshold":"HIGH","confirm_unknown":true}"#;
        let risky = reported(risky);
        let high = ConfirmationPolicy::risky(SecurityRisk::High);
        let low = ConfirmationPolicy::risky(SecurityRisk::Low);
        assert!(!is_other_policy(&high, &risky));
        assert!(is_other_policy(&low, &risky));
        assert!(is_other_policy(&ConfirmationPolicy::always(), &risky));
        let unknown = r#"{"kind":"ConfirmRisky","threshold":"HIGH","confirm_unknown":false}"#;
        let unknown = reported(unknown);
        assert!(is_other_policy(&high, &unknown), "a default is a value too");
        assert!(!is_other_policy(&high.confirm_unknown(false), &unknown));
    }

    #[test]
    fn no_analyzer_differs_from_any_analyzer() {
        let none = None::<SecurityAnalyzer>;
        assert!(!differs(&none, &reported("null")));
        assert!(differs(
            &none,
            &reported(r#"{"kind":"LLMSecurityAnalyzer"}"#)
        ));
        assert!(differs(&Some(SecurityAnalyzer::llm()), &reported("null")));
        let same = reported(r#"{"kind":"LLMSecurityAnalyzer","more":1}"#);
        assert!(!differs(&Some(SecurityAnalyzer::llm()), &same));
    }
}
