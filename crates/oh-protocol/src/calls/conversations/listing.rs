//! Operations on several conversations: pages, counts, batches.

use serde_json::value::RawValue;

use super::super::{call, page, page::Unreadable, query};
use crate::{
    ConversationId, Error, ExecutionStatus, Request, json::open_enum::open_enum,
    state::ConversationInfo,
};

open_enum! {
    /// The order of conversations.
    Order {
        /// By creation time, oldest first.
        Created = "CREATED_AT",
        /// By creation time, newest first. The server default.
        CreatedDescending = "CREATED_AT_DESC",
        /// By modification time, oldest first.
        Updated = "UPDATED_AT",
        /// By modification time, newest first.
        UpdatedDescending = "UPDATED_AT_DESC",
    }
}

/// `GET /api/conversations/search`: returns a page of conversations.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Search {
    page_id: Option<String>,
    limit: u32,
    status: Option<ExecutionStatus>,
    order: Option<Order>,
    include_skills: bool,
}

/// A page of conversations.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Page {
    /// The conversations, without those that could not be decoded.
    pub items: Vec<ConversationInfo>,
    /// The items that could not be decoded, with the reason. Usually empty.
    pub unreadable: Vec<Unreadable>,
    /// The id of the next page, if there is one. For the id of a deleted conversation, the server
    /// returns the first page.
    pub next_page_id: Option<String>,
}

impl Default for Search {
    fn default() -> Self {
        Self::new()
    }
}

impl Search {
    /// Creates a call for all conversations, 100 per page.
    pub fn new() -> Self {
        Self {
            page_id: None,
            limit: 100,
            status: None,
            order: None,
            include_skills: false,
        }
    }

    /// Sets the id of the page, from an earlier response.
    pub fn page_id(mut self, page_id: impl Into<String>) -> Self {
        self.page_id = Some(page_id.into());
        self
    }

    /// Sets the number of conversations per page, from 1 to 100.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Limits the page to conversations with this status.
    pub fn status(mut self, status: ExecutionStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets the order.
    pub fn order(mut self, order: Order) -> Self {
        self.order = Some(order);
        self
    }

    /// Sets whether the agents' skills are included in full.
    pub fn include_skills(mut self, include: bool) -> Self {
        self.include_skills = include;
        self
    }
}

call!(Search => Page, GET "/api/conversations/search", Idempotent;
|this| {
    if !(1..=100).contains(&this.limit) {
        return Err(Error::invalid("the page limit of conversations must be between 1 and 100"));
    }
    let mut target = "/api/conversations/search".to_owned();
    query(&mut target, "limit", &this.limit.to_string());
    let rest = [
        ("page_id", this.page_id.as_deref()),
        ("status", this.status.as_ref().map(ExecutionStatus::as_str)),
        ("sort_order", this.order.as_ref().map(Order::as_str)),
        ("include_skills", this.include_skills.then_some("true")),
    ];
    for (name, value) in rest {
        if let Some(value) = value {
            query(&mut target, name, value);
        }
    }
    Ok(Request::new(http::Method::GET, target))
};
|answer| {
    let page: page::Page = page::items(&answer, "page of conversations")?;
    let (mut items, mut unreadable) = (Vec::new(), Vec::new());
    for (index, raw) in page.items.iter().enumerate() {
        match ConversationInfo::from_json(raw.get().as_bytes()) {
            Ok(info) => items.push(info),
            Err(error) => unreadable.push(Unreadable::new(index, error, raw.get())),
        }
    }
    Ok(Page { items, unreadable, next_page_id: page.next_page_id })
});

/// `GET /api/conversations/count`: returns the number of conversations.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Count {
    /// Limits the count to conversations with this status.
    pub status: Option<ExecutionStatus>,
}

call!(Count => u64, GET "/api/conversations/count", Idempotent;
|this| {
    let mut target = "/api/conversations/count".to_owned();
    if let Some(status) = &this.status {
        query(&mut target, "status", status.as_str());
    }
    Ok(Request::new(http::Method::GET, target))
};
|answer| answer.json("count of conversations"));

/// `GET /api/conversations?ids=…`: returns several conversations, at most 99, in the order of the
/// ids, with `None` for an unknown id. A conversation that could not be decoded has the requested
/// id and a [`ConversationInfo::flaw`].
#[derive(Debug, Clone, PartialEq)]
pub struct BatchGet(Vec<ConversationId>);

impl BatchGet {
    /// Creates a call for the conversations with these ids.
    pub fn new(ids: impl IntoIterator<Item = ConversationId>) -> Self {
        Self(ids.into_iter().collect())
    }
}

call!(BatchGet => Vec<Option<ConversationInfo>>, GET "/api/conversations", Idempotent;
|this| {
    if !(1..100).contains(&this.0.len()) {
        return Err(Error::invalid("a batch must have 1 to 99 conversations"));
    }
    let mut target = "/api/conversations".to_owned();
    for id in &this.0 {
        query(&mut target, "ids", &id.to_string());
    }
    Ok(Request::new(http::Method::GET, target))
};
|answer, asked| {
    let items: Vec<Option<Box<RawValue>>> = page::items(&answer, "batch of conversations")?;
    // The server returns the conversations in the order of the requested ids.
    let info = |(index, raw): (usize, Option<Box<RawValue>>)| {
        let id = asked.0.get(index).copied();
        raw.map(|raw| ConversationInfo::of(id, raw.get().as_bytes())).transpose()
    };
    items.into_iter().enumerate().map(info).collect()
});
