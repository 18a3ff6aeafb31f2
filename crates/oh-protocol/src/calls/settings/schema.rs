//! Descriptions of the settings, for programs that show them as a form.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Request, calls::call};

/// The description of a group of settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SettingsSchema {
    /// The name of the server's type.
    pub model_name: String,
    /// The sections, in the order in which to show them.
    pub sections: Vec<SettingsSection>,
}

/// A section of settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SettingsSection {
    /// The name in JSON.
    pub key: String,
    /// The name for users.
    pub label: String,
    /// The settings.
    pub fields: Vec<SettingsField>,
    /// The kind of agent that has the section, `openhands` or `acp`. `None` means every kind.
    #[serde(default)]
    pub variant: Option<String>,
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SettingsField {
    /// The path in JSON, such as `llm.model`.
    pub key: String,
    /// The name for users.
    pub label: String,
    /// The description for users.
    #[serde(default)]
    pub description: Option<String>,
    /// The type: `string`, `integer`, `number`, `boolean`, `array` or `object`.
    #[serde(default)]
    pub value_type: String,
    /// The default.
    #[serde(default)]
    pub default: Value,
    /// The importance: `critical`, `major` or `minor`.
    #[serde(default)]
    pub prominence: String,
    /// The settings that must be on for this one to apply. `name=value` means that value.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Whether the value is a secret.
    #[serde(default)]
    pub secret: bool,
    /// The possible values. Empty means any.
    #[serde(default)]
    pub choices: Vec<SettingsChoice>,
    /// The kind of agent that has the setting, `openhands` or `acp`. `None` means every kind.
    #[serde(default)]
    pub variant: Option<String>,
}

/// A possible value of a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SettingsChoice {
    /// The value in JSON.
    pub value: Value,
    /// The name for users.
    pub label: String,
}

/// `GET /api/settings/agent-schema`: returns the description of the settings for agents.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct GetAgentSchema;

call!(GetAgentSchema => SettingsSchema, GET "/api/settings/agent-schema", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/api/settings/agent-schema"));
    |answer| answer.json("schema of the settings"));

/// `GET /api/settings/conversation-schema`: returns the description of the settings for
/// conversations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct GetConversationSchema;

call!(GetConversationSchema => SettingsSchema, GET "/api/settings/conversation-schema", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/api/settings/conversation-schema"));
    |answer| answer.json("schema of the settings"));
