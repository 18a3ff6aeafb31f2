//! What not every server has, and how it is told. The one place that knows.

use oh_protocol::calls::server::ServerInfo;

use crate::{Error, ErrorKind, Result};

/// The oldest server whose wire we know.
const OLDEST: (u32, u32, u32) = (1, 40, 0);

/// Something that not every server has; ask with [`Client::has`](crate::Client::has).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// `/sockets/session/{conversation_id}`: history and live events on one socket (1.45).
    SessionSocket,
    /// A conversation's creation may be sent again under the same id.
    IdempotentCreate,
    /// The routes of a conversation's own runtime, `/api/conversations/{id}/bash` and others.
    ConversationRoutes,
    /// A tool that agents can use there, by name.
    Tool(String),
    /// Another entry of the server's own list, by name.
    Other(String),
}

impl Capability {
    pub(crate) fn is_in(&self, info: &ServerInfo) -> bool {
        let lists = |name: &str| info.capabilities.iter().any(|known| known == name);
        match self {
            Self::SessionSocket => info.has_session_socket(),
            Self::IdempotentCreate => lists("idempotent_conversation_create_v1"),
            Self::ConversationRoutes => lists("conversation_runtime_routes_v1"),
            Self::Tool(name) => info.usable_tools.contains(name),
            Self::Other(name) => lists(name),
        }
    }
}

/// Refuses a server that is too old. A version that does not read as one counts as newer.
pub(crate) fn check_age(info: &ServerInfo) -> Result<()> {
    match info.version_numbers() {
        Some(version) if version < OLDEST => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "server {} is too old: 1.40 or newer is needed",
                info.version
            ),
        )),
        _ => Ok(()),
    }
}
