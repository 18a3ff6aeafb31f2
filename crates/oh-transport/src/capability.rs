//! Optional capabilities of a server: detection and caching.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use oh_protocol::calls::server::{OLDEST_SUPPORTED, ServerInfo};
use tokio::{sync::Mutex, time::Instant};

use crate::{Error, ErrorKind, Result};

/// The time for which the cached server information is valid.
const AGE: Duration = Duration::from_secs(30);

/// An optional capability of a server. Check it with [`Client::has`](crate::Client::has).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// `/sockets/session/{conversation_id}`: history and live events on one socket (1.45).
    SessionSocket,
    /// Safe retries of conversation creation with the same id.
    IdempotentCreate,
    /// The routes of a conversation's own runtime, such as `/api/conversations/{id}/bash`.
    ConversationRoutes,
    /// A tool that agents can use on this server, by name.
    Tool(String),
    /// Any other entry in the server's list of capabilities, by name.
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

/// The cached information about a server, with the time of the request.
#[derive(Default)]
pub(crate) struct Info {
    known: Mutex<Option<(Instant, Arc<ServerInfo>)>>,
    doubtful: AtomicBool,
}

impl Info {
    /// Returns the cached information, or runs `ask` to get it. Only one of several concurrent
    /// callers runs `ask`.
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
        // Clear the flag before the request: a failure during the request must also invalidate the
        // response.
        self.doubtful.store(false, Ordering::Release);
        *known = None;
        let info = ask.await?;
        *known = Some((Instant::now(), info.clone()));
        Ok(info)
    }

    /// Invalidates the cache, because the server may have been replaced.
    pub(crate) fn invalidate(&self) {
        self.doubtful.store(true, Ordering::Release);
    }
}

/// Returns an error if the server is too old. An invalid version counts as newer.
pub(crate) fn check_age(info: &ServerInfo) -> Result<()> {
    if info.is_supported() {
        return Ok(());
    }
    let (version, (major, minor, patch)) = (&info.version, OLDEST_SUPPORTED);
    let context =
        format!("server {version} is not supported: use version {major}.{minor}.{patch} or newer");
    Err(Error::new(ErrorKind::Unsupported, context))
}
