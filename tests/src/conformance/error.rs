//! The reason why a scene has ended early.

use std::fmt;

use openhands::Error;

/// The reason for the early end of a scene.
#[derive(Debug)]
#[non_exhaustive]
pub enum SceneError {
    /// An error of the client.
    Client(Error),
    /// The scene has seen something unexpected.
    Unexpected(String),
}

impl<E: Into<Error>> From<E> for SceneError {
    fn from(error: E) -> Self {
        Self::Client(error.into())
    }
}

impl fmt::Display for SceneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => write!(f, "{:?}: {error}", error.kind()),
            Self::Unexpected(message) => f.write_str(message),
        }
    }
}

/// Ends a scene unless the condition holds.
pub(super) fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<(), SceneError> {
    match condition {
        true => Ok(()),
        false => Err(SceneError::Unexpected(message())),
    }
}
