//! The settings that every kind of server has, for this crate and for `oh-sandbox`.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::LogLevel;

/// Keys, log level and deadline of a server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The session keys that the server accepts. If there is none, a random one is used.
    pub keys: Vec<SecretString>,
    /// The key that encrypts what the server stores.
    pub secret_key: Option<SecretString>,
    /// The log level. Default [`LogLevel::Info`].
    pub log_level: LogLevel,
    /// Time in which the server must become ready. Default 180 s.
    pub deadline: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            secret_key: None,
            log_level: LogLevel::Info,
            deadline: Duration::from_secs(180),
        }
    }
}

/// Checks a session key or secret key of a caller.
///
/// # Errors
///
/// Returns the reason if the key is masked, too short, or cannot be in a header.
pub fn check_key(key: &SecretString) -> Result<(), &'static str> {
    let key = key.expose_secret();
    if key.chars().all(|c| c == '*') {
        return Err("a key is masked (`****`): pass the real key");
    }
    if key.len() < 16 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a key must be at least 16 visible ASCII characters");
    }
    Ok(())
}

/// Defines the setters of [`ServerOptions`] in a builder. The parameters are where the builder has
/// them, and what the documentation adds about the secret key and the deadline.
#[doc(hidden)]
#[macro_export]
macro_rules! server_setters {
    ($($place:ident).+; $(#[$secret:meta])* secret_key; $(#[$deadline:meta])* ready_within) => {
        /// Adds a session key that the server accepts. The server's own client uses the first one.
        /// Default: a random key. At least 16 characters.
        pub fn session_api_key(mut self, key: impl Into<::secrecy::SecretString>) -> Self {
            self.$($place).+.keys.push(key.into());
            self
        }

        /// Sets the key that encrypts the data that the server stores. Default: a random key.
        $(#[$secret])*
        pub fn secret_key(mut self, key: impl Into<::secrecy::SecretString>) -> Self {
            self.$($place).+.secret_key = Some(key.into());
            self
        }

        /// Sets the server's log level. Default [`LogLevel::Info`]($crate::LogLevel::Info).
        pub fn log_level(mut self, level: $crate::LogLevel) -> Self {
            self.$($place).+.log_level = level;
            self
        }

        $(#[$deadline])*
        pub fn ready_within(mut self, deadline: ::std::time::Duration) -> Self {
            self.$($place).+.deadline = deadline;
            self
        }
    };
}
