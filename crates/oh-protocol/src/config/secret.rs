//! Secrets that the agent's commands can read from their environment.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{
    fields::{Field, Fields},
    model::model,
};

/// Path prefix of a server's own secrets; the name follows.
const OWN: &str = "/api/settings/secrets/";

/// The header that holds the session key.
const SESSION_KEY: &str = "X-Session-API-Key";

model! {
    /// The source of a named secret's value (`SecretSource` on the server).
    ///
    /// A string is converted to a static secret:
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

    /// Sets the description of the secret, which is included in the prompt.
    text description;
    /// Adds a header to the request that looks up the value.
    secrets headers/header;
}

impl SecretSource {
    /// Creates a source with a fixed value (`StaticSecret`).
    pub fn fixed(value: impl Into<SecretString>) -> Self {
        Self {
            fields: Fields::of("SecretSource")
                .with("kind", Field::plain("StaticSecret"))
                .with("value", Field::secret(value)),
        }
    }

    /// Creates a source that the server queries with a `GET` request each time it needs the value
    /// (`LookupSecret`).
    ///
    /// A URL without a host is a path on the server itself, such as `/api/settings/secrets/NAME`.
    /// Servers before 1.50 send such a request to themselves without credentials, so a header must
    /// contain the session key. A conversation's builder and `set_secrets` add it; in other
    /// requests call [`with_session_key`](Self::with_session_key).
    pub fn lookup(url: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("SecretSource")
                .with("kind", Field::plain("LookupSecret"))
                .with("url", Field::endpoint(url)),
        }
    }

    /// Adds the session key to a lookup of the server's own secret, as servers before 1.50 need it
    /// ([`ServerInfo::reads_own_secrets`](crate::calls::server::ServerInfo::reads_own_secrets)).
    /// A lookup of any other URL, or one that has this header already, stays unchanged.
    ///
    /// The server stores the key with the conversation, like other secrets. Send the result only
    /// to the server that the key belongs to.
    pub fn with_session_key(mut self, key: &SecretString) -> Self {
        give_key(&mut self.fields, Some(key));
        self
    }

    /// Returns whether [`with_session_key`](Self::with_session_key) would change this source.
    pub fn wants_session_key(&self) -> bool {
        give_key(&mut self.fields.clone(), None)
    }
}

/// Adds `key`, if there is one, to each lookup of a server's own secret in these fields, at any
/// depth. Returns whether any lookup needs a key.
pub(super) fn give_key(fields: &mut Fields, key: Option<&SecretString>) -> bool {
    if fields.text("kind") == Some("LookupSecret") && fields.text("url").is_some_and(is_own) {
        let headers = fields.get("headers");
        let needed = !headers.is_some_and(|headers| headers.has(SESSION_KEY));
        if let (true, Some(key)) = (needed, key) {
            fields.insert("headers", SESSION_KEY, Field::secret(key.clone()));
        }
        return needed;
    }
    any(fields.fields_mut(), |field| match field {
        Field::Object(fields) => give_key(fields, key),
        Field::List(items) => any(items, |item| match item {
            Field::Object(fields) => give_key(fields, key),
            Field::Hidden(json) => give_key_to_json(json, key),
            _ => false,
        }),
        Field::Hidden(json) => give_key_to_json(json, key),
        _ => false,
    })
}

/// Adds the key like [`give_key`], in JSON that the caller wrote.
fn give_key_to_json(json: &mut Value, key: Option<&SecretString>) -> bool {
    let object = match json {
        Value::Array(items) => return any(items, |item| give_key_to_json(item, key)),
        Value::Object(object) => object,
        _ => return false,
    };
    let text = |name| object.get(name).and_then(Value::as_str);
    if text("kind") != Some("LookupSecret") || !text("url").is_some_and(is_own) {
        return any(object.values_mut(), |value| give_key_to_json(value, key));
    }
    let empty = || Value::Object(serde_json::Map::new());
    let headers = object.entry("headers").or_insert_with(empty);
    if headers.is_null() {
        *headers = empty();
    }
    let Value::Object(headers) = headers else {
        return false;
    };
    let same = |name: &String| name.eq_ignore_ascii_case(SESSION_KEY);
    let needed = !headers.keys().any(same);
    if let (true, Some(key)) = (needed, key) {
        headers.insert(SESSION_KEY.to_owned(), key.expose_secret().into());
    }
    needed
}

/// Calls `each` for every item, and returns whether any call returned `true`.
fn any<T>(all: impl IntoIterator<Item = T>, mut each: impl FnMut(T) -> bool) -> bool {
    all.into_iter().fold(false, |found, one| each(one) | found)
}

/// Returns whether this URL names a secret of the server itself, by any rules for URLs.
fn is_own(url: &str) -> bool {
    let name = url.strip_prefix(OWN).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-%~".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
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
    use crate::config::{Agent, AgentContext, Llm, StartConversation};

    #[test]
    fn both_kinds_of_secret_have_the_servers_form_and_are_hidden() {
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
    fn the_session_key_goes_to_the_servers_own_secrets_only() {
        let key = SecretString::from("canary");
        let given = |source: SecretSource| {
            let wanted = source.wants_session_key();
            let before = serde_json::to_value(&source).unwrap();
            let source = source.with_session_key(&key);
            assert!(!source.wants_session_key());
            assert_eq!(serde_json::to_value(&source).unwrap() != before, wanted);
            assert!(!format!("{source:?}").contains("canary"));
            serde_json::to_value(source).unwrap()
        };
        let own = "/api/settings/secrets/A_b-1.%C3%A4";
        let expected = json!({"kind": "LookupSecret", "url": own,
            "headers": {"X-Session-API-Key": "canary"}});
        assert_eq!(given(SecretSource::lookup(own)), expected);
        for json in [
            json!({"kind": "LookupSecret", "url": own}),
            json!({"kind": "LookupSecret", "url": own, "headers": null}),
        ] {
            assert_eq!(given(SecretSource::from_json(json).unwrap()), expected);
        }
        for url in [
            "https://vault/api/settings/secrets/A",
            "http:/api/settings/secrets/A",
            "//evil/api/settings/secrets/A",
            "/\t/evil/api/settings/secrets/A",
            "\\\\evil\\api",
            "api/settings/secrets/A",
            " /api/settings/secrets/A",
            "/api/settings/secrets/",
            "/api/settings/secrets/..",
            "/api/settings/secrets/A/../../../x",
            "/api/settings/secrets/A?to=x",
            "/api/settings/secrets/A\n",
            "/api/settings/secrets/A@evil",
            "/api/profiles",
        ] {
            let source = SecretSource::lookup(url);
            let before = serde_json::to_value(&source).unwrap();
            assert_eq!(given(source), before, "{url}");
        }
        let fixed = SecretSource::fixed(own);
        assert_eq!(given(fixed)["headers"], Value::Null);
        let other = SecretSource::lookup(own).header("x-session-api-key", "mine");
        assert_eq!(
            given(other)["headers"],
            json!({"x-session-api-key": "mine"})
        );
    }

    #[test]
    fn the_session_key_reaches_every_lookup_of_a_request() {
        let own = || SecretSource::lookup("/api/settings/secrets/A");
        let elsewhere = SecretSource::lookup("https://vault/A");
        let written = json!({"A": {"kind": "LookupSecret", "url": "/api/settings/secrets/A"}});
        let context = AgentContext::new().secret("A", own());
        let agent = Agent::new(Llm::new("m")).agent_context(context);
        let start = StartConversation::new(agent, "/w")
            .secret("A", own())
            .secret("OTHER", elsewhere);
        let key = SecretString::from("canary");
        let sent = serde_json::to_value(start.clone().with_session_key(&key)).unwrap();
        let expected = json!("canary");
        let header = "/headers/X-Session-API-Key";
        let at = |sent: &Value, place: &str| sent.pointer(&format!("{place}{header}")).cloned();
        assert_eq!(at(&sent, "/secrets/A"), Some(expected.clone()));
        assert_eq!(
            at(&sent, "/agent/agent_context/secrets/A"),
            Some(expected.clone())
        );
        assert_eq!(at(&sent, "/secrets/OTHER"), None);
        let free = start.set("secrets", written).with_session_key(&key);
        assert!(!format!("{free:?}").contains("canary"));
        let sent = serde_json::to_value(free).unwrap();
        assert_eq!(at(&sent, "/secrets/A"), Some(expected));
    }

    #[test]
    fn a_mask_is_not_a_secret() {
        for masked in [
            SecretSource::fixed("**********"),
            SecretSource::lookup("http://h").header("X-Key", "**********"),
        ] {
            let error = masked.check().unwrap_err().to_string();
            assert!(error.contains("the server's mask"), "{error}");
        }
    }
}
