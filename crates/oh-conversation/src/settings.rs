//! Changing what a conversation works with while it lives: policies, tags, models. Knows
//! no events.

use oh_protocol::{
    ConversationId, Json,
    calls::conversations as calls,
    config::{ConfirmationPolicy, Llm, SecurityAnalyzer},
};
use oh_transport::Client;
use tracing::warn;

use crate::{Conversation, Result, mirror::Mirror};

/// Older servers keep the model they know under a usage id.
const MODELS_REPLACED: (u32, u32, u32) = (1, 56, 0);

impl Conversation {
    /// Sets when the agent must ask (`POST …/confirmation_policy`). The server forgets it when it
    /// restarts or has evicted the conversation, and falls back on what the conversation was
    /// started with: this handle tells it again after every reconnection, and to the forks made
    /// with it. Another handle, attached later, does not know of it.
    ///
    /// Waits for a running tool to end, on the server.
    ///
    /// ```no_run
    /// # async fn careful(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_protocol::{
    ///     config::{ConfirmationPolicy, SecurityAnalyzer},
    ///     event::SecurityRisk,
    /// };
    ///
    /// conversation.set_security_analyzer(Some(SecurityAnalyzer::llm())).await?;
    /// conversation.set_confirmation_policy(ConfirmationPolicy::risky(SecurityRisk::Medium)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn set_confirmation_policy(&self, policy: ConfirmationPolicy) -> Result<()> {
        let call = calls::SetConfirmationPolicy::new(self.id(), policy.clone());
        self.call("set the confirmation policy", &call).await?;
        self.mirror().remember_policy(policy);
        Ok(())
    }

    /// Sets what judges the risk of actions, or nothing (`POST …/security_analyzer`). The server
    /// keeps it no longer than a confirmation policy, and this handle tells it again as often.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn set_security_analyzer(&self, analyzer: Option<SecurityAnalyzer>) -> Result<()> {
        let call = calls::SetSecurityAnalyzer::new(self.id(), analyzer.clone());
        self.call("set the security analyzer", &call).await?;
        self.mirror().remember_analyzer(analyzer);
        Ok(())
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

/// Tells the server again what this program has set and the server forgets when it loads a
/// conversation anew, if there is something. To be done after a subscription's first snapshot.
pub(crate) fn restoring(
    client: &Client,
    mirror: &Mirror,
) -> Option<impl Future<Output = ()> + use<>> {
    let analyzer = mirror.analyzer();
    let policy = mirror.policy().filter(|policy| {
        let held = mirror.read();
        differs(policy, held.state.get("confirmation_policy"))
    });
    if policy.is_none() && analyzer.is_none() {
        return None;
    }
    let (client, id) = (client.clone(), mirror.id);
    Some(async move {
        if let Some(policy) = policy
            && let Err(error) = client
                .call(&calls::SetConfirmationPolicy::new(id, policy))
                .await
        {
            warn!(conversation = %id, %error, "cannot restore the confirmation policy");
        }
        // A snapshot leaves out an analyzer that is none: it cannot tell.
        if let Some(analyzer) = analyzer
            && let Err(error) = client
                .call(&calls::SetSecurityAnalyzer::new(id, analyzer))
                .await
        {
            warn!(conversation = %id, %error, "cannot restore the security analyzer");
        }
    })
}

/// Whether a state holds another policy than this one. What this one leaves to the server's
/// defaults is not compared.
fn differs(policy: &ConfirmationPolicy, told: Option<&Json>) -> bool {
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
