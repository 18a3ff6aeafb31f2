//! The conversations of a server: listed page by page, counted, or by id.

use std::{
    collections::HashSet,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use oh_protocol::{
    ConversationId, ExecutionStatus,
    calls::conversations::{self as calls, Order, Search},
    state::ConversationInfo,
};
use oh_transport::Client;

use super::pages::{self, Items, Page, Pages};
use crate::{Error, ErrorKind, Request, Result};

/// The maximum number of ids in one request.
const BATCH: usize = 99;

/// A stream of a server's conversations, which fetches each page when it is needed. Each
/// conversation is yielded once, even if the list changes during the iteration. A conversation that
/// is created during the iteration may be missing.
#[must_use = "a stream does nothing until it is read"]
pub struct ConversationList {
    client: Client,
    search: Search,
    tags: Vec<(String, String)>,
    items: Option<Items<ConversationInfo>>,
}

/// The conversations of a server.
#[derive(Debug, Clone)]
pub struct Conversations {
    client: Client,
}

impl Conversations {
    /// Returns the conversations of a client's server. Sends nothing.
    pub fn of(client: &Client) -> Self {
        Self {
            client: client.clone(),
        }
    }

    /// Lists the conversations of a server, newest first (`GET /api/conversations/search`).
    ///
    /// ```no_run
    /// # use futures_util::TryStreamExt;
    /// # async fn list(client: &oh_transport::Client) -> oh_conversation::Result<()> {
    /// use oh_conversation::Conversations;
    /// use oh_protocol::ExecutionStatus;
    ///
    /// let conversations = Conversations::of(client).list().tag("team", "tools");
    /// let mut failed = conversations.status(ExecutionStatus::Error);
    /// while let Some(info) = failed.try_next().await? {
    ///     println!("{} {}", info.id(), info.title().as_deref().unwrap_or("untitled"));
    /// }
    /// # Ok(()) }
    /// ```
    pub fn list(&self) -> ConversationList {
        ConversationList {
            client: self.client.clone(),
            search: Search::new(),
            tags: Vec::new(),
            items: None,
        }
    }

    /// Returns the number of conversations on the server, in total or with a status
    /// (`GET /api/conversations/count`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn count(&self, status: Option<ExecutionStatus>) -> Request<u64> {
        let this = self.clone();
        Request::new(async move {
            let mut call = calls::Count::default();
            call.status = status;
            let counted = this.client.call(&call).await;
            counted.map_err(|error| Error::server("count conversations", error))
        })
    }

    /// Returns conversations by their ids, in the same order; `None` for a conversation that the
    /// server does not have (`GET /api/conversations`). Any number of ids is possible; they are
    /// requested 99 at a time.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn batch(
        &self,
        ids: impl IntoIterator<Item = ConversationId>,
    ) -> Request<Vec<Option<ConversationInfo>>> {
        let ids: Vec<_> = ids.into_iter().collect();

        let this = self.clone();
        Request::new(async move { batch(&this.client, &ids).await })
    }

    /// Closes all conversations of the server (`POST …/prepare-for-sandbox-pause`). Call this
    /// before the sandbox around the server is stopped or moved, so that nothing is lost: running
    /// agents are paused, and all states are saved. It may take ten seconds for each run that does
    /// not stop.
    ///
    /// The next request for a conversation loads it again. Open links of other programs do not see
    /// the end; their sockets stay silent. [`Conversation::close`](crate::Conversation::close) the
    /// handles of this program first, and attach to the conversations again afterwards.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on servers without this
    /// endpoint.
    pub fn prepare_pause(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            let prepared = this.client.call(&calls::PreparePause::default()).await;
            prepared.map_err(|error| {
                Error::server("prepare the pause of the sandbox", error).of_kind(
                    |kind| match kind {
                        ErrorKind::NotFound | ErrorKind::Gone => ErrorKind::Unsupported,
                        kind => kind,
                    },
                )
            })
        })
    }
}

pub(crate) async fn batch(
    client: &Client,
    ids: &[ConversationId],
) -> Result<Vec<Option<ConversationInfo>>> {
    let mut all = Vec::with_capacity(ids.len());
    for some in ids.chunks(BATCH) {
        let found = client
            .call(&calls::BatchGet::new(some.iter().copied()))
            .await;
        all.extend(found.map_err(|error| Error::server("read conversations", error))?);
    }
    Ok(all)
}

impl ConversationList {
    /// Returns only conversations with this status.
    pub fn status(mut self, status: ExecutionStatus) -> Self {
        self.search = self.search.status(status);
        self
    }

    /// Returns only conversations with this tag. The server cannot filter by tags, so the client
    /// fetches all conversations and filters them.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// Sets the order. Default: newest first.
    pub fn order(mut self, order: Order) -> Self {
        self.search = self.search.order(order);
        self
    }

    /// Sets how many conversations are fetched per request, 1 to 100. Default: 100.
    pub fn page_size(mut self, conversations: u32) -> Self {
        self.search = self.search.limit(conversations);
        self
    }

    /// Sets whether the agents' skills are included in full, some 260 KB per conversation. Default:
    /// no.
    pub fn include_skills(mut self, include: bool) -> Self {
        self.search = self.search.include_skills(include);
        self
    }
}

struct Listing {
    client: Client,
    search: Search,
    tags: Vec<(String, String)>,
    seen: HashSet<ConversationId>,
}

impl Pages for Listing {
    type Item = ConversationInfo;

    async fn page(&mut self, page_id: Option<String>) -> Result<Page<ConversationInfo>> {
        let mut search = self.search.clone();
        if let Some(page_id) = page_id {
            search = search.page_id(page_id);
        }
        let page = self.client.call(&search).await;
        let page = page.map_err(|error| Error::server("list conversations", error))?;
        let mut items = page.items;
        // If the first conversation of a page has been deleted, the server returns the first page
        // again; conversations already yielded are skipped.
        items.retain(|info| self.seen.insert(info.id()) && self.wanted(info));
        Ok((items, page.next_page_id))
    }
}

impl Listing {
    fn wanted(&self, info: &ConversationInfo) -> bool {
        let tags = info.state().get("tags");
        self.tags.iter().all(|(key, value)| {
            let found = tags.and_then(|tags| tags.get(key)?.as_text());
            found.is_some_and(|found| found.as_str() == value)
        })
    }
}

impl ConversationList {
    /// Waits for the next conversation. Returns `None` at the end of the list. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<ConversationInfo>> {
        futures_util::StreamExt::next(self).await
    }
}

impl Stream for ConversationList {
    type Item = Result<ConversationInfo>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let begin = || {
            pages::items(Listing {
                client: this.client.clone(),
                search: this.search.clone(),
                tags: this.tags.clone(),
                seen: HashSet::new(),
            })
        };
        this.items.get_or_insert_with(begin).as_mut().poll_next(cx)
    }
}

impl fmt::Debug for ConversationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConversationList")
            .field("search", &self.search)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}
