//! The sandbox that this process runs in.

use secrecy::SecretString;

use crate::{Error, ErrorKind, Result, hosted::settings::check_id};

/// The port of the server in a sandbox, if `AGENT_SERVER_PORT` is not set.
const PORT: u16 = 60000;

/// The sandbox of OpenHands Cloud that this process runs in, for
/// [`CloudServerBuilder::attach_inside`](crate::CloudServerBuilder::attach_inside).
#[derive(Debug, Clone)]
pub struct InsideSandbox {
    pub(crate) port: u16,
    pub(crate) key: SecretString,
    pub(crate) sandbox_id: Option<String>,
}

impl InsideSandbox {
    /// Names the server at a port of this machine, with its session key.
    pub fn new(port: u16, session_api_key: impl Into<SecretString>) -> Self {
        Self {
            port,
            key: session_api_key.into(),
            sandbox_id: None,
        }
    }

    /// Sets the id of the sandbox, which requests for settings and secrets need.
    pub fn sandbox_id(mut self, id: impl Into<String>) -> Self {
        self.sandbox_id = Some(id.into());
        self
    }

    /// Reads the variables of a sandbox: `AGENT_SERVER_PORT` (default 60000), `SANDBOX_ID`, and the
    /// session key in `SESSION_API_KEY` or `OH_SESSION_API_KEYS_0`.
    ///
    /// # Errors
    ///
    /// Returns an error of kind [`InvalidInput`](ErrorKind::InvalidInput) if a variable is not
    /// valid or there is no session key, for example because this process does not run in a
    /// sandbox.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let invalid = |message: &str| Error::new(ErrorKind::InvalidInput, message);
        let port = match set("AGENT_SERVER_PORT") {
            None => PORT,
            Some(text) => match text.trim().parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(invalid("invalid AGENT_SERVER_PORT: must be 1 to 65535")),
            },
        };
        let key = set("SESSION_API_KEY").or_else(|| set("OH_SESSION_API_KEYS_0"));
        let key = key.ok_or_else(|| {
            invalid(
                "there is no session key: this program does not run in a sandbox, or neither \
                 SESSION_API_KEY nor OH_SESSION_API_KEYS_0 is passed on to it",
            )
        })?;
        let sandbox_id = set("SANDBOX_ID");
        if let Some(id) = &sandbox_id {
            check_id("SANDBOX_ID", id)?;
        }
        Ok(Self {
            port,
            key: key.into(),
            sandbox_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<InsideSandbox> {
        InsideSandbox::from_variables(&|name| {
            let mut variables = variables.iter();
            let found = variables.find(|(set, _)| *set == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_variables_of_a_sandbox_name_its_server() {
        let found = read(&[
            ("AGENT_SERVER_PORT", "8011"),
            ("SANDBOX_ID", "box-1"),
            ("SESSION_API_KEY", "canary"),
            ("OH_SESSION_API_KEYS_0", "other"),
        ]);
        let found = found.unwrap();
        assert_eq!(
            (found.port, found.sandbox_id.as_deref()),
            (8011, Some("box-1"))
        );
        assert_eq!(found.key.expose_secret(), "canary");
        assert!(!format!("{found:?}").contains("canary"));
    }

    #[test]
    fn the_runtime_s_key_is_used_without_a_session_key() {
        let found = read(&[("SESSION_API_KEY", ""), ("OH_SESSION_API_KEYS_0", "k")]).unwrap();
        assert_eq!((found.port, found.sandbox_id), (PORT, None));
        assert_eq!(found.key.expose_secret(), "k");
    }

    #[test]
    fn missing_and_invalid_variables_are_rejected() {
        for variables in [
            &[][..],
            &[("SESSION_API_KEY", "k"), ("AGENT_SERVER_PORT", "http")],
            &[("SESSION_API_KEY", "k"), ("AGENT_SERVER_PORT", "0")],
            &[("SESSION_API_KEY", "k"), ("SANDBOX_ID", "../other")],
        ] {
            let error = read(variables).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
}
