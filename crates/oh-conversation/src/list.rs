//! The conversations of a server, page by page. Knows no single one of them.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use http::Method;
use oh_protocol::{
    Answer, Call, ExecutionStatus, Operation, Repeat, Request, state::ConversationInfo,
};
use oh_transport::Client;
use serde_json::value::RawValue;

use crate::{Conversation, Error, Result};

const ROUTE: &str = "/api/conversations/search";

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

struct Page {
    page_id: Option<String>,
    status: Option<ExecutionStatus>,
}

struct Found {
    items: VecDeque<ConversationInfo>,
    next: Option<String>,
}

impl Call for Page {
    type Output = Found;

    fn operation(&self) -> Operation {
        Operation::new(Method::GET, ROUTE, Repeat::Idempotent)
    }

    fn request(&self) -> oh_protocol::Result<Request> {
        let mut target = format!("{ROUTE}?limit=100&sort_order=CREATED_AT_DESC");
        // Both are words of the server: hex, or a name of lower-case letters.
        if let Some(page_id) = &self.page_id {
            target.push_str("&page_id=");
            target.push_str(page_id);
        }
        if let Some(status) = &self.status {
            target.push_str("&status=");
            target.push_str(status.as_str());
        }
        Ok(Request::new(Method::GET, target))
    }

    fn decode(&self, answer: Answer) -> oh_protocol::Result<Found> {
        #[derive(serde::Deserialize)]
        struct Wire {
            items: Vec<Box<RawValue>>,
            next_page_id: Option<String>,
        }
        let wire: Wire = answer.json("page of conversations")?;
        let items = wire.items.iter();
        let items = items.map(|item| ConversationInfo::from_json(item.get().as_bytes()));
        Ok(Found {
            items: items.collect::<oh_protocol::Result<_>>()?,
            next: wire.next_page_id,
        })
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
                        let page = Page {
                            page_id,
                            status: status.clone(),
                        };
                        match client.call(&page).await {
                            Ok(found) => Next::Item(found.items, found.next),
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
