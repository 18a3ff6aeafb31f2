//! Changing what a conversation works with while it lives: policies, tags, models. Knows
//! no events.

use std::sync::{Mutex, MutexGuard, PoisonError};

use oh_protocol::{
    ConversationId, Json,
    calls::conversations as calls,
    config::{ConfirmationPolicy, Llm, SecurityAnalyzer},
};
use oh_transport::Client;

use crate::{Conversation, Error, ErrorKind, Link, Result, mirror::Mirror};

/// Older servers keep the model they know under a usage id.
const MODELS_REPLACED: (u32, u32, u32) = (1, 56, 0);

impl Conversation {
    /// Sets what judges the risk of actions, or nothing (`POST …/security_analyzer`). Like a
    /// [confirmation policy](crate::Approvals::set_policy), the server forgets it when it loads
    /// the conversation again, and this handle sets it again after every reconnection.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked. After a refusal the analyzer that was set
    /// before stays the one that is set again.
    pub async fn set_security_analyzer(&self, analyzer: Option<SecurityAnalyzer>) -> Result<()> {
        let restored = &self.mirror().restored;
        let _turn = restored.turn.lock().await;
        let settled = restored.is_settled(self.mirror());
        let connection = self.mirror().read().connection;
        let before = restored.lock().analyzer.replace(analyzer.clone());
        let call = calls::SetSecurityAnalyzer::new(self.id(), analyzer);
        let set = self.call("set the security analyzer", &call).await;
        match &set {
            Ok(()) if settled => restored.lock().connection = connection,
            Err(error) if is_refusal(error) => restored.lock().analyzer = before,
            _ => {}
        }
        set
    }

    pub(crate) async fn set_policy(&self, policy: ConfirmationPolicy) -> Result<()> {
        let restored = &self.mirror().restored;
        // A policy that is being set again must not overtake this one.
        let _turn = restored.turn.lock().await;
        let settled = restored.is_settled(self.mirror());
        let connection = self.mirror().read().connection;
        let before = restored.lock().policy.replace(policy.clone());
        let call = calls::SetConfirmationPolicy::new(self.id(), policy);
        let set = self.call("set the confirmation policy", &call).await;
        match &set {
            Ok(()) if settled => restored.lock().connection = connection,
            Err(error) if is_refusal(error) => restored.lock().policy = before,
            _ => {}
        }
        set
    }

    /// Makes sure that the server has what this program set, before something that a policy may
    /// have to stop.
    pub(crate) async fn restore(&self) -> Result<()> {
        let mirror = self.mirror();
        if mirror.restored.is_settled(mirror) {
            return Ok(());
        }
        let set = restore(self.client(), mirror).await;
        set.map_err(|error| Error::transport(self.id(), "set the policy again", error))
    }

    /// Replaces all tags: keys of `a-z` and `0-9`, values of at most 256 characters
    /// (`PATCH /api/conversations/{conversation_id}`).
    ///
    /// # Errors
    ///
    /// When a tag breaks these rules, or the server refuses or cannot be asked.
    pub async fn set_tags<K: Into<String>, V: Into<String>>(
        &self,
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        let tags = tags.into_iter();
        let tags = tags
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        let call = calls::Update::tags(self.id(), tags);
        self.call("set tags", &call).await
    }

    /// Sets the title, 1 to 200 characters and not blank
    /// (`PATCH /api/conversations/{conversation_id}`). No event tells of it: read it by
    /// [`info`](Self::info).
    ///
    /// # Errors
    ///
    /// When it is too long, or the server refuses or cannot be asked.
    pub async fn set_title(&self, title: &str) -> Result<()> {
        let call = calls::Update::title(self.id(), title);
        self.call("set the title", &call).await
    }

    /// Uses another model from now on, even within a run (`POST …/switch_llm`).
    ///
    /// Its usage is counted under its [`usage_id`](Llm::usage_id). Servers before 1.56 go on with
    /// the model that they know under that id already, and do not say so: there one without an id
    /// gets a new one, and one with an id needs one that the conversation has not had.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn switch_llm(&self, mut llm: Llm) -> Result<()> {
        if self.is_before(MODELS_REPLACED).await? {
            let random = ConversationId::random().to_string();
            llm = llm.usage_id_if_unset(format!("switched-{random:.8}"));
        }
        let call = calls::SwitchLlm::new(self.id(), llm);
        self.call("switch the model", &call).await
    }

    /// Uses the model of a profile that the server keeps (`POST …/switch_profile`). Older servers
    /// (1.43) look in `~/.openhands` alone, wherever they keep profiles otherwise.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is no such profile.
    pub async fn switch_profile(&self, profile: impl Into<String>) -> Result<()> {
        let call = calls::SwitchProfile::new(self.id(), profile);
        self.call_naming("switch the profile", &call).await
    }

    /// Uses another model of an agent that speaks ACP (`POST …/switch_acp_model`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) when the agent is of another kind or
    /// does not have the model.
    pub async fn switch_acp_model(&self, model: impl Into<String>) -> Result<()> {
        let call = calls::SwitchAcpModel::new(self.id(), model);
        self.call("switch the agent's model", &call).await
    }

    /// Loads a plugin of the marketplaces that the agent knows, named as `name@marketplace` or
    /// `name` (`POST …/load_plugin`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is none of that name,
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) when it cannot be fetched or is named
    /// ambiguously.
    pub async fn load_plugin(&self, plugin: impl Into<String>) -> Result<()> {
        let call = calls::LoadPlugin::new(self.id(), plugin);
        self.call_naming("load a plugin", &call).await
    }
}

/// Settings of a program, to be set again whenever the server may have forgotten them.
#[derive(Default)]
pub(crate) struct Restored {
    /// Held while something is set or set again: the newest setting wins.
    turn: tokio::sync::Mutex<()>,
    set: Mutex<Set>,
}

#[derive(Default)]
struct Set {
    policy: Option<ConfirmationPolicy>,
    analyzer: Option<Option<SecurityAnalyzer>>,
    /// The connection for which the server has been asked to take both.
    connection: u64,
}

impl Restored {
    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy that this program has set, if it has set one.
    pub(crate) fn policy(&self) -> Option<ConfirmationPolicy> {
        self.lock().policy.clone()
    }

    /// The analyzer that this program has set, or that there is to be none, if it has set that.
    pub(crate) fn analyzer(&self) -> Option<Option<SecurityAnalyzer>> {
        self.lock().analyzer.clone()
    }

    /// Whether the server has it all, as far as this connection tells.
    fn is_settled(&self, mirror: &Mirror) -> bool {
        let set = self.lock();
        if set.policy.is_none() && set.analyzer.is_none() {
            return true;
        }
        let held = mirror.read();
        // Without a socket nothing tells of a restart.
        held.link != Link::Polling && set.connection == held.connection && held.connection > 0
    }

    /// Whether there is something to set again on this connection.
    pub(crate) fn is_due(&self, mirror: &Mirror) -> bool {
        !self.is_settled(mirror)
    }
}

/// Sets again what this program has set and the server forgets when it loads a conversation.
pub(crate) async fn restore(client: &Client, mirror: &Mirror) -> oh_transport::Result<()> {
    let restored = &mirror.restored;
    let _turn = restored.turn.lock().await;
    if restored.is_settled(mirror) {
        return Ok(());
    }
    let (policy, analyzer) = {
        let set = restored.lock();
        (set.policy.clone(), set.analyzer.clone())
    };
    let (connection, known) = {
        let held = mirror.read();
        // Only a snapshot of this connection says what the server has now.
        let snapshot = held.snapshot.as_ref();
        let fresh = snapshot.is_some_and(|last| last.connection == held.connection);
        let told = held.state.get("confirmation_policy").cloned();
        let fresh = fresh && held.link == Link::Live;
        (held.connection, told.filter(|_| fresh))
    };
    if let Some(policy) = policy
        && known.is_none_or(|known| differs(&policy, Some(&known)))
    {
        let call = calls::SetConfirmationPolicy::new(mirror.id, policy);
        client.call(&call).await?;
    }
    // A snapshot leaves out an analyzer that is none, so it cannot tell.
    if let Some(analyzer) = analyzer {
        let call = calls::SetSecurityAnalyzer::new(mirror.id, analyzer);
        client.call(&call).await?;
    }
    restored.lock().connection = connection;
    Ok(())
}

/// Whether the server has answered, and has not done it.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput
            | ErrorKind::Refused
            | ErrorKind::Unauthorized
            | ErrorKind::Unsupported
            | ErrorKind::NotFound
            | ErrorKind::Conflict
    )
}

/// Whether a state holds another policy than this one. What this one leaves to the server's
/// defaults is not compared.
pub(crate) fn differs(policy: &ConfirmationPolicy, told: Option<&Json>) -> bool {
    let ours = serde_json::to_value(policy).unwrap_or_default();
    let Some(told) = told.map(Json::to_value) else {
        return false;
    };
    let mut ours = ours.as_object().into_iter().flatten();
    ours.any(|(field, value)| told.get(field) != Some(value))
}

#[cfg(test)]
mod tests {
    use oh_protocol::{Event, Payload, event::SecurityRisk, state::ConversationState};

    use super::*;

    #[test]
    fn a_policy_differs_by_any_of_its_fields() {
        let mut state = ConversationState::default();
        let told = r#"{"kind":"ConversationStateUpdateEvent","id":"1","key":"confirmation_policy",
            "value":{"kind":"ConfirmRisky","threshold":"HIGH","confirm_unknown":true}}"#;
        let told = Event::from_json(told).unwrap();
        if let Payload::ConversationStateUpdate(update) = told.payload() {
            state.apply(update).unwrap();
        }
        let told = state.get("confirmation_policy");
        assert!(!differs(
            &ConfirmationPolicy::risky(SecurityRisk::High),
            told
        ));
        assert!(differs(&ConfirmationPolicy::risky(SecurityRisk::Low), told));
        assert!(differs(&ConfirmationPolicy::always(), told));
        assert!(!differs(&ConfirmationPolicy::always(), None));
    }
}
