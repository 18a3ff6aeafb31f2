//! The conversations of a server, page by page. Knows no single one of them.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use oh_protocol::{ExecutionStatus, calls::conversations::Search, state::ConversationInfo};
use oh_transport::Client;

use crate::{Conversation, Error, Result};

/// Conversations of a server, newest first: a stream, asked for page by page as it is read.
#[must_use = "a stream does nothing until it is read"]
pub struct Conversations {
    client: Client,
    status: Option<ExecutionStatus>,
    pages: Option<Pin<Box<dyn Stream<Item = Result<ConversationInfo>> + Send>>>,
}

impl Conversation {
    /// The conversations of a server.
    pub fn list(client: &Client) -> Conversations {
        Conversations {
            client: client.clone(),
            status: None,
            pages: None,
        }
    }
}

impl Conversations {
    /// Only those that are doing this.
    pub fn status(mut self, status: ExecutionStatus) -> Self {
        self.status = Some(status);
        self
    }
}

enum Next {
    Item(VecDeque<ConversationInfo>, Option<String>),
    Page(Option<String>),
    End,
}

fn pages(
    client: Client,
    status: Option<ExecutionStatus>,
) -> Pin<Box<dyn Stream<Item = Result<ConversationInfo>> + Send>> {
    let first = (Next::Page(None), client, status);
    Box::pin(futures_util::stream::unfold(
        first,
        |(mut next, client, status)| async move {
            loop {
                next = match next {
                    Next::End => return None,
                    Next::Item(mut items, after) => match items.pop_front() {
                        Some(info) => {
                            return Some((Ok(info), (Next::Item(items, after), client, status)));
                        }
                        None if after.is_some() => Next::Page(after),
                        None => Next::End,
                    },
                    Next::Page(page_id) => {
                        let mut search = Search::new();
                        if let Some(page_id) = page_id {
                            search = search.page_id(page_id);
                        }
                        if let Some(status) = &status {
                            search = search.status(status.clone());
                        }
                        match client.call(&search).await {
                            Ok(found) => Next::Item(found.items.into(), found.next_page_id),
                            Err(error) => {
                                let error = Error::server("list conversations", error);
                                return Some((Err(error), (Next::End, client, status)));
                            }
                        }
                    }
                };
            }
        },
    ))
}

impl Stream for Conversations {
    type Item = Result<ConversationInfo>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (client, status) = (self.client.clone(), self.status.clone());
        let stream = self.pages.get_or_insert_with(|| pages(client, status));
        stream.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Conversations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversations")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
