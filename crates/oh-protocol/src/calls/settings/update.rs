//! Changes of the server's settings.

use std::fmt;

use serde_json::{Map, Value, json};

use super::Settings;
use crate::{Error, Request, Result, calls::call, config};

/// `PATCH /api/settings`: changes settings of the server, and returns all settings with masked
/// secrets. Conversations that start later use them.
///
/// Objects are merged: fields that are not given keep their values, and lists are replaced.
///
/// ```
/// use oh_protocol::{Call, calls::settings::UpdateSettings, config::Llm};
/// use serde_json::json;
///
/// let update = UpdateSettings::new()
///     .llm(Llm::new("openai/gpt-5").api_key("sk-…"))
///     .conversation(json!({"max_iterations": 200}));
/// update.request()?;
/// # Ok::<(), oh_protocol::Error>(())
/// ```
#[derive(Clone, Default, PartialEq)]
#[must_use]
pub struct UpdateSettings {
    fields: Map<String, Value>,
    llm: Option<Box<config::Llm>>,
}

const AGENT: &str = "agent_settings_diff";

impl UpdateSettings {
    /// Creates a call without changes. The server rejects a call without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the settings for agents, by their names in
    /// [`GetAgentSchema`](super::GetAgentSchema). `null` resets a field to its default.
    pub fn agent(mut self, changes: Value) -> Self {
        self.fields.insert(AGENT.to_owned(), changes);
        self
    }

    /// Changes the model for agents. Fields that are not set keep their values, including the API
    /// key: if the base URL changes, set the key too, or the new URL gets the old key. Replaces
    /// `llm` in [`agent`](Self::agent).
    pub fn llm(mut self, llm: config::Llm) -> Self {
        self.llm = Some(llm.into());
        self
    }

    /// Changes the settings for conversations, by their names in
    /// [`GetConversationSchema`](super::GetConversationSchema).
    pub fn conversation(mut self, changes: Value) -> Self {
        let name = "conversation_settings_diff".to_owned();
        self.fields.insert(name, changes);
        self
    }

    /// Changes values that the server stores for user interfaces. The server does not interpret
    /// them.
    pub fn misc(mut self, changes: Value) -> Self {
        self.fields.insert("misc_settings_diff".to_owned(), changes);
        self
    }

    /// Activates a model profile, as
    /// [`ActivateProfile`](crate::calls::profiles::ActivateProfile) does. `None` only clears the
    /// name of the active profile: the model stays.
    pub fn active_profile<'a>(self, name: impl Into<Option<&'a str>>) -> Self {
        self.pointer("active_profile", name.into())
    }

    /// Sets the active agent profile by its id. `None` clears it.
    pub fn active_agent_profile<'a>(self, id: impl Into<Option<&'a str>>) -> Self {
        self.pointer("active_agent_profile_id", id.into())
    }

    /// Sets the active meta-profile by its name. `None` clears it.
    pub fn active_meta_profile<'a>(self, name: impl Into<Option<&'a str>>) -> Self {
        self.pointer("active_meta_profile", name.into())
    }

    fn pointer(mut self, field: &str, value: Option<&str>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    fn body(&self) -> Result<Value> {
        let mut fields = self.fields.clone();
        for (name, value) in &fields {
            config::check_unmasked(name, value)?;
        }
        if let Some(llm) = &self.llm {
            llm.check()?;
            let agent = fields.entry(AGENT).or_insert_with(|| json!({}));
            let Some(agent) = agent.as_object_mut() else {
                return Err(Error::invalid(format!("{AGENT}: must be a JSON object")));
            };
            let llm = serde_json::to_value(llm);
            let llm = llm.map_err(|error| Error::encode("the model", error))?;
            agent.insert("llm".to_owned(), llm);
        }
        if fields.is_empty() {
            return Err(Error::invalid("settings: at least one field must change"));
        }
        Ok(fields.into())
    }
}

/// Shows which parts change, without values.
impl fmt::Debug for UpdateSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateSettings")
            .field("fields", &self.fields.keys().collect::<Vec<_>>())
            .field("llm", &self.llm)
            .finish()
    }
}

call!(UpdateSettings => Settings, PATCH "/api/settings", Idempotent;
    |this| Request::new(http::Method::PATCH, "/api/settings").json(&this.body()?);
    |answer| answer.json("settings"));
