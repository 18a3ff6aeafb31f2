//! Changing a conversation while it lives: policies, secrets, tags. Knows no events.

use std::collections::BTreeMap;

use http::Method;
use oh_protocol::{Answer, Call, ConversationId, Json, Operation, Repeat, Request};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::{Conversation, Error, ErrorKind, Result};

/// What the server shows in place of a secret. Sent back, it would destroy the real one.
const MASK: &str = "**********";

/// When the agent must ask before it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfirmationPolicy {
    /// Never.
    Never,
    /// Before every action.
    Always,
    /// Before actions judged to be of high risk, or not judged at all.
    Risky,
}

impl ConfirmationPolicy {
    fn wire(self) -> Value {
        match self {
            Self::Never => json!({ "kind": "NeverConfirm" }),
            Self::Always => json!({ "kind": "AlwaysConfirm" }),
            Self::Risky => {
                json!({ "kind": "ConfirmRisky", "threshold": "HIGH", "confirm_unknown": true })
            }
        }
    }
}

/// A `POST` or `PATCH` below a conversation whose answer says nothing.
struct Change {
    id: ConversationId,
    method: Method,
    route: &'static str,
    body: Value,
}

impl Call for Change {
    type Output = ();

    fn operation(&self) -> Operation {
        Operation::new(self.method.clone(), self.route, Repeat::Idempotent)
    }

    fn request(&self) -> oh_protocol::Result<Request> {
        let target = self
            .route
            .replace("{conversation_id}", &self.id.to_string());
        Request::new(self.method.clone(), target).json(&self.body)
    }

    fn decode(&self, _answer: Answer) -> oh_protocol::Result<()> {
        Ok(())
    }
}

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
        let id = self.id();
        self.call("set the confirmation policy", &confirmation(id, policy))
            .await?;
        self.mirror().remember_policy(policy);
        Ok(())
    }

    /// Gives the agent secrets, as environment variables of its commands. The server masks their
    /// values in what it logs. The names are visible, the values are not.
    ///
    /// # Errors
    ///
    /// When a name is no environment variable’s, a value is a mask, or the server refuses.
    pub async fn set_secrets<N, S>(&self, secrets: impl IntoIterator<Item = (N, S)>) -> Result<()>
    where
        N: Into<String>,
        S: Into<SecretString>,
    {
        let mut wire = Map::new();
        for (name, value) in secrets {
            let (name, value) = (name.into(), value.into());
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty()
                || name.starts_with(|c: char| c.is_ascii_digit())
                || !name.chars().all(fits)
            {
                let what = format!("`{name}` is no name of an environment variable");
                return Err(Error::new(ErrorKind::InvalidInput, self.id(), what));
            }
            if value.expose_secret() == MASK {
                let what = format!("the value of `{name}` is a mask, not a secret");
                return Err(Error::new(ErrorKind::InvalidInput, self.id(), what));
            }
            wire.insert(name, value.expose_secret().into());
        }
        let change = Change {
            id: self.id(),
            method: Method::POST,
            route: "/api/conversations/{conversation_id}/secrets",
            body: json!({ "secrets": wire }),
        };
        self.call("set secrets", &change).await
    }

    /// Replaces all tags: keys of `a-z` and `0-9`, values of at most 256 characters.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn set_tags(&self, tags: &BTreeMap<String, String>) -> Result<()> {
        let change = Change {
            id: self.id(),
            method: Method::PATCH,
            route: "/api/conversations/{conversation_id}",
            body: json!({ "tags": tags }),
        };
        self.call("set tags", &change).await
    }
}

/// The call that sets a policy; the watcher repeats it where the server forgot.
pub(crate) fn confirmation(
    id: ConversationId,
    policy: ConfirmationPolicy,
) -> impl Call<Output = ()> {
    Change {
        id,
        method: Method::POST,
        route: "/api/conversations/{conversation_id}/confirmation_policy",
        body: json!({ "policy": policy.wire() }),
    }
}

/// Whether a state holds another policy than this one.
pub(crate) fn differs(policy: ConfirmationPolicy, told: Option<&Json>) -> bool {
    told.is_some_and(|told| told.to_value()["kind"] != policy.wire()["kind"])
}
