//! Language models, which the server calls through LiteLLM.

use super::{
    fields::{Field, Fields},
    model::model,
};
use crate::json::open_enum::open_enum;

open_enum! {
    /// The API endpoint of a provider.
    ApiMode {
        /// Chosen by the model's metadata.
        Auto = "auto",
        /// The chat completions API.
        Chat = "chat",
        /// OpenAI's Responses API.
        Responses = "responses",
    }
}

open_enum! {
    /// The reasoning effort of a model. Each provider maps the value to its own scale.
    ReasoningEffort {
        /// No reasoning.
        None = "none",
        /// The least effort that the provider offers.
        Minimal = "minimal",
        /// Low reasoning effort.
        Low = "low",
        /// Medium reasoning effort.
        Medium = "medium",
        /// High reasoning effort.
        High = "high",
        /// Very high reasoning effort.
        Xhigh = "xhigh",
        /// The most effort that the provider offers.
        Max = "max",
    }
}

open_enum! {
    /// The level of detail in summaries of a model's reasoning.
    ReasoningSummary {
        /// Chosen by the provider.
        Auto = "auto",
        /// Short summaries.
        Concise = "concise",
        /// Long summaries.
        Detailed = "detailed",
    }
}

// Constructors come before the setters, also in the documentation.
impl Llm {
    /// Creates a configuration for a model by its LiteLLM name, such as `openai/gpt-5` or
    /// `anthropic/claude-sonnet-4-5-20250929`.
    pub fn new(model: impl Into<String>) -> Self {
        let model = model.into();
        let model = match model.trim() {
            "" => Field::refused("the model name must not be empty"),
            _ => model.into(),
        };
        Self {
            fields: Fields::of("Llm").with("model", model),
        }
    }
}

model! {
    /// A model and its options (`LLM` on the server).
    ///
    /// Google Vertex AI has no separate fields: use a `vertex_ai/…` model and set the credentials
    /// for the server process. Amazon Bedrock (`bedrock/…`) uses the `aws_…` fields.
    ///
    /// ```
    /// use oh_protocol::config::Llm;
    ///
    /// let llm = Llm::new("anthropic/claude-sonnet-4-5-20250929")
    ///     .api_key("sk-…")
    ///     .usage_id("agent");
    /// assert!(!format!("{llm:?}").contains("sk-"));
    /// ```
    pub struct Llm;
    by_hand: ["model", "auth_type", "subscription_vendor", "fallback_strategy"];

    /// Sets the API key for the provider.
    secret api_key;
    /// Sets a provider connection that is stored on the server. Its key and URL replace those in
    /// this configuration.
    text provider_connection_id;
    /// Sets the base URL of the model, if it differs from the provider's default.
    address base_url;
    /// Sets the API version, as required by Azure. Server default: none, or `2024-12-01-preview`
    /// for Azure.
    text api_version;

    /// Sets the access key id of an AWS account.
    secret aws_access_key_id;
    /// Sets the secret access key of an AWS account.
    secret aws_secret_access_key;
    /// Sets the token of a temporary AWS session.
    secret aws_session_token;
    /// Sets the AWS region, such as `eu-central-1`.
    text aws_region_name;
    /// Sets the AWS configuration profile on the server's machine.
    text aws_profile_name;
    /// Sets the ARN of the AWS role to assume.
    text aws_role_name;
    /// Sets the session name for the assumed role.
    text aws_session_name;
    /// Sets a custom endpoint for the Bedrock runtime.
    address aws_bedrock_runtime_endpoint;

    /// Sets the site URL that is sent to OpenRouter. Server default: the URL of the OpenHands
    /// documentation.
    text openrouter_site_url;
    /// Sets the application name that is sent to OpenRouter. Server default: `OpenHands`.
    text openrouter_app_name;

    /// Sets how often the server retries a failed model call. Server default: 5.
    value num_retries: u32;
    /// Sets the factor by which the delay between retries grows. Server default: 8.
    value retry_multiplier: f64 where retry_multiplier >= 0.0 => "must be at least 0";
    /// Sets the minimum delay between retries, rounded up to whole seconds. Server default: 8 s.
    whole_seconds retry_min_wait;
    /// Sets the maximum delay between retries, rounded up to whole seconds. Server default: 64 s.
    whole_seconds retry_max_wait;
    /// Sets the timeout of one attempt, rounded up to whole seconds. `None` disables the timeout.
    /// Server default: 300 s.
    nullable_whole_seconds timeout;
    /// Sets the maximum time without data in a streamed response. `None` disables the limit. Server
    /// default: the value of `timeout`.
    nullable_seconds stream_idle_timeout;

    /// Sets the approximate number of characters of each event that are sent to the model. Server
    /// default: 30 000.
    value max_message_chars: u32 where max_message_chars > 0 => "must be at least 1";
    /// Sets the sampling temperature, at least 0. Server default: the provider's default.
    value temperature: f64 where temperature >= 0.0 => "must be at least 0";
    /// Sets the nucleus sampling threshold, from 0 to 1. Server default: the provider's default.
    value top_p: f64 where (0.0..=1.0).contains(&top_p) => "must be between 0 and 1";
    /// Sets the number of most likely tokens to sample from. Server default: the provider's
    /// default.
    value top_k: f64 where top_k >= 0.0 => "must be at least 0";
    /// Sets the size of the model's input context, in tokens. The server fails below 16 384 unless
    /// its variable `ALLOW_SHORT_CONTEXT_WINDOWS` is `true`. Server default: the model's metadata.
    value max_input_tokens: u32 where max_input_tokens > 0 => "must be at least 1";
    /// Sets the maximum number of tokens in a response. Server default: the model's metadata.
    value max_output_tokens: u32 where max_output_tokens > 0 => "must be at least 1";
    /// Sets the name that is used to look up the model's capabilities, if `model` is an alias of a
    /// proxy.
    text model_canonical_name;
    /// Sets the API endpoint. Server default: [`ApiMode::Auto`].
    value api_mode: ApiMode;
    /// Overrides one of the model's capabilities, such as `supports_vision` or `thinking_mode`,
    /// with a boolean or a string. Values are not shown.
    json capability_overrides/capability_override;
    /// Adds an HTTP header for every request to the provider. This crate does not show the value,
    /// but the server returns it to everyone who may read the conversation.
    secrets extra_headers/extra_header;
    /// Sets the price of an input token, in US dollars. Server default: the model's metadata.
    value input_cost_per_token: f64 where input_cost_per_token >= 0.0 => "must be at least 0";
    /// Sets the price of an output token, in US dollars. Server default: the model's metadata.
    value output_cost_per_token: f64 where output_cost_per_token >= 0.0 => "must be at least 0";
    /// Sets the URL of Ollama.
    address ollama_base_url;

    /// Sets whether responses are streamed. Server default: false.
    value stream: bool;
    /// Sets whether parameters that the provider does not support are omitted. Server default:
    /// true.
    value drop_params: bool;
    /// Sets whether images are withheld from a model that supports vision. Server default: false.
    value disable_vision: bool;
    /// Sets whether stop words are disabled. Server default: false.
    value disable_stop_word: bool;
    /// Sets whether prompts are cached, if the provider supports it. Server default: true.
    value caching_prompt: bool;
    /// Sets whether the server writes every completion to a file. Server default: false.
    value log_completions: bool;
    /// Sets the directory on the server for these files.
    text log_completions_folder;
    /// Sets the tokenizer for counting tokens, by its name on Hugging Face.
    text custom_tokenizer;
    /// Sets whether the provider's native tool calling is used instead of text in the prompt.
    /// Server default: true.
    value native_tool_calling: bool;
    /// Sets whether message content is sent as a single string. Server default: if the model needs
    /// it.
    value force_string_serializer: bool;
    /// Sets whether the server downloads images and embeds them in the request. Server default: if
    /// the model needs it.
    value inline_image_urls: bool;

    /// Sets the reasoning effort. `None` leaves the choice to the provider. Server default:
    /// [`ReasoningEffort::High`].
    nullable reasoning_effort: ReasoningEffort;
    /// Sets the level of detail in summaries of the model's reasoning. Server default: no
    /// summaries.
    value reasoning_summary: ReasoningSummary;
    /// Sets whether encrypted reasoning is requested, which preserves it between requests. Server
    /// default: true.
    value enable_encrypted_reasoning: bool;
    /// Sets how long the provider keeps prompts in its cache, such as `24h`. `None` uses the
    /// provider's default. Server default: `24h`.
    nullable prompt_cache_retention: String;
    /// Sets the maximum number of thinking tokens for older Claude models. `None` disables
    /// thinking. Server default: 200 000.
    nullable extended_thinking_budget: u32;
    /// Sets a seed for reproducible responses, if the provider supports it.
    value seed: i64;
    /// Sets the name under which cost and tokens are counted. Server default: `default`.
    text usage_id;
    /// Adds a field to the body of every request to the provider. Values are not shown.
    json litellm_extra_body/extra_body;
}

impl Llm {
    /// Uses a subscription that the server is logged in to, instead of an API key. Servers support
    /// only the vendor `openai`.
    pub fn subscription(mut self, vendor: impl Into<String>) -> Self {
        self.fields.put("auth_type", Field::plain("subscription"));
        self.fields.put("subscription_vendor", vendor.into());
        self
    }

    /// Uses an API key, which is the server default.
    pub fn api_key_auth(mut self) -> Self {
        self.fields.put("auth_type", Field::plain("api_key"));
        self
    }

    /// Sets the fallback models for transient failures, by the names of their profiles on the
    /// server.
    pub fn fallbacks(mut self, profiles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let profiles: Field = profiles.into_iter().map(Into::<String>::into).collect();
        self.fields
            .insert("fallback_strategy", "fallback_llms", profiles);
        self
    }

    /// Sets the directory of these profiles on the server. Server default: `.openhands/profiles`.
    pub fn fallback_profile_dir(mut self, directory: impl Into<String>) -> Self {
        let directory = directory.into();
        self.fields
            .insert("fallback_strategy", "profile_store_dir", directory);
        self
    }

    /// Sets the usage id if none is set.
    pub fn usage_id_if_unset(self, id: impl Into<String>) -> Self {
        match self.fields.get("usage_id") {
            Some(_) => self,
            None => self.usage_id(id),
        }
    }

    /// Returns the name of the model.
    pub fn model(&self) -> &str {
        self.fields.text("model").unwrap_or_default()
    }

    /// Returns a configuration with a key that must not be displayed, for tests of types that
    /// contain one.
    #[cfg(test)]
    pub(crate) fn with_canary() -> Self {
        Self::new("m").api_key("canary")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn pitfall_25_a_mask_is_rejected_as_a_secret() {
        let masked = Llm::new("m").api_key("**********");
        let request = crate::Request::new(http::Method::POST, "/x").json(&masked);
        assert_eq!(request.unwrap_err().kind(), crate::ErrorKind::Encode);
        let error = masked.check().unwrap_err().to_string();
        assert!(error.contains("api_key: the server's mask"), "{error}");
        masked.api_key("real").check().unwrap();
    }

    #[test]
    fn only_fields_that_were_set_are_sent() {
        let llm = Llm::new("m")
            .timeout(None)
            .timeout(Duration::from_millis(6_001))
            .retry_max_wait(Duration::from_secs(9))
            .stream_idle_timeout(Duration::from_millis(500))
            .reasoning_effort(None);
        assert_eq!(
            serde_json::to_value(llm).unwrap(),
            json!({"model": "m", "timeout": 7, "retry_max_wait": 9, "stream_idle_timeout": 0.5,
                "reasoning_effort": null})
        );
    }

    #[test]
    fn fields_set_by_name_replace_typed_fields_without_checks() {
        let llm = Llm::new("m")
            .stream(true)
            .set("stream", "later")
            .set("new", 1);
        assert_eq!(
            serde_json::to_value(llm).unwrap(),
            json!({"model": "m", "stream": "later", "new": 1})
        );
    }

    #[test]
    fn values_out_of_range_are_rejected_with_their_rule() {
        for (llm, rule) in [
            (Llm::new(" "), "model: the model name must not be empty"),
            (Llm::new("m").top_p(1.5), "top_p: must be between 0 and 1"),
            (Llm::new("m").temperature(f64::NAN), "temperature: "),
            (
                Llm::new("m").temperature(-0.1),
                "temperature: must be at least 0",
            ),
            (
                Llm::new("m").max_output_tokens(0),
                "max_output_tokens: must be at least 1",
            ),
            (
                Llm::new("m").set("future_key", "**********"),
                "future_key: the server's mask",
            ),
        ] {
            let error = llm.check().unwrap_err().to_string();
            assert!(error.starts_with(rule), "{error}");
        }
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let llm = Llm::with_canary()
            .aws_access_key_id("canary")
            .aws_secret_access_key("canary")
            .aws_session_token("canary")
            .extra_header("authorization", "canary")
            .base_url("https://user:canary@host/v1?key=canary")
            .extra_body("key", "canary")
            .set("future_key", "canary");
        let shown = format!("{llm:?} {llm:#?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("authorization"), "{shown}");
    }
}
