//! Secrets that commands of the agent find in their environment.

use secrecy::SecretString;

use super::{
    fields::{Field, Fields},
    model::model,
};

model! {
    /// Where the value of a named secret comes from (`SecretSource` on the server).
    ///
    /// A text is a static secret:
    ///
    /// ```
    /// use oh_protocol::config::{Agent, Llm, SecretSource, StartConversation};
    ///
    /// let start = StartConversation::new(Agent::new(Llm::new("openai/gpt-5")), "/project")
    ///     .secret("GITHUB_TOKEN", "ghp_…")
    ///     .secret("DEPLOY_KEY", SecretSource::lookup("https://vault/key").header("X-Token", "…"));
    /// assert!(!format!("{start:?}").contains("ghp_"));
    /// ```
    pub struct SecretSource;
    by_hand: ["kind", "value", "url"];

    /// What it is for; the agent is told.
    text description;
    /// A header for the request that looks the value up.
    secrets headers/header;
}

impl SecretSource {
    /// This value (`StaticSecret`).
    pub fn fixed(value: impl Into<SecretString>) -> Self {
        Self {
            fields: Fields::of("SecretSource")
                .with("kind", Field::plain("StaticSecret"))
                .with("value", Field::secret(value)),
        }
    }

    /// What the server finds with a `GET` of a URL, each time it needs the value
    /// (`LookupSecret`). A path alone is one of the server itself, such as
    /// `/api/settings/secrets/NAME`. Older servers (1.43) ask themselves as a stranger would: there
    /// a header has to give the session key.
    pub fn lookup(url: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("SecretSource")
                .with("kind", Field::plain("LookupSecret"))
                .with("url", Field::endpoint(url)),
        }
    }
}

impl From<&str> for SecretSource {
    fn from(value: &str) -> Self {
        Self::fixed(value)
    }
}

impl From<String> for SecretSource {
    fn from(value: String) -> Self {
        Self::fixed(value)
    }
}

impl From<SecretString> for SecretSource {
    fn from(value: SecretString) -> Self {
        Self::fixed(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_kinds_have_the_servers_form_and_show_nothing() {
        let lookup = SecretSource::lookup("http://h/s?key=canary").header("X-Key", "canary");
        let fixed = SecretSource::from("canary").description("d");
        let shown = format!("{fixed:?} {lookup:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(
            json!([fixed, lookup]),
            json!([
                {"kind": "StaticSecret", "value": "canary", "description": "d"},
                {"kind": "LookupSecret", "url": "http://h/s?key=canary",
                 "headers": {"X-Key": "canary"}},
            ])
        );
    }

    #[test]
    fn a_mask_is_no_value() {
        for masked in [
            SecretSource::fixed("**********"),
            SecretSource::lookup("http://h").header("X-Key", "**********"),
        ] {
            let error = masked.check().unwrap_err().to_string();
            assert!(error.contains("the server's mask"), "{error}");
        }
    }
}
