//! What not every server has, how it is recognised, and for how long it is remembered.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use oh_protocol::calls::server::ServerInfo;
use tokio::{sync::Mutex, time::Instant};

use crate::{Error, ErrorKind, Result};

/// How long what the server says of itself is believed.
const AGE: Duration = Duration::from_secs(30);

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

/// What the server said of itself, and when.
#[derive(Default)]
pub(crate) struct Info {
    known: Mutex<Option<(Instant, Arc<ServerInfo>)>>,
    doubtful: AtomicBool,
}

impl Info {
    /// What is known, or else what `ask` gives. Of several callers only one asks.
    pub(crate) async fn get(
        &self,
        ask: impl Future<Output = Result<Arc<ServerInfo>>>,
    ) -> Result<Arc<ServerInfo>> {
        let mut known = self.known.lock().await;
        if !self.doubtful.load(Ordering::Acquire)
            && let Some((since, info)) = &*known
            && since.elapsed() < AGE
        {
            return Ok(info.clone());
        }
        // A failure while the question is under way counts for its answer, too.
        self.doubtful.store(false, Ordering::Release);
        *known = None;
        let info = ask.await?;
        *known = Some((Instant::now(), info.clone()));
        Ok(info)
    }

    /// Notes that another server may be there now.
    pub(crate) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Release);
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
