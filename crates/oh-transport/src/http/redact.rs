//! What may be shown of JSON that somebody else wrote. Knows names, not meanings.

use serde_json::Value;

/// A name that holds one of these belongs to a secret, in any case and dash style.
const SECRET_NAMES: [&str; 8] = [
    "authorization",
    "cookie",
    "credential",
    "key",
    "password",
    "secret",
    "session",
    "token",
];
/// Everything below these is somebody's values: variables, headers, and the input that a
/// validation error repeats.
const MAPS: [&str; 5] = ["ctx", "env", "environment", "headers", "input"];
const HIDDEN: &str = "<redacted>";

/// Hides secrets: by the names of their fields, and one that is known.
pub(crate) struct Redactor<'a> {
    known: Option<&'a str>,
}

impl<'a> Redactor<'a> {
    pub(crate) fn new(known: Option<&'a str>) -> Self {
        Self {
            known: known.filter(|known| !known.is_empty()),
        }
    }

    pub(crate) fn is_secret_name(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        SECRET_NAMES.iter().any(|secret| name.contains(secret))
    }

    /// Hides what is secret in a value, at any depth.
    pub(crate) fn redact(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    if MAPS.contains(&&*name.to_lowercase()) {
                        hide(field);
                    } else if self.is_secret_name(name) {
                        *field = HIDDEN.into();
                    } else {
                        self.redact(field);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Value::String(text) => *text = self.text(text),
            _ => {}
        }
    }

    /// A text without the known secret, and without users and passwords in URLs.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = match self.known {
            Some(known) => text.replace(known, HIDDEN),
            None => text.to_owned(),
        };
        let mut from = 0;
        while let Some(at) = text[from..].find("://") {
            from += at + 3;
            let rest = &text[from..];
            let end = rest.find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c));
            let authority = &rest[..end.unwrap_or(rest.len())];
            if let Some(user) = authority.rfind('@') {
                text.replace_range(from..from + user, HIDDEN);
                from += HIDDEN.len();
            }
        }
        text
    }
}

/// Hides every value and keeps the names.
fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(hide),
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => *value = HIDDEN.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_names_match_in_any_case_and_dash_style() {
        let redactor = Redactor::new(None);
        for name in [
            "api_key",
            "API-KEY",
            "apiKey",
            "X-Access-Token",
            "Authorization",
            "proxy-authorization",
            "client_secret",
            "PASSWORD",
            "Set-Cookie",
            "session-id",
            "SESSION_API_KEY",
            "aws_credentials",
        ] {
            assert!(redactor.is_secret_name(name), "{name}");
        }
        for name in ["Author", "authored_by", "user_name", "model", "host", ""] {
            assert!(!redactor.is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn urls_keep_their_host_and_lose_their_user() {
        let shown =
            Redactor::new(None).text("git clone https://u:p@h/x, ssh://git@h and http://h/a@b");
        assert_eq!(
            shown,
            "git clone https://<redacted>@h/x, ssh://<redacted>@h and http://h/a@b"
        );
        assert_eq!(
            Redactor::new(None).text("://@ ü://é@"),
            "://<redacted>@ ü://<redacted>@"
        );
    }
}
