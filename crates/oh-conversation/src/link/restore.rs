//! Setting again what the server loses when it loads a conversation again.

use oh_protocol::{
    Json,
    calls::conversations::{SetConfirmationPolicy, SetSecurityAnalyzer},
    config::ConfirmationPolicy,
};
use oh_transport::{Client, Result};

use crate::{Link, mirror::Mirror};

/// Returns whether the server has all settings, as far as this connection shows.
pub(crate) fn is_settled(mirror: &Mirror) -> bool {
    let set = mirror.restored.lock();
    if set.policy.is_none() && set.analyzer.is_none() {
        return true;
    }
    let held = mirror.read();
    // Without a socket a restart goes unnoticed.
    held.link != Link::Polling && set.connection == held.connection && held.connection > 0
}

/// Sends this program's settings again, which the server loses when it loads a conversation.
pub(crate) async fn restore(client: &Client, mirror: &Mirror) -> Result<()> {
    let restored = &mirror.restored;
    let _turn = restored.turn.lock().await;
    if is_settled(mirror) {
        return Ok(());
    }
    let (policy, analyzer) = {
        let set = restored.lock();
        (set.policy.clone(), set.analyzer.clone())
    };
    let (connection, known) = {
        let held = mirror.read();
        // Only a snapshot of this connection shows the server's current policy.
        let snapshot = held.snapshot.as_ref();
        let fresh = snapshot.is_some_and(|last| last.connection == held.connection);
        let reported = held.state.get("confirmation_policy").cloned();
        let fresh = fresh && held.link == Link::Live;
        (held.connection, reported.filter(|_| fresh))
    };
    if let Some(policy) = policy
        && known.is_none_or(|known| differs(&policy, Some(&known)))
    {
        let call = SetConfirmationPolicy::new(mirror.id, policy);
        client.call(&call).await?;
    }
    // A snapshot omits a missing analyzer, so the two cannot be compared.
    if let Some(analyzer) = analyzer {
        let call = SetSecurityAnalyzer::new(mirror.id, analyzer);
        client.call(&call).await?;
    }
    restored.lock().connection = connection;
    Ok(())
}

/// Returns whether a state has another policy than this one. Fields that this policy leaves to the
/// server's defaults are not compared.
fn differs(policy: &ConfirmationPolicy, reported: Option<&Json>) -> bool {
    let ours = serde_json::to_value(policy).unwrap_or_default();
    let Some(reported) = reported.map(Json::to_value) else {
        return false;
    };
    let mut ours = ours.as_object().into_iter().flatten();
    ours.any(|(field, value)| reported.get(field) != Some(value))
}

#[cfg(test)]
mod tests {
    use oh_protocol::{Event, Payload, event::SecurityRisk, state::ConversationState};

    use super::*;

    #[test]
    fn a_policy_differs_by_any_of_its_fields() {
        let mut state = ConversationState::default();
        let reported = r#"{"kind":"ConversationStateUpdateEvent","id":"1","key":"confirmation_policy",
            "value":{"kind":"ConfirmRisky","threshold":"HIGH","confirm_unknown":true}}"#;
        let reported = Event::from_json(reported).unwrap();
        if let Payload::ConversationStateUpdate(update) = reported.payload() {
            state.apply(update).unwrap();
        }
        let reported = state.get("confirmation_policy");
        assert!(!differs(
            &ConfirmationPolicy::risky(SecurityRisk::High),
            reported
        ));
        assert!(differs(
            &ConfirmationPolicy::risky(SecurityRisk::Low),
            reported
        ));
        assert!(differs(&ConfirmationPolicy::always(), reported));
        assert!(!differs(&ConfirmationPolicy::always(), None));
    }
}
