//! Identifiers of server objects.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Result};

/// The id of a conversation: a UUID, chosen by the client or by the server.
///
/// Most responses contain the id with dashes; some (page ids, webhook paths, directory names)
/// contain it as plain hex. Both forms are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConversationId(Uuid);

impl ConversationId {
    /// Creates a new random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Returns the UUID.
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }

    /// Returns the id without dashes, as required by some endpoints.
    pub fn to_hex(&self) -> String {
        self.0.simple().to_string()
    }
}

impl From<Uuid> for ConversationId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl FromStr for ConversationId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self).map_err(|_| {
            Error::invalid("a conversation id must be a UUID, with or without dashes".to_owned())
        })
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
