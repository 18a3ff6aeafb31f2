//! A language model as the server reaches it, through LiteLLM.

use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value};

use super::secret::expose;

/// Which model to use and how (`LLM` on the server).
///
/// ```
/// use oh_protocol::config::Llm;
///
/// let llm = Llm::new("anthropic/claude-sonnet-4-5-20250929")
///     .api_key("sk-…")
///     .usage_id("agent");
/// assert!(!format!("{llm:?}").contains("sk-"));
/// ```
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Llm {
    model: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "expose")]
    api_key: Option<SecretString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_retries: Option<u32>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Llm {
    /// A model by its LiteLLM name, such as `openai/gpt-5` or
    /// `anthropic/claude-sonnet-4-5-20250929`.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            api_key: None,
            base_url: None,
            usage_id: None,
            stream: None,
            num_retries: None,
            extra: Map::new(),
        }
    }

    /// The key for the model's provider.
    pub fn api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Where the model is, if not at its provider's own address.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Under which name its cost and tokens are counted. Server's default: `default`.
    pub fn usage_id(mut self, usage_id: impl Into<String>) -> Self {
        self.usage_id = Some(usage_id.into());
        self
    }

    /// Whether answers arrive piece by piece. Server's default: no.
    pub fn stream(mut self, stream: bool) -> Self {
        self.stream = Some(stream);
        self
    }

    /// How often the server tries again when the model fails, waiting 8 to 64 s in between.
    /// Server's default: 5.
    pub fn num_retries(mut self, times: u32) -> Self {
        self.num_retries = Some(times);
        self
    }

    /// Any other field of the server's model, by its own name. A typed method of this builder
    /// wins over it.
    pub fn set(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        let field = field.into();
        let typed = [
            "model",
            "api_key",
            "base_url",
            "usage_id",
            "stream",
            "num_retries",
        ];
        if !typed.contains(&field.as_str()) {
            self.extra.insert(field, value.into());
        }
        self
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }
}
