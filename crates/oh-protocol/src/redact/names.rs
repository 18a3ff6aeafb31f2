//! Detection of secret names. Only the words of a name are considered, never a value.

/// Words that make a name secret at any position.
const SECRET: &[&str] = &[
    "authorization",
    "bearer",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "creds",
    "jwt",
    "otp",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "pwd",
    "secret",
    "secrets",
    "totp",
];

/// Endings of compound words that make a name secret: `apikey`, `PGPASSWORD`, `githubtoken`.
const SECRET_ENDS: &[&str] = &[
    "accesskey",
    "apikey",
    "apikeys",
    "authkey",
    "authtoken",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "secretkey",
    "sessionid",
    "sessionkey",
    "token",
];

/// Words that describe a secret when they come last, so that the name is not secret: `token_count`,
/// `secret_name`.
const DESCRIPTIONS: &[&str] = &[
    "algorithm",
    "at",
    "budget",
    "cost",
    "count",
    "counts",
    "enabled",
    "encrypted",
    "encoding",
    "env",
    "exists",
    "expiry",
    "expires",
    "file",
    "filename",
    "format",
    "kind",
    "label",
    "len",
    "length",
    "limit",
    "limits",
    "method",
    "methods",
    "mode",
    "name",
    "names",
    "path",
    "policy",
    "present",
    "price",
    "required",
    "set",
    "size",
    "status",
    "strategy",
    "ttl",
    "type",
    "types",
    "uri",
    "url",
    "usage",
];

/// Words that make `key`, `keys`, `token` and `tokens` secret when they come before it, regardless
/// of what follows.
const CREDENTIALS: &[&str] = &[
    "access",
    "account",
    "api",
    "auth",
    "aws",
    "azure",
    "bot",
    "client",
    "csrf",
    "deploy",
    "encryption",
    "gcp",
    "github",
    "gitlab",
    "google",
    "gpg",
    "hf",
    "id",
    "license",
    "master",
    "npm",
    "oauth",
    "openai",
    "personal",
    "private",
    "pypi",
    "refresh",
    "secret",
    "security",
    "service",
    "session",
    "signing",
    "slack",
    "ssh",
    "webhook",
    "xsrf",
];

/// Words before `key` that make it an ordinary key, for example of a map.
const PLAIN_KEYS: &[&str] = &[
    "cache",
    "composite",
    "dict",
    "event",
    "foreign",
    "group",
    "idempotency",
    "index",
    "lookup",
    "map",
    "object",
    "partition",
    "primary",
    "public",
    "routing",
    "row",
    "search",
    "sort",
    "state",
    "unique",
];

/// Words before `token` that make it a unit of text for a model.
const PLAIN_TOKENS: &[&str] = &[
    "bos",
    "cached",
    "completion",
    "context",
    "cost",
    "end",
    "eos",
    "first",
    "input",
    "last",
    "mask",
    "max",
    "min",
    "num",
    "output",
    "pad",
    "per",
    "prompt",
    "reasoning",
    "special",
    "start",
    "stop",
    "total",
    "unk",
];

/// Words that may follow `key` or `token` in a name that is still secret.
const CONTENTS: &[&str] = &["base64", "data", "hash", "id", "pem", "secret", "value"];

/// Words before `auth` that make the name a yes/no option.
const QUESTIONS: &[&str] = &[
    "disable", "enable", "has", "is", "no", "require", "requires", "use",
];

/// Words before `pass` that make the name a password.
const ACCOUNTS: &[&str] = &[
    "admin", "basic", "database", "db", "ftp", "ldap", "login", "mail", "my", "mysql", "pg",
    "proxy", "redis", "root", "smtp", "user",
];

/// Returns whether a field, variable, header or flag with this name contains a secret.
///
/// The name is split into words at all characters that are neither letters nor digits, at
/// `camelCase` boundaries, and around digits. For example, `api_key`, `X-API-Key`, `apiKey` and
/// `APIKEY` are secret; `keywords`, `tokenizer`, `max_input_tokens`, `input_cost_per_token` and
/// `secret_name` are not.
///
/// ```
/// use oh_protocol::redact::is_secret_name;
///
/// assert!(is_secret_name("AWS_SECRET_ACCESS_KEY") && is_secret_name("pwd"));
/// assert!(!is_secret_name("prompt_tokens"));
/// ```
pub fn is_secret_name(name: &str) -> bool {
    let words = words(name);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.len() > 1 && words.last().is_some_and(|last| DESCRIPTIONS.contains(last)) {
        return false;
    }
    (0..words.len()).any(|at| is_secret_word(&words[..at], words[at], &words[at + 1..]))
}

/// Returns whether all values in a map with this name must be hidden, while its keys may be shown.
/// True for headers, environment variables, cookies, and the `input` and `ctx` fields of
/// validation errors, which repeat the input.
pub fn is_private_map(name: &str) -> bool {
    let words = words(name);
    match words.as_slice() {
        [only] if ["ctx", "input"].contains(&only.as_str()) => true,
        [.., last] => [
            "cookies",
            "env",
            "environ",
            "environment",
            "headers",
            "secrets",
        ]
        .contains(&last.as_str()),
        [] => false,
    }
}

/// Returns whether a name is also common for values that are not secret. In program code, an
/// unquoted value of such a name is hidden only if it looks like a credential.
pub(super) fn is_common_word(name: &str) -> bool {
    let words = words(name);
    let [word] = words.as_slice() else {
        return false;
    };
    [
        "auth", "bearer", "cookie", "cookies", "key", "session", "token", "tokens",
    ]
    .contains(&word.as_str())
}

fn is_secret_word(before: &[&str], word: &str, after: &[&str]) -> bool {
    if SECRET.contains(&word) {
        return true;
    }
    let previous = before.last().copied().unwrap_or_default();
    let whole = after
        .iter()
        .all(|word| CONTENTS.contains(word) || word.bytes().all(|byte| byte.is_ascii_digit()));
    let credential = CREDENTIALS.contains(&previous);
    match word {
        "auth" => !QUESTIONS.contains(&previous) && whole,
        "key" => credential || (whole && !PLAIN_KEYS.contains(&previous)),
        "token" => credential || (whole && !PLAIN_TOKENS.contains(&previous)),
        "keys" => credential,
        "tokens" => credential || (before.is_empty() && after.is_empty()),
        "session" => whole,
        "pass" => ACCOUNTS.contains(&previous) && whole,
        "string" => previous == "connection",
        _ => SECRET_ENDS.iter().any(|end| word.ends_with(end)),
    }
}

/// Returns the words of a name, in lower case.
fn words(name: &str) -> Vec<String> {
    #[derive(PartialEq, Clone, Copy)]
    enum Class {
        Lower,
        Upper,
        Digit,
    }
    let class = |letter: char| match letter {
        _ if letter.is_numeric() => Class::Digit,
        _ if letter.is_uppercase() => Class::Upper,
        _ => Class::Lower,
    };
    let mut words = Vec::new();
    for run in name.split(|letter: char| !letter.is_alphanumeric()) {
        let mut word = String::new();
        let mut before = None;
        let mut letters = run.chars().peekable();
        while let Some(letter) = letters.next() {
            let now = class(letter);
            let border = match before {
                None => false,
                Some(Class::Upper) if now == Class::Lower => false,
                // The last capital letter before a lower-case letter starts a word: `APIKey`.
                Some(Class::Upper) if now == Class::Upper => letters
                    .peek()
                    .is_some_and(|next| class(*next) == Class::Lower),
                Some(before) => before != now,
            };
            if border {
                words.push(std::mem::take(&mut word));
            }
            word.extend(letter.to_lowercase());
            before = Some(now);
        }
        if !word.is_empty() {
            words.push(word);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_recognised_in_every_style() {
        for name in [
            "api_key",
            "API-KEY",
            "apiKey",
            "APIKey",
            "APIKEY",
            "api_keys",
            "session_api_keys",
            "X-Access-Token",
            "x-session-api-key",
            "Authorization",
            "proxy-authorization",
            "client_secret",
            "clientSecret",
            "PASSWORD",
            "Set-Cookie",
            "session-id",
            "SESSION_API_KEY",
            "aws_credentials",
            "aws_access_key_id",
            "AWS_SECRET_ACCESS_KEY",
            "aws_session_token",
            "auth",
            "pwd",
            "passwd",
            "passphrase",
            "token",
            "key",
            "key_1",
            "OPENAI_API_KEY_2",
            "DB_PASS",
            "PGPASSWORD",
            "GITHUB_TOKEN",
            "githubToken",
            "idToken",
            "access_tokens",
            "refresh-token",
            "privateKey",
            "ssh_key",
            "jwt",
            "tokens",
            "connectionString",
            "secret",
            "secrets",
            "OH_SECRET_KEY",
            "bearerToken",
            "token_hash",
            "_key",
            "api.key",
            "Api Key",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn names_that_only_contain_such_a_word_are_not_secret() {
        for name in [
            "",
            "Author",
            "authored_by",
            "user_name",
            "model",
            "host",
            "keywords",
            "keyboard",
            "keyed",
            "monkey",
            "tokenizer",
            "custom_tokenizer",
            "max_input_tokens",
            "max_output_tokens",
            "prompt_tokens",
            "completionTokens",
            "input_cost_per_token",
            "output_cost_per_token",
            "token_count",
            "token_limit",
            "eos_token",
            "secret_name",
            "secrets_encrypted",
            "aws_session_name",
            "session_name",
            "public_key",
            "primary_key",
            "state_key",
            "cache_key",
            "key_points",
            "token_type",
            "token_url",
            "auth_method",
            "has_auth",
            "pass",
            "compass",
            "sessions",
            "passed",
            "passwordless_mode",
            "environment",
            "cache_read_tokens",
            "reasoning_tokens",
            "tokens_per_minute",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn maps_of_private_values_are_recognised_by_their_last_word() {
        for name in [
            "headers",
            "extra_headers",
            "HttpHeaders",
            "env",
            "acp_env",
            "input",
            "ctx",
        ] {
            assert!(is_private_map(name), "{name}");
        }
        for name in [
            "header",
            "environments",
            "inputs",
            "user_input",
            "env_file",
            "",
        ] {
            assert!(!is_private_map(name), "{name}");
        }
    }
}
