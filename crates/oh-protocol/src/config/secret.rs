//! Secrets on their way into a request's body: the only place where one is exposed.

use secrecy::{ExposeSecret, SecretString};
use serde::{Serializer, ser::Error as _};

/// What the server shows in place of a secret. Sending it back would destroy the real one.
const MASK: &str = "**********";

/// Writes the wire form of a secret, for `#[serde(serialize_with)]`.
pub(super) fn expose<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret.as_ref().map(ExposeSecret::expose_secret) {
        Some(MASK) => Err(S::Error::custom(
            "a masked secret cannot be sent back to the server",
        )),
        Some(secret) => serializer.serialize_str(secret),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Llm;

    #[test]
    fn pitfall_25_a_mask_is_refused_where_a_secret_is_expected() {
        let error = serde_json::to_string(&Llm::new("m").api_key("**********")).unwrap_err();
        assert!(error.to_string().contains("masked"), "{error}");
    }
}
