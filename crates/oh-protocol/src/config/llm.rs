//! A language model as the server reaches it, through LiteLLM.

use super::{
    fields::{Field, Fields},
    model::model,
};
use crate::open_enum::open_enum;

open_enum! {
    /// Which endpoint of a provider is used.
    ApiMode {
        /// Whichever the model's metadata suggests.
        Auto = "auto",
        /// Chat completions.
        Chat = "chat",
        /// OpenAI's Responses.
        Responses = "responses",
    }
}

open_enum! {
    /// How much a model thinks before it answers; each provider maps it to its own scale.
    ReasoningEffort {
        /// Not at all.
        None = "none",
        /// As little as the provider offers.
        Minimal = "minimal",
        /// Little.
        Low = "low",
        /// Some.
        Medium = "medium",
        /// Much.
        High = "high",
        /// Very much.
        Xhigh = "xhigh",
        /// As much as the provider offers.
        Max = "max",
    }
}

open_enum! {
    /// How detailed summaries of a model's reasoning are.
    ReasoningSummary {
        /// As the provider thinks fit.
        Auto = "auto",
        /// Short.
        Concise = "concise",
        /// Long.
        Detailed = "detailed",
    }
}

model! {
    /// Which model to use and how (`LLM` on the server).
    ///
    /// Google's Vertex AI has no fields of its own: name a `vertex_ai/…` model, and give the
    /// server process its credentials. Amazon Bedrock (`bedrock/…`) has the `aws_…` fields.
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

    /// The key for the model's provider.
    secret api_key;
    /// A provider connection stored on the server, whose key and address are used instead of
    /// ones given here.
    text provider_connection_id;
    /// Where the model is, if not at its provider's own address.
    address base_url;
    /// The version of the provider's interface, as Azure asks for it. Server's default: none,
    /// for Azure `2024-12-01-preview`.
    text api_version;

    /// The access key of an AWS account.
    secret aws_access_key_id;
    /// Its secret half.
    secret aws_secret_access_key;
    /// The token of a temporary AWS session.
    secret aws_session_token;
    /// The AWS region, such as `eu-central-1`.
    text aws_region_name;
    /// A profile of the AWS configuration on the server's machine.
    text aws_profile_name;
    /// An AWS role to assume, by its ARN.
    text aws_role_name;
    /// The name of the session under that role.
    text aws_session_name;
    /// Another endpoint of the Bedrock runtime.
    address aws_bedrock_runtime_endpoint;

    /// The site that OpenRouter is told. Server's default: its own documentation.
    text openrouter_site_url;
    /// The application that OpenRouter is told. Server's default: `OpenHands`.
    text openrouter_app_name;

    /// How often the server tries again when the model fails. Server's default: 5.
    value num_retries: u32;
    /// By what the wait between tries grows. Server's default: 8.
    value retry_multiplier: f64 where retry_multiplier >= 0.0 => "it is at least 0";
    /// The shortest wait between tries, in seconds. Server's default: 8.
    value retry_min_wait: u32;
    /// The longest wait between tries, in seconds. Server's default: 64.
    value retry_max_wait: u32;
    /// How long one try may take, in seconds; `None` for as long as it likes. Server's default:
    /// 300.
    nullable timeout: u32;
    /// The longest silence within a streamed answer, in seconds; `None` for any. Server's
    /// default: as `timeout`.
    nullable stream_idle_timeout: f64;

    /// About how many characters of each event the model is shown. Server's default: 30 000.
    value max_message_chars: u32 where max_message_chars > 0 => "it is at least 1";
    /// How random answers are, from 0. Server's default: the provider's.
    value temperature: f64 where temperature >= 0.0 => "it is at least 0";
    /// From which share of the likeliest tokens is drawn, 0 to 1. Server's default: the
    /// provider's.
    value top_p: f64 where (0.0..=1.0).contains(&top_p) => "it is between 0 and 1";
    /// From how many of the likeliest tokens is drawn. Server's default: the provider's.
    value top_k: f64 where top_k >= 0.0 => "it is at least 0";
    /// How many tokens the model takes. Below 16 384 the server fails, unless its variable
    /// `ALLOW_SHORT_CONTEXT_WINDOWS` is `true`. Server's default: what is known of the model.
    value max_input_tokens: u32 where max_input_tokens > 0 => "it is at least 1";
    /// How many tokens an answer may have. Server's default: what is known of the model.
    value max_output_tokens: u32 where max_output_tokens > 0 => "it is at least 1";
    /// By which name the model's abilities are looked up, when `model` is an alias of a proxy.
    text model_canonical_name;
    /// Which endpoint is used. Server's default: [`ApiMode::Auto`].
    value api_mode: ApiMode;
    /// Overrides what the server believes of the model, such as `supports_vision` or
    /// `thinking_mode`: a boolean or a text. Values are not shown.
    json capability_overrides/capability_override;
    /// An HTTP header for every request to the provider. Not shown here, but the server tells it
    /// to everybody who may read the conversation.
    secrets extra_headers/extra_header;
    /// What a token costs on the way in, in US dollars. Server's default: what is known of the
    /// model.
    value input_cost_per_token: f64 where input_cost_per_token >= 0.0 => "it is at least 0";
    /// What a token costs on the way out, in US dollars. Server's default: what is known of the
    /// model.
    value output_cost_per_token: f64 where output_cost_per_token >= 0.0 => "it is at least 0";
    /// Where Ollama is.
    address ollama_base_url;

    /// Whether answers arrive piece by piece. Server's default: no.
    value stream: bool;
    /// Whether parameters that the provider does not know are left out. Server's default: yes.
    value drop_params: bool;
    /// Whether images are kept from a model that could see. Server's default: no.
    value disable_vision: bool;
    /// Whether stop words are not used. Server's default: no.
    value disable_stop_word: bool;
    /// Whether prompts are cached where the provider can. Server's default: yes.
    value caching_prompt: bool;
    /// Whether the server writes every completion to a file. Server's default: no.
    value log_completions: bool;
    /// The directory for them on the server.
    text log_completions_folder;
    /// A tokenizer for counting tokens, by its name on Hugging Face.
    text custom_tokenizer;
    /// Whether tools are called the provider's way, not by text in the prompt. Server's default:
    /// yes.
    value native_tool_calling: bool;
    /// Whether contents are sent as one text. Server's default: where the model needs it.
    value force_string_serializer: bool;
    /// Whether the server fetches images and sends them within the request. Server's default:
    /// where the model needs it.
    value inline_image_urls: bool;

    /// How much the model thinks; `None` leaves it to the provider. Server's default:
    /// [`ReasoningEffort::High`].
    nullable reasoning_effort: ReasoningEffort;
    /// How detailed summaries of its reasoning are. Server's default: none are asked for.
    value reasoning_summary: ReasoningSummary;
    /// Whether encrypted reasoning is asked for, so that it lasts between requests. Server's
    /// default: yes.
    value enable_encrypted_reasoning: bool;
    /// How long the provider keeps prompts cached, such as `24h`; `None` for its own default.
    /// Server's default: `24h`.
    nullable prompt_cache_retention: String;
    /// How many tokens Claude models of the older kind may think; `None` for none. Server's
    /// default: 200 000.
    nullable extended_thinking_budget: u32;
    /// A seed for answers that can be repeated, where the provider can.
    value seed: i64;
    /// Under which name its cost and tokens are counted. Server's default: `default`.
    text usage_id;
    /// A field for the body of every request to the provider. Values are not shown.
    json litellm_extra_body/extra_body;
}

impl Llm {
    /// A model by its LiteLLM name, such as `openai/gpt-5` or
    /// `anthropic/claude-sonnet-4-5-20250929`.
    pub fn new(model: impl Into<String>) -> Self {
        let model = model.into();
        let model = match model.trim() {
            "" => Field::refused("a model needs a name"),
            _ => model.into(),
        };
        Self {
            fields: Fields::of("Llm").with("model", model),
        }
    }

    /// Uses a subscription that the server is logged in to, instead of a key. The only vendor
    /// that servers know is `openai`.
    pub fn subscription(mut self, vendor: impl Into<String>) -> Self {
        self.fields.put("auth_type", Field::plain("subscription"));
        self.fields.put("subscription_vendor", vendor.into());
        self
    }

    /// Uses a key: what a server does unless told otherwise.
    pub fn api_key_auth(mut self) -> Self {
        self.fields.put("auth_type", Field::plain("api_key"));
        self
    }

    /// Which models, by the names of their profiles on the server, take over when this one fails
    /// for a passing reason.
    pub fn fallbacks(mut self, profiles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let profiles: Field = profiles.into_iter().map(Into::<String>::into).collect();
        self.fields
            .insert("fallback_strategy", "fallback_llms", profiles);
        self
    }

    /// In which directory of the server those profiles are. Server's default:
    /// `.openhands/profiles`.
    pub fn fallback_profile_dir(mut self, directory: impl Into<String>) -> Self {
        let directory = directory.into();
        self.fields
            .insert("fallback_strategy", "profile_store_dir", directory);
        self
    }

    /// Counts its cost and tokens under this name, unless it has one.
    pub fn usage_id_if_unset(self, id: impl Into<String>) -> Self {
        match self.fields.get("usage_id") {
            Some(_) => self,
            None => self.usage_id(id),
        }
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        self.fields.text("model").unwrap_or_default()
    }

    /// A key that can be shown to nobody, for tests of what holds one.
    #[cfg(test)]
    pub(crate) fn with_canary() -> Self {
        Self::new("m").api_key("canary")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pitfall_25_a_mask_is_refused_where_a_secret_is_expected() {
        let masked = Llm::new("m").api_key("**********");
        let request = crate::Request::new(http::Method::POST, "/x").json(&masked);
        assert_eq!(request.unwrap_err().kind(), crate::ErrorKind::Encode);
        let error = masked.check().unwrap_err().to_string();
        assert!(error.contains("api_key: the server's mask"), "{error}");
        masked.api_key("real").check().unwrap();
    }

    #[test]
    fn only_what_was_set_travels() {
        let llm = Llm::new("m")
            .timeout(None)
            .timeout(7)
            .reasoning_effort(None);
        assert_eq!(
            serde_json::to_value(llm).unwrap(),
            json!({"model": "m", "timeout": 7, "reasoning_effort": null})
        );
    }

    #[test]
    fn what_is_set_by_name_replaces_and_can_be_anything() {
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
    fn values_out_of_range_are_refused_with_their_rule() {
        for (llm, rule) in [
            (Llm::new(" "), "model: a model needs a name"),
            (Llm::new("m").top_p(1.5), "top_p: it is between 0 and 1"),
            (Llm::new("m").temperature(f64::NAN), "temperature: "),
            (
                Llm::new("m").temperature(-0.1),
                "temperature: it is at least 0",
            ),
            (
                Llm::new("m").max_output_tokens(0),
                "max_output_tokens: it is at least 1",
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
