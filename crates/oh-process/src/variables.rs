//! The environment of the server's process: what of the parent's it may see, what it is told,
//! and what callers may not set here. Reads the parent's variables; starts nothing.

use std::{borrow::Cow, env, ffi::OsString, fmt};

use secrecy::{ExposeSecret, SecretString};

use crate::{Error, ErrorKind, Result};

/// What a server and the agent's shell need of the parent's environment. Everything else stays
/// out: the agent's commands see all that the server is given.
const ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TERM",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "no_proxy",
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "COMSPEC",
    "PATHEXT",
    "USERPROFILE",
    "APPDATA",
    "LOCALAPPDATA",
];

/// Passed on unless they hold a password.
const PROXIES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];

/// What a method of the builder sets, so that the guard knows it; and what must never be set.
const REFUSED: &[(&str, &str)] = &[
    ("OH_SESSION_API_KEYS", "use session_api_key"),
    ("SESSION_API_KEY", "use session_api_key"),
    ("OH_SECRET_KEY", "use secret_key"),
    ("OH_DEFERRED_INIT", "use deferred_init"),
    ("OH_CONVERSATIONS_PATH", "use state_dir"),
    ("OH_PERSISTENCE_DIR", "use state_dir"),
    ("TMUX_TMPDIR", "use state_dir"),
    ("LOG_JSON", "the log is read as JSON"),
    ("LOG_TO_FILE", "the log is read from the server's pipes"),
    (
        "DEBUG_LLM",
        "it waits for an answer on a terminal that is not there",
    ),
];

/// What the caller wants of the environment.
#[derive(Clone, Default)]
pub(crate) struct Variables {
    pub(crate) inherit_all: bool,
    pub(crate) inherit: Vec<OsString>,
    pub(crate) set: Vec<(OsString, Value)>,
}

#[derive(Clone)]
pub(crate) enum Value {
    Plain(OsString),
    Secret(SecretString),
}

impl Variables {
    /// The whole environment: the parent's allowed variables, then `ours`, then the caller's;
    /// the later wins.
    ///
    /// # Errors
    ///
    /// When a name or value cannot be a variable, or is set by a method of its own.
    pub(crate) fn build(
        &self,
        ours: Vec<(Cow<'static, str>, OsString)>,
    ) -> Result<Vec<(OsString, OsString)>> {
        let parent = env::vars_os().filter(|(name, value)| self.passes(name, value));
        let ours = ours
            .into_iter()
            .map(|(name, value)| (name.into_owned().into(), value));
        let mut built: Vec<(OsString, OsString)> = parent.chain(ours).collect();
        for (name, value) in &self.set {
            check(name)?;
            let value = match value {
                Value::Plain(value) => value.clone(),
                Value::Secret(value) => value.expose_secret().into(),
            };
            built.push((name.clone(), value));
        }
        for (name, value) in &built {
            if value.as_encoded_bytes().contains(&0) {
                let name = name.to_string_lossy();
                let message = format!("the value of environment variable {name} holds a NUL byte");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        Ok(built)
    }

    /// The values that must never be shown.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = SecretString> {
        self.set.iter().filter_map(|(_, value)| match value {
            Value::Secret(value) => Some(value.clone()),
            Value::Plain(_) => None,
        })
    }

    fn passes(&self, name: &OsString, value: &OsString) -> bool {
        let text = name.to_string_lossy();
        // Even a caller who wants everything does not want what breaks the server's own set-up.
        if text.starts_with("OH_") || REFUSED.iter().any(|(refused, _)| *refused == text) {
            return self.inherit.contains(name);
        }
        if self.inherit_all || self.inherit.contains(name) {
            return true;
        }
        let allowed = ALLOWED.contains(&text.as_ref()) || text.starts_with("LC_");
        let proxy = PROXIES.contains(&text.as_ref());
        allowed || (proxy && !value.as_encoded_bytes().contains(&b'@'))
    }
}

fn check(name: &OsString) -> Result<()> {
    let bytes = name.as_encoded_bytes();
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
    if bytes.is_empty() || bytes.contains(&0) || bytes.contains(&b'=') {
        return invalid(format!(
            "{name:?} cannot be the name of an environment variable"
        ));
    }
    let text = name.to_string_lossy();
    match REFUSED.iter().find(|(refused, _)| {
        // Lists are also given as `NAME_0`, `NAME_1`, …
        text.strip_prefix(refused)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    }) {
        Some((_, instead)) => invalid(format!(
            "environment variable {text} is not set here: {instead}"
        )),
        None => Ok(()),
    }
}

// A plain value may be a secret that its caller did not mark.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.set.iter().map(|(name, _)| name).collect();
        f.debug_struct("Variables")
            .field("inherit_all", &self.inherit_all)
            .field("inherit", &self.inherit)
            .field("set", &names)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(variables: &Variables) -> Vec<String> {
        let built = variables.build(Vec::new()).expect("an environment");
        built
            .into_iter()
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_parents_variables_pass_only_by_name() {
        // Cargo sets this for every test.
        let secret = "CARGO_MANIFEST_DIR";
        let mut variables = Variables::default();
        assert!(!names(&variables).contains(&secret.to_owned()));
        assert!(names(&variables).contains(&"PATH".to_owned()));
        variables.inherit.push(secret.into());
        assert!(names(&variables).contains(&secret.to_owned()));
        let all = Variables {
            inherit_all: true,
            ..Variables::default()
        };
        assert!(names(&all).contains(&secret.to_owned()));
    }

    #[test]
    fn a_proxy_with_a_password_stays_out() {
        let variables = Variables::default();
        let name = OsString::from("HTTPS_PROXY");
        assert!(variables.passes(&name, &"http://proxy:3128".into()));
        assert!(!variables.passes(&name, &"http://me:word@proxy:3128".into()));
    }

    #[test]
    fn the_callers_value_comes_last_and_identity_is_not_set_here() {
        let set = |name: &str| Variables {
            set: vec![(name.into(), Value::Plain("theirs".into()))],
            ..Variables::default()
        };
        let built = set("TZ")
            .build(vec![("TZ".into(), "UTC".into())])
            .expect("an environment");
        let (_, last) = built.iter().rfind(|(name, _)| name == "TZ").expect("TZ");
        assert_eq!(last, "theirs");
        for name in ["OH_SESSION_API_KEYS_0", "OH_SECRET_KEY", "A=B", "", "N\0"] {
            let error = set(name).build(Vec::new()).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_nul_in_a_value_is_refused_and_the_value_not_shown() {
        let variables = Variables {
            set: vec![("TOKEN".into(), Value::Secret("sesame\0".into()))],
            ..Variables::default()
        };
        let error = variables.build(Vec::new()).expect_err("a NUL");
        assert!(error.to_string().contains("TOKEN"));
        assert!(!format!("{error:?} {variables:?}").contains("sesame"));
    }
}
