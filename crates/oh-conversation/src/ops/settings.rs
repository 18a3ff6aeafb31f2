//! Changing the settings of an existing conversation: policies, tags, models, plugins.

use oh_protocol::{
    Call, ConversationId,
    calls::conversations as calls,
    config::{ConfirmationPolicy, Llm, SecurityAnalyzer},
};
use oh_transport::ErrorKind as Wire;
use tokio::sync::OwnedMutexGuard;

use crate::{
    Conversation, Error, Request, Result,
    link::restore::is_settled,
    lock::lock,
    mirror::restored::{Chosen, Set},
    run::turn,
};

/// Servers before this version keep the first model under each usage id.
const MODELS_REPLACED: (u32, u32, u32) = (1, 56, 0);

/// The settings of a conversation: see [`Conversation::settings`].
///
/// ```no_run
/// # async fn change(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
/// use oh_protocol::config::Llm;
///
/// let settings = conversation.settings();
/// settings.set_tags([("team", "web")]).await?;
/// settings.switch_llm(Llm::new("openai/gpt-5-nano").api_key("sk-…")).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Settings {
    conversation: Conversation,
}

impl Conversation {
    /// Returns the settings: tags, models, plugins, and the analyzer of risks.
    pub fn settings(&self) -> Settings {
        Settings {
            conversation: self.clone(),
        }
    }
}

impl Settings {
    /// Sets or removes the analyzer that assesses the risk of actions (`POST …/security_analyzer`).
    /// As with a [confirmation policy](crate::Approvals::set_policy), the server loses the analyzer
    /// when it loads the conversation again, and the handles of this process set it again after
    /// every reconnect.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails. If the server rejects the analyzer, the client keeps
    /// setting the previous one.
    pub fn set_security_analyzer(&self, analyzer: Option<SecurityAnalyzer>) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            let id = this.conversation.id();
            let call = calls::SetSecurityAnalyzer::new(id, analyzer.clone());
            let change = |set: &mut Set, since| {
                let value = analyzer;
                set.analyzer = Some(Chosen { value, since });
            };
            let what = "set the security analyzer";
            this.conversation
                .set_again_later(what, call, change, None)
                .await
        })
    }

    /// Replaces all tags: keys consist of `a-z` and `0-9`, values of at most 256 characters
    /// (`PATCH /api/conversations/{conversation_id}`).
    ///
    /// # Errors
    ///
    /// Returns an error if a tag violates these rules, or the request fails.
    pub fn set_tags<K: Into<String>, V: Into<String>>(
        &self,
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Request<()> {
        let tags = tags.into_iter();
        let tags = tags
            .map(|(key, value)| (key.into(), value.into()))
            .collect();

        let this = self.clone();
        Request::new(async move {
            let call = calls::Update::tags(this.conversation.id(), tags);
            this.conversation.call("set tags", &call).await
        })
    }

    /// Switches to another model, even during a run (`POST …/switch_llm`).
    ///
    /// The model's usage is counted under its [`usage_id`](Llm::usage_id). Servers before 1.56
    /// silently keep the model that they already have under that id. For those servers, a model
    /// without an id gets a new one; a model with an id needs one that the conversation has not
    /// used.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn switch_llm(&self, mut llm: Llm) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            if this.conversation.is_before(MODELS_REPLACED).await? {
                let random = ConversationId::random().to_string();
                llm = llm.usage_id_if_unset(format!("switched-{random:.8}"));
            }
            let call = calls::SwitchLlm::new(this.conversation.id(), llm);
            this.conversation.call("switch the model", &call).await
        })
    }

    /// Switches to the model of a profile that is stored on the server (`POST …/switch_profile`).
    /// Older servers (1.43) look only in `~/.openhands`, even if they store profiles elsewhere.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such profile.
    pub fn switch_profile(&self, profile: impl Into<String>) -> Request<()> {
        let profile = profile.into();
        let this = self.clone();
        Request::new(async move {
            let call = calls::SwitchProfile::new(this.conversation.id(), profile);
            this.conversation
                .call_naming("switch the profile", &call)
                .await
        })
    }

    /// Switches to another model of an ACP agent (`POST …/switch_acp_model`).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Validation`](crate::ErrorKind::Validation) if the agent is not an ACP
    /// agent, or does not have the model.
    pub fn switch_acp_model(&self, model: impl Into<String>) -> Request<()> {
        let model = model.into();
        let this = self.clone();
        Request::new(async move {
            let call = calls::SwitchAcpModel::new(this.conversation.id(), model);
            this.conversation
                .call("switch the agent's model", &call)
                .await
        })
    }

    /// Loads a plugin from the agent's marketplaces, named as `name@marketplace` or `name`
    /// (`POST …/load_plugin`).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no plugin with this
    /// name, [`ErrorKind::Validation`](crate::ErrorKind::Validation) if the plugin cannot be
    /// fetched or the name is ambiguous.
    pub fn load_plugin(&self, plugin: impl Into<String>) -> Request<()> {
        let plugin = plugin.into();
        let this = self.clone();
        Request::new(async move {
            let call = calls::LoadPlugin::new(this.conversation.id(), plugin);
            this.conversation.call_naming("load a plugin", &call).await
        })
    }
}

impl Conversation {
    pub(crate) async fn set_policy(&self, policy: ConfirmationPolicy) -> Result<()> {
        self.set_policy_in(None, policy).await
    }

    /// Sets a policy. The lock ends with the response.
    pub(crate) async fn set_policy_in(
        &self,
        no_goal: Option<OwnedMutexGuard<()>>,
        policy: ConfirmationPolicy,
    ) -> Result<()> {
        let call = calls::SetConfirmationPolicy::new(self.id(), policy.clone());
        let change = |set: &mut Set, since| {
            let value = policy;
            set.policy = Some(Chosen { value, since });
        };
        self.set_again_later("set the confirmation policy", call, change, no_goal)
            .await
    }

    /// Sends a setting, and remembers it so that it is set again when the server may have lost it.
    /// If the caller no longer waits for the response, later settings still do.
    async fn set_again_later<C>(
        &self,
        what: &str,
        call: C,
        change: impl FnOnce(&mut Set, usize),
        no_goal: Option<OwnedMutexGuard<()>>,
    ) -> Result<()>
    where
        C: Call<Output = ()> + 'static,
    {
        let mirror = self.shared_mirror();
        // A setting that is being set again must not override this one.
        let turn = mirror.answered.restored.turn.clone().lock_owned().await;
        let settled = is_settled(&mirror);
        let (connection, since) = {
            let held = mirror.read();
            (held.connection, held.log.end())
        };
        let (before, version) = {
            let mut set = mirror.answered.restored.lock();
            let before = set.clone();
            change(&mut set, since);
            // Until the server has confirmed it, each run sets it again first; over another link,
            // also after that.
            set.version += 1;
            (before, set.version)
        };
        let client = self.client().clone();
        let mut sent = tokio::spawn(async move {
            let answer = client.call(&call).single_attempt().await;
            match &answer {
                Ok(()) if settled => *lock(&mirror.settled) = (version, connection),
                Err(error) if is_refusal(error) => *mirror.answered.restored.lock() = before,
                _ => {}
            }
            drop((turn, no_goal));
            answer
        });
        match turn::answer(&mut sent).await {
            // Another program may have changed the setting since, so the request is not repeated
            // blindly.
            Err(error) if error.is_transient() => match self.restore_soon().await {
                Ok(()) => Ok(()),
                Err(_) => Err(Error::transport(self.id(), what, error)),
            },
            answer => answer.map_err(|error| Error::transport(self.id(), what, error)),
        }
    }
}

/// Returns whether the server responded and rejected the request.
fn is_refusal(error: &oh_transport::Error) -> bool {
    matches!(
        error.kind(),
        Wire::InvalidInput
            | Wire::Validation
            | Wire::Unauthorized
            | Wire::Unsupported
            | Wire::Conflict
    )
}
