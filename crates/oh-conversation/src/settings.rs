//! Changing what a conversation works with while it lives: policies, secrets, tags, models. Knows
//! no events.

use std::collections::BTreeMap;

use oh_protocol::{
    Json,
    calls::conversations::{self as calls, SetSecrets},
    config::{ConfirmationPolicy, Llm, SecretSource, SecurityAnalyzer},
};
use secrecy::SecretString;

use crate::{Conversation, Result};

impl Conversation {
    /// Sets when the agent must ask. The server forgets it when it restarts or has evicted the
    /// conversation, and falls back on what the conversation was started with: this handle tells
    /// it again after every reconnection. Forks do not inherit it.
    ///
    /// Waits for a running tool to end, on the server.
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

    /// Sets what judges the risk of actions, or nothing. The server keeps it no longer than a
    /// confirmation policy.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn set_security_analyzer(&self, analyzer: Option<SecurityAnalyzer>) -> Result<()> {
        let call = calls::SetSecurityAnalyzer::new(self.id(), analyzer);
        self.call("set the security analyzer", &call).await
    }

    /// Gives the agent secrets, as environment variables of its commands. The server masks their
    /// values in what it logs. The names are visible, the values are not. Forks do not inherit
    /// them.
    ///
    /// # Errors
    ///
    /// When a name is no environment variable’s, a value is a mask, or the server refuses.
    pub async fn set_secrets<N, S>(&self, secrets: impl IntoIterator<Item = (N, S)>) -> Result<()>
    where
        N: Into<String>,
        S: Into<SecretString>,
    {
        let fixed = secrets
            .into_iter()
            .map(|(name, value)| (name, SecretSource::fixed(value)));
        self.set_secret_sources(fixed).await
    }

    /// The same for secrets that the server looks up where they are kept: their values never pass
    /// through this program.
    ///
    /// # Errors
    ///
    /// When a name is no environment variable’s, a value is a mask, or the server refuses.
    pub async fn set_secret_sources<N: Into<String>>(
        &self,
        secrets: impl IntoIterator<Item = (N, SecretSource)>,
    ) -> Result<()> {
        let call = secrets
            .into_iter()
            .fold(SetSecrets::new(self.id()), |call, (name, source)| {
                call.secret(name, source)
            });
        self.call("set secrets", &call).await
    }

    /// Replaces all tags: keys of `a-z` and `0-9`, values of at most 256 characters.
    ///
    /// # Errors
    ///
    /// When a tag breaks these rules, or the server refuses or cannot be asked.
    pub async fn set_tags(&self, tags: &BTreeMap<String, String>) -> Result<()> {
        let call = calls::Update::tags(self.id(), tags.clone());
        self.call("set tags", &call).await
    }

    /// Sets the title, 1 to 200 characters.
    ///
    /// # Errors
    ///
    /// When it is too long, or the server refuses or cannot be asked.
    pub async fn set_title(&self, title: &str) -> Result<()> {
        let call = calls::Update::title(self.id(), title);
        self.call("set the title", &call).await
    }

    /// Uses another model from now on, even within a run.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn switch_llm(&self, llm: Llm) -> Result<()> {
        let call = calls::SwitchLlm::new(self.id(), llm);
        self.call("switch the model", &call).await
    }

    /// Uses the model of a profile that the server keeps.
    ///
    /// # Errors
    ///
    /// When there is no such profile, or the server cannot be asked.
    pub async fn switch_profile(&self, profile: impl Into<String>) -> Result<()> {
        let call = calls::SwitchProfile::new(self.id(), profile);
        self.call("switch the profile", &call).await
    }

    /// Uses another model of an agent that speaks ACP.
    ///
    /// # Errors
    ///
    /// When the agent is of another kind or does not have the model, or the server cannot be
    /// asked.
    pub async fn switch_acp_model(&self, model: impl Into<String>) -> Result<()> {
        let call = calls::SwitchAcpModel::new(self.id(), model);
        self.call("switch the agent's model", &call).await
    }

    /// Loads a plugin, named as `name@marketplace` or by its source.
    ///
    /// # Errors
    ///
    /// When the server does not find it, or cannot be asked.
    pub async fn load_plugin(&self, plugin: impl Into<String>) -> Result<()> {
        let call = calls::LoadPlugin::new(self.id(), plugin);
        self.call("load a plugin", &call).await
    }
}

/// Whether a state holds another policy than this one.
pub(crate) fn differs(policy: &ConfirmationPolicy, told: Option<&Json>) -> bool {
    let wire = serde_json::to_value(policy).unwrap_or_default();
    told.is_some_and(|told| told.to_value()["kind"] != wire["kind"])
}
