//! Setting again what the server loses when it loads a conversation again.

use oh_protocol::calls::conversations::{SetConfirmationPolicy, SetSecurityAnalyzer};
use oh_transport::{Client, Result};

use crate::{
    Link,
    mirror::{Mirror, restored::differs},
};

/// Returns whether the server has all settings, as far as this connection shows.
pub(crate) fn is_settled(mirror: &Mirror) -> bool {
    // Locked in this order everywhere.
    let held = mirror.read();
    let set = mirror.restored.lock();
    if set.policy.is_none() && set.analyzer.is_none() {
        return true;
    }
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
    let (policy, analyzer, connection, known) = {
        let held = mirror.read();
        // Another program may have changed these since.
        let (policy, analyzer) = (restored.policy(&held), restored.analyzer(&held));
        // Only a snapshot of this connection shows the server's current policy.
        let snapshot = held.snapshot.as_ref();
        let fresh = snapshot.is_some_and(|last| last.connection == held.connection);
        let reported = held.state.get("confirmation_policy").cloned();
        let fresh = fresh && held.link == Link::Live;
        (
            policy,
            analyzer,
            held.connection,
            reported.filter(|_| fresh),
        )
    };
    if let Some(policy) = policy
        && known.is_none_or(|known| differs(&policy, &known))
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
