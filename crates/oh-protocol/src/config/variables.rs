//! Models that are configured by environment variables.

use std::ffi::OsString;

use serde_json::{Map, Value};

use super::Llm;
use crate::{Error, Result};

/// Fields with a number. Times are seconds.
const NUMBERS: [&str; 16] = [
    "num_retries",
    "retry_multiplier",
    "retry_min_wait",
    "retry_max_wait",
    "timeout",
    "stream_idle_timeout",
    "max_message_chars",
    "temperature",
    "top_p",
    "top_k",
    "max_input_tokens",
    "max_output_tokens",
    "input_cost_per_token",
    "output_cost_per_token",
    "extended_thinking_budget",
    "seed",
];
const FLAGS: [&str; 10] = [
    "stream",
    "drop_params",
    "disable_vision",
    "disable_stop_word",
    "caching_prompt",
    "log_completions",
    "native_tool_calling",
    "force_string_serializer",
    "inline_image_urls",
    "enable_encrypted_reasoning",
];
/// Fields with a JSON object.
const OBJECTS: [&str; 4] = [
    "capability_overrides",
    "extra_headers",
    "litellm_extra_body",
    "fallback_strategy",
];

impl Llm {
    /// Creates a configuration from the environment variables of this process. Each variable is
    /// the prefix and the name of a field in upper case: with the prefix `LLM_`, `LLM_MODEL` is the
    /// name of the model, `LLM_API_KEY` the key and `LLM_TIMEOUT` the timeout in seconds.
    ///
    /// Boolean fields accept `true`, `1`, `yes`, `on` and their opposites. Fields with several
    /// values, such as `LLM_EXTRA_HEADERS`, are JSON objects. An empty variable counts as unset.
    /// Variables of other names are ignored, among them `LLM_…` variables that are not fields of
    /// [`FIELDS`](Self::FIELDS).
    ///
    /// No other variable is read: a key in `OPENAI_API_KEY` or `ANTHROPIC_API_KEY` is sent only if
    /// the program passes it to [`api_key`](Self::api_key).
    ///
    /// ```no_run
    /// # fn main() -> oh_protocol::Result<()> {
    /// use oh_protocol::config::Llm;
    ///
    /// let llm = Llm::from_env("LLM_")?.usage_id("agent");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if there is no model, or a value
    /// does not have the type of its field. The error does not contain the value.
    pub fn from_env(prefix: &str) -> Result<Self> {
        Self::from_variables(prefix, None, |name| std::env::var_os(name))
    }

    /// Creates a configuration like [`from_env`](Self::from_env), but of this model: the variable
    /// of the model is not read.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](crate::ErrorKind::InvalidInput) if a value does not have the type
    /// of its field, or the model is empty.
    pub fn from_env_with_model(prefix: &str, model: impl Into<String>) -> Result<Self> {
        Self::from_variables(prefix, Some(model.into()), |name| std::env::var_os(name))
    }

    fn from_variables(
        prefix: &str,
        model: Option<String>,
        read: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self> {
        let mut fields = Map::new();
        for field in Self::FIELDS {
            let name = format!("{prefix}{}", field.to_uppercase());
            let given = model
                .clone()
                .filter(|_| *field == "model")
                .map(OsString::from);
            let read = given.or_else(|| read(&name));
            let Some(text) = read.filter(|text| !text.is_empty()) else {
                continue;
            };
            let text = text.into_string();
            let text = text.map_err(|_| Error::invalid(format!("{name}: must be UTF-8")))?;
            let value = value(field, text);
            let value = value.map_err(|rule| Error::invalid(format!("{name}: {rule}")))?;
            fields.insert((*field).to_owned(), value);
        }
        if !fields.contains_key("model") && model.is_some() {
            return Err(Error::invalid("model: must not be empty"));
        }
        if !fields.contains_key("model") {
            let what = format!("{prefix}MODEL is not set: set the name of the model");
            return Err(Error::invalid(what));
        }
        let llm = Self::from_json(fields.into())?;
        llm.check()?;
        Ok(llm)
    }
}

/// Converts the text of a variable to the type of its field, or returns the rule that it breaks.
fn value(field: &str, text: String) -> Result<Value, &'static str> {
    let json = || serde_json::from_str::<Value>(&text).ok();
    if NUMBERS.contains(&field) {
        return json().filter(Value::is_number).ok_or("must be a number");
    }
    if FLAGS.contains(&field) {
        return match text.to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true.into()),
            "false" | "0" | "no" | "off" => Ok(false.into()),
            _ => Err("must be true or false"),
        };
    }
    if OBJECTS.contains(&field) {
        return json()
            .filter(Value::is_object)
            .ok_or("must be a JSON object");
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Llm> {
        Llm::from_variables("LLM_", None, |name| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.into())
        })
    }

    #[test]
    fn a_given_model_takes_the_place_of_the_variable() {
        let with = |model: &str, set: &str| {
            Llm::from_variables("LLM_", Some(model.to_owned()), |name| {
                (name == "LLM_MODEL").then(|| set.into())
            })
        };
        assert_eq!(
            with("openai/a", "openai/b").expect("a model").model(),
            "openai/a"
        );
        assert_eq!(with("openai/a", "").expect("a model").model(), "openai/a");
        let error = with("", "openai/b").expect_err("no model");
        assert!(error.to_string().contains("model"), "{error}");
    }

    #[test]
    fn each_variable_sets_its_field_with_the_type_of_the_field() {
        let llm = read(&[
            ("LLM_MODEL", "openai/gpt-5"),
            ("LLM_API_KEY", "12345"),
            ("LLM_BASE_URL", ""),
            ("LLM_TIMEOUT", "60"),
            ("LLM_TEMPERATURE", "0.5"),
            ("LLM_STREAM", "Yes"),
            ("LLM_DROP_PARAMS", "0"),
            ("LLM_EXTRA_HEADERS", r#"{"X-Team": "a"}"#),
            ("LLM_REASONING_EFFORT", "low"),
            ("LLM_TITLE_MODEL", "openai/other"),
            ("OPENAI_API_KEY", "canary"),
        ])
        .unwrap();
        let expected = json!({
            "model": "openai/gpt-5", "api_key": "12345", "timeout": 60, "temperature": 0.5,
            "stream": true, "drop_params": false, "extra_headers": {"X-Team": "a"},
            "reasoning_effort": "low",
        });
        assert_eq!(serde_json::to_value(&llm).unwrap(), expected);
        assert_eq!(llm.model(), "openai/gpt-5");
        assert!(!format!("{llm:?}").contains("12345"), "{llm:?}");
    }

    #[test]
    fn an_invalid_variable_is_named_and_its_value_hidden() {
        for (name, value, rule) in [
            ("LLM_TIMEOUT", "canary", "must be a number"),
            ("LLM_STREAM", "canary", "must be true or false"),
            ("LLM_EXTRA_HEADERS", "canary", "must be a JSON object"),
        ] {
            let error = read(&[("LLM_MODEL", "m"), (name, value)]).unwrap_err();
            assert_eq!(error.to_string(), format!("{name}: {rule}"));
        }
        let masked = read(&[("LLM_MODEL", "m"), ("LLM_API_KEY", "**********")]).unwrap_err();
        assert!(masked.to_string().starts_with("api_key: the server's mask"));
        let error = read(&[("LLM_API_KEY", "canary"), ("LLM_MODEL", "")]).unwrap_err();
        let what = "LLM_MODEL is not set: set the name of the model";
        assert_eq!(error.to_string(), what);
    }

    #[test]
    fn the_types_are_those_of_known_fields() {
        for field in NUMBERS.iter().chain(&FLAGS).chain(&OBJECTS) {
            assert!(Llm::FIELDS.contains(field), "{field}");
        }
    }
}
