//! How a server was started: cold, or forked from a template.

use std::fmt;

/// How a server was started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Startup {
    /// In its own process, which imported the server's modules. No template was set.
    Cold,
    /// Forked from a [`TemplateServer`](crate::TemplateServer).
    Forked,
    /// Cold, although a template was set. Contains the reason, such as a variable that the template
    /// fixes.
    Fallback(String),
}

impl fmt::Display for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cold => f.write_str("started cold"),
            Self::Forked => f.write_str("forked from a template"),
            Self::Fallback(reason) => write!(f, "started cold: {reason}"),
        }
    }
}
