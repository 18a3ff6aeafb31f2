//! Builds the environment of the server's process: the parent's variables that are passed on, the
//! variables that this crate sets, and those that callers must not set.

use std::{
    borrow::Cow,
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    Error, ErrorKind, Result,
    start::adapted::{Pairs, sanitized},
};

/// The variables of the parent that a server and the agent's shell need. Others are not passed on,
/// because the agent's commands can read the whole environment of the server.
const ALLOWED: &[&str] = &[
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
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
    "APPDATA",
    "LOCALAPPDATA",
];

/// Passed on unless they contain a password.
const PROXIES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];

/// Variables for directories of a user's data. Passed on only together with the user's home.
const HOME: &[&str] = &[
    "HOME",
    "USERPROFILE",
    "HISTFILE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "BROWSER_USE_CONFIG_DIR",
];

/// Variables by which programs in the parent's home find their installation, and the default
/// directories. The directories are only read. Without these variables, an agent with another home
/// would find the user's `cargo` or `python`, but could not run them.
const INSTALLED: &[(&str, &str)] = &[
    ("ASDF_DATA_DIR", ".asdf"),
    ("PLAYWRIGHT_BROWSERS_PATH", ".cache/ms-playwright"),
    ("PYENV_ROOT", ".pyenv"),
    ("RBENV_ROOT", ".rbenv"),
    ("RUSTUP_HOME", ".rustup"),
    ("VOLTA_HOME", ".volta"),
];

/// Prefixes of the parent's variables that would change the agent's Python.
const PYTHON: &[&str] = &[
    "PYTHON",
    "PIP_",
    "UV_",
    "VIRTUAL_ENV",
    "__PYVENV_LAUNCHER__",
];

/// Prefixes of the variables that direct git to one repository. git sets them for its hooks. With
/// them, every git command of the server and its agents would use the owner's repository.
const REPOSITORY: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_EXEC_PATH",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// Variables that set the text encoding.
const LOCALE: &[&str] = &["LC_ALL", "LC_CTYPE", "LANG"];

/// A UTF-8 locale that exists everywhere. Without one, tmux corrupts the text that the server
/// reads.
#[cfg(target_os = "macos")]
const UTF_8: &str = "en_US.UTF-8";
#[cfg(not(target_os = "macos"))]
const UTF_8: &str = "C.UTF-8";

/// Variables that callers must not set, and why: a builder method sets them, or they break the
/// server.
const REFUSED: &[(&str, &str)] = &[
    ("OH_SESSION_API_KEYS", "use session_api_key"),
    ("SESSION_API_KEY", "use session_api_key"),
    ("OH_SECRET_KEY", "use secret_key"),
    (
        "OH_PREVIOUS_SECRET_KEYS",
        "the agent could read the keys; use previous_secret_key",
    ),
    (
        "OH_WEBHOOKS",
        "the agent could read the webhook's headers; use webhook",
    ),
    ("OH_DEFERRED_INIT", "use deferred_init"),
    ("OH_CONVERSATIONS_PATH", "use state_dir"),
    ("OH_PERSISTENCE_DIR", "use state_dir"),
    ("OH_EXTRA_PYTHON_PATH", "use python_path"),
    (
        "OPENHANDS_AGENT_SERVER_CONFIG_PATH",
        "oh-process uses it to pass the keys to the server",
    ),
    ("OH_INTERNAL_SERVER_URL", "use host and port"),
    ("TMUX_TMPDIR", "use state_dir"),
    ("LOG_JSON", "the log is read as JSON"),
    ("LOG_TO_FILE", "the log is read from the server's pipes"),
    (
        "DEBUG_LLM",
        "it makes the server wait for input from a terminal",
    ),
];

/// Variables that the caller chose.
#[derive(Clone, Default)]
pub(crate) struct Variables {
    pub(crate) inherit_all: bool,
    pub(crate) inherit_home: bool,
    pub(crate) inherit: Vec<OsString>,
    pub(crate) set: Vec<(OsString, Value)>,
}

#[derive(Clone)]
pub(crate) enum Value {
    Plain(OsString),
    Secret(SecretString),
}

impl Value {
    fn text(&self) -> OsString {
        match self {
            Self::Plain(value) => value.clone(),
            Self::Secret(value) => value.expose_secret().into(),
        }
    }
}

impl Variables {
    /// Returns the whole environment: the parent's allowed variables, then `ours`, then the
    /// caller's. Later values override earlier ones. `local` are addresses that bypass proxies.
    ///
    /// # Errors
    ///
    /// Returns an error if a name or value is not valid for a variable, or if a builder method sets
    /// the variable.
    pub(crate) fn build(
        &self,
        ours: Vec<(Cow<'static, str>, OsString)>,
        local: &[String],
    ) -> Result<Pairs> {
        self.check()?;
        let mut built = Pairs::new();
        let mut set = |name: OsString, value: OsString| {
            built.retain(|(other, _)| *other != name);
            built.push((name, value));
        };
        for (name, value) in env::vars_os().filter(|(name, value)| self.passes(name, value)) {
            set(name, value);
        }
        if !self.inherit_home {
            for (name, value) in installed() {
                set(name, value);
            }
        }
        set("LANG".into(), UTF_8.into());
        set("LC_ALL".into(), UTF_8.into());
        for (name, value) in ours {
            set(name.into_owned().into(), value);
        }
        for (name, value) in &self.set {
            set(name.clone(), value.text());
        }
        Ok(sanitized(built, local))
    }

    /// Rejects names and values that are not valid, and variables that callers must not set.
    pub(crate) fn check(&self) -> Result<()> {
        for name in &self.inherit {
            check_name(name)?;
        }
        for (name, value) in &self.set {
            check_name(name)?;
            check_value(name, &value.text())?;
        }
        Ok(())
    }

    /// Returns the home directory that the caller set, if any.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        let set = self.set.iter().rfind(|(name, _)| name == "HOME");
        match set {
            Some((_, value)) => Some(value.text().into()),
            None if self.inherit_home || self.inherit.iter().any(|name| name == "HOME") => {
                env::home_dir()
            }
            None => None,
        }
    }

    /// Returns the values that must never be shown.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = SecretString> {
        self.set.iter().filter_map(|(_, value)| match value {
            Value::Secret(value) => Some(value.clone()),
            Value::Plain(_) => None,
        })
    }

    /// Removes the caller's secrets from a built environment, for processes other than the
    /// server's.
    pub(crate) fn without_secrets(&self, mut built: Pairs) -> Pairs {
        built.retain(|(name, _)| {
            let set = self.set.iter().rfind(|(other, _)| other == name);
            !matches!(set, Some((_, Value::Secret(_))))
        });
        built
    }

    fn passes(&self, name: &OsString, value: &OsString) -> bool {
        let text = name.to_string_lossy();
        if self.inherit.contains(name) {
            return true;
        }
        let begins = |known: &&str| text.starts_with(known);
        // Even `inherit_all_env` omits variables that break the server's own settings.
        if begins(&"OH_") || refused(&text).is_some() || PYTHON.iter().chain(REPOSITORY).any(begins)
        {
            return false;
        }
        if HOME.contains(&text.as_ref()) {
            return self.inherit_home;
        }
        let proxy = PROXIES.contains(&text.as_ref());
        let password = value.as_encoded_bytes().contains(&b'@');
        let allowed = ALLOWED.contains(&text.as_ref()) || (proxy && !password);
        let locale = text.starts_with("LC_") || text == "LANGUAGE" || text == "LANG";
        allowed || (self.inherit_all && !locale)
    }
}

/// Returns the variables for tools in the parent's home that are installed.
fn installed() -> Pairs {
    let home = env::home_dir();
    let tool = |&(name, inside): &(&str, &str)| {
        let set = env::var_os(name).map(PathBuf::from);
        let place = set.or_else(|| Some(home.as_ref()?.join(inside)))?;
        (place.is_absolute() && place.is_dir()).then(|| (name.into(), place.into_os_string()))
    };
    INSTALLED.iter().filter_map(tool).collect()
}

/// Returns why a variable must not be set, or `None` if it may be.
pub(crate) fn refused(name: &str) -> Option<&'static str> {
    let found = REFUSED.iter().find(|(refused, _)| {
        // Lists can also be set as `NAME_0`, `NAME_1`, …
        name.strip_prefix(refused)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    });
    found.map(|(_, instead)| *instead)
}

/// Rejects names that are not valid, and variables that callers must not set.
pub(crate) fn check_name(name: &OsStr) -> Result<()> {
    let bytes = name.as_encoded_bytes();
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
    if bytes.is_empty() || bytes.contains(&0) || bytes.contains(&b'=') {
        return invalid(format!("{name:?} is not a valid environment variable name"));
    }
    let text = name.to_string_lossy();
    match refused(&text) {
        Some(instead) => invalid(format!(
            "environment variable {text} must not be set: {instead}"
        )),
        None => Ok(()),
    }
}

/// Rejects values that are not valid, and locales with which the server fails.
pub(crate) fn check_value(name: &OsStr, value: &OsStr) -> Result<()> {
    let name = name.to_string_lossy();
    if value.as_encoded_bytes().contains(&0) {
        let message = format!("the value of environment variable {name} contains a NUL byte");
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let value = value.to_string_lossy().to_ascii_uppercase();
    if LOCALE.contains(&name.as_ref()) && !value.contains("UTF-8") && !value.contains("UTF8") {
        let message = format!(
            "environment variable {name} must be a UTF-8 locale, such as {UTF_8}: the server \
             fails with any other"
        );
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// Rejects module directories that cannot be passed to the server. The server splits the list at
/// colons, strips blanks and ignores missing directories.
pub(crate) fn module_directories(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let found = |path: &PathBuf| {
        let why = |why: &str| {
            let message = format!("python_path {} {why}", path.display());
            Error::new(ErrorKind::InvalidInput, message)
        };
        let absolute = path
            .canonicalize()
            .map_err(|error| why(&format!("cannot be used: {error}")).with_source(error))?;
        let text = absolute
            .to_str()
            .ok_or_else(|| why("must be valid UTF-8"))?;
        if !absolute.is_dir() {
            return Err(why("must be a directory"));
        }
        if text.contains([':', '\0']) || text.trim() != text {
            return Err(why(
                "must not contain a colon or begin or end with a space, because the server splits \
                 and trims the list",
            ));
        }
        Ok(absolute)
    };
    paths.iter().map(found).collect()
}

// Hides plain values, too: a value may be a secret that the caller did not mark.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.set.iter().map(|(name, _)| name).collect();
        f.debug_struct("Variables")
            .field("inherit_all", &self.inherit_all)
            .field("inherit_home", &self.inherit_home)
            .field("inherit", &self.inherit)
            .field("set", &names)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(variables: &Variables) -> Pairs {
        variables.build(Vec::new(), &[]).expect("an environment")
    }

    fn names(variables: &Variables) -> Vec<String> {
        let names = built(variables).into_iter().map(|(name, _)| name);
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    fn value(pairs: &Pairs, name: &str) -> Option<String> {
        let found = pairs.iter().find(|(other, _)| other == name)?;
        Some(found.1.to_string_lossy().into_owned())
    }

    fn setting(name: &str, value: &str) -> Variables {
        Variables {
            set: vec![(name.into(), Value::Plain(value.into()))],
            ..Variables::default()
        }
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
        let built = setting("TZ", "theirs")
            .build(vec![("TZ".into(), "UTC".into())], &[])
            .expect("an environment");
        assert_eq!(value(&built, "TZ").as_deref(), Some("theirs"));
        let once = built.iter().filter(|(name, _)| name == "TZ").count();
        assert_eq!(once, 1);
        for name in ["OH_SESSION_API_KEYS_0", "OH_SECRET_KEY", "A=B", "", "N\0"] {
            let error = setting(name, "x").check().expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_reserved_name_is_rejected_in_every_form() {
        for (name, _) in REFUSED {
            for name in [(*name).to_owned(), format!("{name}_0")] {
                setting(&name, "x").check().expect_err(&name);
                let inherit = Variables {
                    inherit: vec![name.clone().into()],
                    ..Variables::default()
                };
                let error = inherit.check().expect_err(&name);
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                let all = Variables {
                    inherit_all: true,
                    ..Variables::default()
                };
                assert!(!all.passes(&name.clone().into(), &"x".into()), "{name}");
            }
        }
    }

    #[test]
    fn a_nul_in_a_value_is_rejected_without_showing_the_value() {
        let variables = Variables {
            set: vec![("TOKEN".into(), Value::Secret("sesame\0".into()))],
            ..Variables::default()
        };
        let error = variables.check().expect_err("a NUL");
        assert!(error.to_string().contains("TOKEN"));
        assert!(!format!("{error:?} {variables:?}").contains("sesame"));
    }

    #[test]
    fn the_locale_is_always_utf_8() {
        for all in [false, true] {
            let variables = Variables {
                inherit_all: all,
                ..Variables::default()
            };
            for name in ["LC_ALL", "LC_CTYPE", "LC_TIME", "LANG", "LANGUAGE"] {
                assert!(!variables.passes(&name.into(), &"C".into()), "{name}");
            }
            let built = built(&variables);
            assert_eq!(value(&built, "LC_ALL").as_deref(), Some(UTF_8));
            assert_eq!(value(&built, "LANG").as_deref(), Some(UTF_8));
        }
        setting("LC_ALL", "C").check().expect_err("no UTF-8");
        setting("LANG", "de_DE.ISO-8859-1")
            .check()
            .expect_err("no UTF-8");
        let german = built(&setting("LC_ALL", "de_DE.utf8"));
        assert_eq!(value(&german, "LC_ALL").as_deref(), Some("de_DE.utf8"));
    }

    #[test]
    fn loopback_bypasses_every_proxy_and_other_exceptions_are_kept() {
        for name in ["NO_PROXY", "no_proxy"] {
            let built = setting(name, "corp.example, 10.0.0.1")
                .build(Vec::new(), &["192.0.2.7".to_owned()])
                .expect("an environment");
            for name in ["NO_PROXY", "no_proxy"] {
                let value = value(&built, name).expect(name);
                let hosts: Vec<_> = value.split(',').collect();
                for host in [
                    "corp.example",
                    "10.0.0.1",
                    "localhost",
                    "127.0.0.1",
                    "::1",
                    "192.0.2.7",
                ] {
                    assert!(hosts.contains(&host), "{name} {value}");
                }
            }
        }
    }

    #[test]
    fn the_repository_of_a_git_hook_is_not_the_servers() {
        let all = Variables {
            inherit_all: true,
            ..Variables::default()
        };
        for name in [
            "GIT_DIR",
            "GIT_INDEX_FILE",
            "GIT_CONFIG_COUNT",
            "GIT_CONFIG_KEY_0",
        ] {
            assert!(!all.passes(&name.into(), &".git".into()), "{name}");
        }
        for name in ["GIT_AUTHOR_NAME", "GIT_SSH_COMMAND", "GIT_TERMINAL_PROMPT"] {
            assert!(all.passes(&name.into(), &"x".into()), "{name}");
        }
    }

    #[test]
    fn the_agents_python_is_not_the_parents() {
        let all = Variables {
            inherit_all: true,
            ..Variables::default()
        };
        for name in [
            "PYTHONPATH",
            "PYTHONHOME",
            "PYTHONSTARTUP",
            "PIP_INDEX_URL",
            "UV_INDEX_URL",
            "VIRTUAL_ENV",
        ] {
            assert!(!all.passes(&name.into(), &"x".into()), "{name}");
            let named = Variables {
                inherit: vec![name.into()],
                ..Variables::default()
            };
            assert!(named.passes(&name.into(), &"x".into()), "{name}");
        }
    }

    #[test]
    fn a_home_is_passed_on_with_all_its_variables_or_not_at_all() {
        let mut all = Variables {
            inherit_all: true,
            ..Variables::default()
        };
        for name in HOME {
            assert!(!all.passes(&(*name).into(), &"/home/me".into()), "{name}");
        }
        all.inherit_home = true;
        for name in HOME {
            assert!(all.passes(&(*name).into(), &"/home/me".into()), "{name}");
        }
    }

    #[test]
    fn directories_for_modules_must_exist_and_have_representable_names() {
        let place = tempfile::tempdir().expect("a directory");
        for name in ["with:colon", "blank "] {
            let path = place.path().join(name);
            std::fs::create_dir(&path).expect("a directory");
            let error = module_directories(&[path]).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        module_directories(&[place.path().join("missing")]).expect_err("nothing there");
        let fine = module_directories(&[place.path().to_owned()]).expect("a directory");
        assert!(fine.iter().all(|path| path.is_absolute()));
    }
}
