//! Which environment variables a server sees. Its agent's shell sees them too.

use std::{collections::BTreeMap, env, ffi::OsString};

/// What a server needs of its owner's environment. Nothing else is passed: the agent's shell
/// inherits what the server has, and the owner's keys are none of the agent's business.
const ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Defaults, below what the caller sets.
const DEFAULTS: &[(&str, &str)] = &[
    ("TZ", "UTC"),
    ("LOG_JSON", "true"),
    ("OPENHANDS_SUPPRESS_BANNER", "1"),
    // No download at import.
    ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
    ("OH_ENABLE_VSCODE", "false"),
    ("OH_PRELOAD_TOOLS", "false"),
    ("PYTHONUNBUFFERED", "1"),
];

/// The whole environment: allowed variables of this process, then defaults, then the caller's,
/// then what the supervisor itself must decide.
pub(super) fn compose(
    inherited: &[String],
    callers: &BTreeMap<String, OsString>,
    ours: Vec<(&'static str, OsString)>,
) -> BTreeMap<OsString, OsString> {
    let mut all = BTreeMap::new();
    let names = ALLOWED
        .iter()
        .copied()
        .chain(inherited.iter().map(String::as_str));
    for name in names {
        if let Some(value) = env::var_os(name) {
            all.insert(name.into(), value);
        }
    }
    for (name, value) in DEFAULTS {
        all.insert((*name).into(), (*value).into());
    }
    for (name, value) in callers {
        all.insert(name.into(), value.clone());
    }
    for (name, value) in ours {
        all.insert(name.into(), value);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_variables_pass_and_the_caller_wins_over_defaults() {
        let callers = BTreeMap::from([("TZ".to_owned(), "Europe/Berlin".into())]);
        let all = compose(&[], &callers, vec![("OH_SECRET_KEY", "s".into())]);
        // Cargo sets this for every test; no server needs it.
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some());
        assert!(!all.contains_key(&OsString::from("CARGO_MANIFEST_DIR")));
        assert_eq!(all[&OsString::from("TZ")], "Europe/Berlin");
        assert_eq!(all[&OsString::from("OH_SECRET_KEY")], "s");
        assert!(all.contains_key(&OsString::from("PATH")));
    }

    #[test]
    fn a_variable_can_be_let_through_by_name() {
        let all = compose(
            &["CARGO_MANIFEST_DIR".to_owned()],
            &BTreeMap::new(),
            Vec::new(),
        );
        assert!(all.contains_key(&OsString::from("CARGO_MANIFEST_DIR")));
    }
}
