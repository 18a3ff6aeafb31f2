//! The conversations of a server: page by page, counted, by their ids. Knows no single one of
//! them.

use std::{
    collections::{HashSet, VecDeque},
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

use crate::{Conversation, Error, Result};

/// How many conversations the server gives by their ids at once.
const BATCH: usize = 99;

/// Conversations of a server: a stream, asked for page by page as it is read. Each is given
/// once, also when the list changes meanwhile; one that is created while it is read may be
/// missed.
#[must_use = "a stream does nothing until it is read"]
pub struct Conversations {
    client: Client,
    search: Search,
    tags: Vec<(String, String)>,
    pages: Option<Pages>,
}

type Pages = Pin<Box<dyn Stream<Item = Result<ConversationInfo>> + Send>>;

impl Conversation {
    /// The conversations of a server, newest first (`GET /api/conversations/search`).
    ///
    /// ```no_run
    /// # use futures_util::TryStreamExt;
    /// # async fn list(client: &oh_transport::Client) -> oh_conversation::Result<()> {
    /// use oh_conversation::Conversation;
    /// use oh_protocol::ExecutionStatus;
    ///
    /// let mut failed = Conversation::list(client).status(ExecutionStatus::Error).tag("team", "tools");
    /// while let Some(info) = failed.try_next().await? {
    ///     println!("{} {}", info.id(), info.title().as_deref().unwrap_or("untitled"));
    /// }
    /// # Ok(()) }
    /// ```
    pub fn list(client: &Client) -> Conversations {
        Conversations {
            client: client.clone(),
            search: Search::new(),
            tags: Vec::new(),
            pages: None,
        }
    }

    /// How many conversations the server has, all or those that are doing this
    /// (`GET /api/conversations/count`).
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub async fn count(client: &Client, status: Option<ExecutionStatus>) -> Result<u64> {
        let mut call = calls::Count::default();
        call.status = status;
        let counted = client.call(&call).await;
        counted.map_err(|error| Error::server("count conversations", error))
    }

    /// Conversations by their ids, in the same order; nothing for one that the server does not
    /// have (`GET /api/conversations`). Any number: it asks for 99 at a time.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub async fn batch(
        client: &Client,
        ids: impl IntoIterator<Item = ConversationId>,
    ) -> Result<Vec<Option<ConversationInfo>>> {
        let ids: Vec<_> = ids.into_iter().collect();
        batch(client, &ids).await
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

impl Conversations {
    /// Only those that are doing this.
    pub fn status(mut self, status: ExecutionStatus) -> Self {
        self.search = self.search.status(status);
        self
    }

    /// Only those with this tag. The server cannot filter by it: the others are read, too, and
    /// left out here.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// In this order. Default: newest first.
    pub fn order(mut self, order: Order) -> Self {
        self.search = self.search.order(order);
        self
    }

    /// How many are asked for at once, 1 to 100. Default: 100.
    pub fn page_size(mut self, conversations: u32) -> Self {
        self.search = self.search.limit(conversations);
        self
    }

    /// Whether the skills of agents are told at length, some 260 KB each. Default: no.
    pub fn include_skills(mut self, include: bool) -> Self {
        self.search = self.search.include_skills(include);
        self
    }
}

/// What is left to be given.
struct Reading {
    client: Client,
    search: Search,
    tags: Vec<(String, String)>,
    items: VecDeque<ConversationInfo>,
    seen: HashSet<ConversationId>,
    next: Next,
}

enum Next {
    First,
    Page(String),
    End,
}

impl Reading {
    async fn next(mut self) -> Option<(Result<ConversationInfo>, Self)> {
        loop {
            if let Some(info) = self.items.pop_front() {
                if self.seen.insert(info.id()) && self.wanted(&info) {
                    return Some((Ok(info), self));
                }
                continue;
            }
            let search = match std::mem::replace(&mut self.next, Next::End) {
                Next::End => return None,
                Next::First => self.search.clone(),
                Next::Page(page_id) => self.search.clone().page_id(page_id),
            };
            match self.client.call(&search).await {
                Ok(page) => {
                    // One that begins with a conversation deleted meanwhile is the first page
                    // again: what was given already is passed over.
                    self.items = page.items.into();
                    self.next = page.next_page_id.map_or(Next::End, Next::Page);
                }
                Err(error) => {
                    let error = Error::server("list conversations", error);
                    return Some((Err(error), self));
                }
            }
        }
    }

    fn wanted(&self, info: &ConversationInfo) -> bool {
        let tags = info.state().get("tags");
        self.tags.iter().all(|(key, value)| {
            let found = tags.and_then(|tags| tags.get(key)?.as_text());
            found.is_some_and(|found| found.as_str() == value)
        })
    }
}

impl Conversations {
    /// Waits for the next conversation; `None` at the end of the list. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<ConversationInfo>> {
        futures_util::StreamExt::next(self).await
    }
}

impl Stream for Conversations {
    type Item = Result<ConversationInfo>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pages.is_none() {
            let reading = Reading {
                client: self.client.clone(),
                search: self.search.clone(),
                tags: self.tags.clone(),
                items: VecDeque::new(),
                seen: HashSet::new(),
                next: Next::First,
            };
            let pages = futures_util::stream::unfold(reading, Reading::next);
            self.pages = Some(Box::pin(pages));
        }
        match &mut self.pages {
            Some(pages) => pages.as_mut().poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

impl fmt::Debug for Conversations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversations")
            .field("search", &self.search)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}
