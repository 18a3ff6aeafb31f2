//! Setting again what the server loses when it loads a conversation again.

use oh_protocol::{
    Event, Json, Payload,
    calls::{
        conversations::{SetConfirmationPolicy, SetSecurityAnalyzer},
        events::Search,
    },
};
use oh_transport::{Backoff, Client, Error, ErrorKind, Result};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    LinkStatus,
    lock::lock,
    mirror::{
        Mirror,
        changes::Part,
        head::STATE_UPDATE,
        restored::{asks_by, is_other_policy},
    },
};

/// The first and the longest delay before the settings are sent again after a failure.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Returns whether the server has all settings, as far as this connection shows.
pub(crate) fn is_settled(mirror: &Mirror) -> bool {
    // Locked in this order everywhere.
    let held = mirror.read();
    let set = mirror.answered.restored.lock();
    if set.policy.is_none() && set.analyzer.is_none() {
        return true;
    }
    // Without a socket a restart goes unnoticed.
    let sent = *lock(&mirror.settled);
    held.link != LinkStatus::Polling
        && held.connection > 0
        && sent == (set.version, held.connection)
}

/// Sends this process's settings again, which the server loses when it loads a conversation.
///
/// Tries again for a while if that fails. Each attempt sends the settings that are the newest at
/// that time: another program may have changed them after an attempt whose response was lost.
pub(crate) async fn restore(client: &Client, mirror: &Mirror) -> Result<()> {
    let over = Instant::now() + mirror.limits.answer;
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    loop {
        match restore_once(client, mirror).await {
            Err(error) if error.is_transient() && Instant::now() < over => {
                sleep(backoff.next_delay()).await;
            }
            restored => return restored,
        }
    }
}

async fn restore_once(client: &Client, mirror: &Mirror) -> Result<()> {
    let restored = &mirror.answered.restored;
    if is_settled(mirror) {
        return Ok(());
    }
    // Until the response, no goal of this process starts.
    let _no_goal = mirror.answered.lock_goal().await;
    let _turn = restored.turn.lock().await;
    if is_settled(mirror) {
        return Ok(());
    }
    let (policy, analyzer, connection, known) = {
        let held = mirror.read();
        // Another program may have changed these since.
        let (policy, analyzer) = (
            mirror.policy_to_restore(&held),
            mirror.analyzer_to_restore(&held),
        );
        // Only a snapshot of this connection shows the server's current policy.
        let snapshot = held.snapshot.as_ref();
        let fresh = snapshot.is_some_and(|last| last.connection == held.connection);
        let reported = held.state.get("confirmation_policy").cloned();
        let fresh = fresh && held.link == LinkStatus::Live;
        (
            policy,
            analyzer,
            held.connection,
            reported.filter(|_| fresh),
        )
    };
    if let Some(policy) = policy
        && known.is_none_or(|known| is_other_policy(&policy, &known))
    {
        if asks_by(&policy) && pursues_goal(client, mirror).await? {
            let what = "a goal is in progress, and would execute actions without the approval that \
                        the policy asks for";
            return Err(Error::new(ErrorKind::Conflict, what));
        }
        let call = SetConfirmationPolicy::new(mirror.id, policy);
        client.call(&call).single_attempt().await?;
    }
    // A snapshot omits a missing analyzer, so the two cannot be compared.
    if let Some(analyzer) = analyzer {
        let call = SetSecurityAnalyzer::new(mirror.id, analyzer);
        client.call(&call).single_attempt().await?;
    }
    // Nobody sets another one during this turn.
    let version = restored.lock().version;
    *lock(&mirror.settled) = (version, connection);
    Ok(())
}

/// Returns whether a goal is in progress: according to the server's newest events or, if they do
/// not show a goal, to the mirror.
async fn pursues_goal(client: &Client, mirror: &Mirror) -> Result<bool> {
    let page = client.call(&Search::new(mirror.id).descending()).await?;
    let newest = page.items.iter().find_map(goal_in);
    let known = || {
        mirror
            .read()
            .changes
            .newest(Part::Goal)
            .map(|goal| is_active(&goal.value))
    };
    Ok(newest.or_else(known).unwrap_or(false))
}

fn goal_in(event: &Event) -> Option<bool> {
    if event.kind() != STATE_UPDATE {
        return None;
    }
    match event.decode() {
        Payload::ConversationStateUpdate(update) if Part::of(&update) == Some(Part::Goal) => {
            Some(is_active(&update.value))
        }
        _ => None,
    }
}

/// Returns whether a reported goal is in progress.
pub(crate) fn is_active(goal: &Json) -> bool {
    let active = goal.get("active");
    active.is_some_and(|active| active.as_str() == "true")
}
