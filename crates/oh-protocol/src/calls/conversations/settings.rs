//! Changes to the settings of an active conversation.
//!
//! On the server, all calls except [`SwitchLlm`] wait until a running tool has finished.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::call;
use crate::{
    ConversationId, Request, Result,
    config::{ConfirmationPolicy, Llm, SecretSource, SecurityAnalyzer},
};

fn target(conversation: ConversationId, what: &str) -> Request {
    Request::new(
        http::Method::POST,
        format!("/api/conversations/{conversation}/{what}"),
    )
}

/// `POST …/confirmation_policy`: sets the confirmation policy. The change is not stored: the server
/// returns to the initial policy after a restart, or after it has evicted the conversation. Forks
/// do not inherit the change.
#[derive(Debug, Clone, PartialEq)]
pub struct SetConfirmationPolicy(ConversationId, ConfirmationPolicy);

impl SetConfirmationPolicy {
    /// Creates a call that sets this policy.
    pub fn new(conversation: ConversationId, policy: ConfirmationPolicy) -> Self {
        Self(conversation, policy)
    }
}

call!(SetConfirmationPolicy => (), POST "/api/conversations/{conversation_id}/confirmation_policy",
    Idempotent;
|this| {
    this.1.check()?;
    target(this.0, "confirmation_policy").json(&json!({ "policy": this.1 }))
};
|answer| answer.done("response"));

/// `POST …/security_analyzer`: sets or removes the security analyzer.
#[derive(Debug, Clone, PartialEq)]
pub struct SetSecurityAnalyzer(ConversationId, Option<SecurityAnalyzer>);

impl SetSecurityAnalyzer {
    /// Creates a call that sets this analyzer. `None` removes it.
    pub fn new(conversation: ConversationId, analyzer: Option<SecurityAnalyzer>) -> Self {
        Self(conversation, analyzer)
    }
}

call!(SetSecurityAnalyzer => (), POST "/api/conversations/{conversation_id}/security_analyzer",
    Idempotent;
|this| {
    this.1.as_ref().map_or(Ok(()), SecurityAnalyzer::check)?;
    target(this.0, "security_analyzer").json(&json!({ "security_analyzer": this.1 }))
};
|answer| answer.done("response"));

/// `POST …/secrets`: adds environment variables for the agent's commands. The server masks their
/// values in its log. Existing secrets are kept.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct SetSecrets(ConversationId, BTreeMap<String, SecretSource>);

impl SetSecrets {
    /// Creates a call without secrets.
    pub fn new(conversation: ConversationId) -> Self {
        Self(conversation, BTreeMap::new())
    }

    /// Adds a secret.
    pub fn secret(mut self, name: impl Into<String>, source: SecretSource) -> Self {
        self.1.insert(name.into(), source);
        self
    }

    fn check(&self) -> Result<()> {
        for (name, source) in &self.1 {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !begins || !name.chars().all(fits) {
                let what =
                    format!("secret `{name}`: the name must be a valid environment variable name");
                return Err(crate::Error::invalid(what));
            }
            source.check()?;
        }
        Ok(())
    }
}

call!(SetSecrets => (), POST "/api/conversations/{conversation_id}/secrets", Idempotent;
|this| {
    this.check()?;
    target(this.0, "secrets").json(&json!({ "secrets": this.1 }))
};
|answer| answer.done("response"));

/// `POST …/switch_llm`: switches the agent to another model, even during a run.
#[derive(Debug, Clone, PartialEq)]
pub struct SwitchLlm(ConversationId, Box<Llm>);

impl SwitchLlm {
    /// Creates a call that switches to this model.
    pub fn new(conversation: ConversationId, llm: Llm) -> Self {
        Self(conversation, Box::new(llm))
    }
}

call!(SwitchLlm => (), POST "/api/conversations/{conversation_id}/switch_llm", Idempotent;
|this| {
    this.1.check()?;
    target(this.0, "switch_llm").json(&json!({ "llm": this.1 }))
};
|answer| answer.done("response"));

/// Declares a call with one string in its body.
macro_rules! text_call {
    (
        $(#[$meta:meta])* $name:ident, $what:literal, $field:literal,
        $method:ident $route:literal, $repeat:ident
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name(ConversationId, String);

        impl $name {
            /// Creates a call for this conversation.
            pub fn new(conversation: ConversationId, value: impl Into<String>) -> Self {
                Self(conversation, value.into())
            }
        }

        call!($name => (), $method $route, $repeat;
            |this| target(this.0, $what).json(&json!({ $field: this.1 }));
            |answer| answer.done("response"));
    };
}

text_call!(
    /// `POST …/switch_profile`: switches the agent to the model of a stored profile. Returns 404 if
    /// the profile does not exist.
    SwitchProfile, "switch_profile", "profile_name",
    POST "/api/conversations/{conversation_id}/switch_profile", Idempotent
);
text_call!(
    /// `POST …/switch_acp_model`: switches an ACP agent to another of its models. Returns 400 for
    /// other kinds of agents.
    SwitchAcpModel, "switch_acp_model", "model",
    POST "/api/conversations/{conversation_id}/switch_acp_model", Idempotent
);
text_call!(
    /// `POST …/load_plugin`: loads a plugin, given as `name@marketplace` or by its source.
    LoadPlugin, "load_plugin", "plugin_ref",
    POST "/api/conversations/{conversation_id}/load_plugin", Idempotent
);
