//! The log of a conversation over the REST API.

use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use super::{call, page, page::Unreadable, query, segment};
use crate::{ConversationId, Error, Event, Request};

/// A filter for events. An event must match all fields that are set. The default matches all
/// events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventFilter {
    /// The kind of the event, such as `ActionEvent`.
    pub kind: Option<String>,
    /// The source: `agent`, `user`, `environment` or `hook`.
    pub source: Option<String>,
    /// A text that a message must contain, ignoring case.
    pub body: Option<String>,
    /// The earliest time, in ISO 8601. A time without an offset is the server's local time, like
    /// the timestamps of events.
    pub since: Option<String>,
    /// The latest time, exclusive, in the same format.
    pub before: Option<String>,
}

impl EventFilter {
    fn append_to(&self, target: &mut String) {
        for (name, value) in [
            ("kind", &self.kind),
            ("source", &self.source),
            ("body", &self.body),
            ("timestamp__gte", &self.since),
            ("timestamp__lt", &self.before),
        ] {
            if let Some(value) = value {
                query(target, name, value);
            }
        }
    }
}

/// `GET …/events/search`: returns a page of the log, in log order.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Search {
    conversation: ConversationId,
    page_id: Option<String>,
    limit: u32,
    filter: EventFilter,
    descending: bool,
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventPage {
    /// All events of the page, in the server's order and without gaps. An item that could not be
    /// decoded is converted with [`Event::from_json_lossy`], so that all others keep their index.
    pub items: Vec<Event>,
    /// The items that could not be decoded, with the reason. Usually empty.
    pub unreadable: Vec<Unreadable>,
    /// The id of the next page. `None` for the last page. For an unknown id, the server returns the
    /// first page.
    pub next_page_id: Option<String>,
}

impl Search {
    /// Creates a call for the first page of a conversation's events, at most 100.
    pub fn new(conversation: ConversationId) -> Self {
        Self {
            conversation,
            page_id: None,
            limit: 100,
            filter: EventFilter::default(),
            descending: false,
        }
    }

    /// Sets the id of the page, from an earlier response.
    pub fn page_id(mut self, page_id: impl Into<String>) -> Self {
        self.page_id = Some(page_id.into());
        self
    }

    /// Sets the number of events per page, from 1 to 100.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Limits the page to events of this kind, such as `ActionEvent`.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.filter.kind = Some(kind.into());
        self
    }

    /// Replaces the filter.
    pub fn filter(mut self, filter: EventFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets the order to newest first.
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }
}

call!(Search => EventPage, GET "/api/conversations/{conversation_id}/events/search", Idempotent;
|this| {
    if !(1..=100).contains(&this.limit) {
        return Err(Error::invalid("the page limit of events must be between 1 and 100"));
    }
    let mut target = format!("/api/conversations/{}/events/search", this.conversation);
    query(&mut target, "limit", &this.limit.to_string());
    if let Some(page_id) = &this.page_id {
        query(&mut target, "page_id", page_id);
    }
    this.filter.append_to(&mut target);
    if this.descending {
        query(&mut target, "sort_order", "TIMESTAMP_DESC");
    }
    Ok(Request::new(http::Method::GET, target))
};
|answer| {
    let page: page::Page = page::items(&answer, "page of events")?;
    let mut unreadable = Vec::new();
    let items = page.items.into_iter().enumerate().map(|(index, raw)| {
        // Each event owns its bytes, so that keeping one event does not keep its page in memory.
        let (event, flaw) = Event::kept(Box::<str>::from(raw).into_string().into());
        if let Some(flaw) = flaw {
            unreadable.push(Unreadable::new(index, flaw, event.as_json()));
        }
        event
    });
    Ok(EventPage { items: items.collect(), unreadable, next_page_id: page.next_page_id })
});

/// `GET …/events/count`: returns the number of events in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Count(ConversationId, EventFilter);

impl Count {
    /// Creates a call that counts the events of a conversation.
    pub fn new(conversation: ConversationId) -> Self {
        Self(conversation, EventFilter::default())
    }

    /// Limits the count to matching events.
    #[must_use]
    pub fn filter(mut self, filter: EventFilter) -> Self {
        self.1 = filter;
        self
    }
}

call!(Count => u64, GET "/api/conversations/{conversation_id}/events/count", Idempotent;
    |this| {
        let mut target = format!("/api/conversations/{}/events/count", this.0);
        this.1.append_to(&mut target);
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("count of events"));

/// `GET …/events/{event_id}`: returns one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Get(ConversationId, String);

impl Get {
    /// Creates a call for the event with this id.
    pub fn new(conversation: ConversationId, event_id: impl Into<String>) -> Self {
        Self(conversation, event_id.into())
    }
}

call!(Get => Event, GET "/api/conversations/{conversation_id}/events/{event_id}", Idempotent;
    |this| Ok(Request::new(
        http::Method::GET,
        format!("/api/conversations/{}/events/{}", this.0, segment(&this.1)),
    ));
    |answer| Event::from_json(answer.body));

/// `GET …/events` with ids in the body: returns several events, in the order of the ids, with
/// `None` for an id that is not in the log. An event that could not be decoded is converted with
/// [`Event::from_json_lossy`].
#[derive(Debug, Clone, PartialEq)]
pub struct BatchGet(ConversationId, Vec<String>);

impl BatchGet {
    /// Creates a call for the events with these ids.
    pub fn new<I: Into<String>>(
        conversation: ConversationId,
        event_ids: impl IntoIterator<Item = I>,
    ) -> Self {
        Self(
            conversation,
            event_ids.into_iter().map(Into::into).collect(),
        )
    }
}

call!(BatchGet => Vec<Option<Event>>, GET "/api/conversations/{conversation_id}/events", Idempotent;
|this| Request::new(http::Method::GET, format!("/api/conversations/{}/events", this.0))
    .json(&this.1);
|answer| {
    let items: Vec<Option<Box<RawValue>>> = page::items(&answer, "batch of events")?;
    let event = |raw| Event::kept(Box::<str>::from(raw).into_string().into()).0;
    Ok(items.into_iter().map(|raw| raw.map(event)).collect())
});

/// `POST …/events`: adds a user message to the log. Never retried, because the server cannot detect
/// a duplicate.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct SendMessage {
    conversation: ConversationId,
    content: Vec<UserContent>,
    run: bool,
    sender: Option<String>,
}

/// A part of a user message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum UserContent {
    /// A text.
    Text {
        /// The text.
        text: String,
    },
    /// Images, as URLs or `data:` URLs.
    Image {
        /// The URLs.
        image_urls: Vec<String>,
    },
}

impl UserContent {
    /// Creates a text part.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// Creates a part with one image, as a URL or a `data:` URL.
    pub fn image(url: impl Into<String>) -> Self {
        Self::Image {
            image_urls: vec![url.into()],
        }
    }
}

impl From<&str> for UserContent {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for UserContent {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl SendMessage {
    /// Creates a call that adds a message without starting a run.
    pub fn new(conversation: ConversationId, content: Vec<UserContent>) -> Self {
        Self {
            conversation,
            content,
            run: false,
            sender: None,
        }
    }

    /// Sets the sender. Servers up to 1.58 ignore it.
    pub fn sender(mut self, sender: impl Into<String>) -> Self {
        self.sender = Some(sender.into());
        self
    }

    /// Sets whether the message starts a run. If the server returns 429, it has saved the message
    /// nevertheless.
    pub fn run(mut self, run: bool) -> Self {
        self.run = run;
        self
    }
}

call!(SendMessage => (), POST "/api/conversations/{conversation_id}/events", Never;
    |this| {
        let target = format!("/api/conversations/{}/events", this.conversation);
        let mut body = json!({ "role": "user", "content": this.content, "run": this.run });
        if let Some(sender) = &this.sender {
            body["sender"] = sender.as_str().into();
        }
        Request::new(http::Method::POST, target).json(&body)
    };
    |answer| answer.done("response"));

/// `POST …/events/respond_to_confirmation`: approves or rejects all pending actions.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Respond {
    conversation: ConversationId,
    accept: bool,
    reason: Option<String>,
}

impl Respond {
    /// Creates a call that approves the actions. The run continues.
    pub fn accept(conversation: ConversationId) -> Self {
        Self {
            conversation,
            accept: true,
            reason: None,
        }
    }

    /// Creates a call that rejects the actions with a reason for the agent. No action is executed.
    pub fn reject(conversation: ConversationId, reason: impl Into<String>) -> Self {
        Self {
            conversation,
            accept: false,
            reason: Some(reason.into()),
        }
    }
}

call!(Respond => (), POST "/api/conversations/{conversation_id}/events/respond_to_confirmation",
    Never;
    |this| {
        let id = this.conversation;
        let target = format!("/api/conversations/{id}/events/respond_to_confirmation");
        let mut body = json!({ "accept": this.accept });
        if let Some(reason) = &this.reason {
            body["reason"] = reason.as_str().into();
        }
        Request::new(http::Method::POST, target).json(&body)
    };
    |answer| answer.done("response"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Call;

    #[test]
    fn filters_reach_search_and_count_alike() {
        let id = ConversationId::random();
        let filter = EventFilter {
            kind: Some("MessageEvent".into()),
            source: Some("user".into()),
            body: Some("a b&c".into()),
            since: Some("2026-01-02T03:04:05+01:00".into()),
            before: None,
        };
        let wanted = "kind=MessageEvent&source=user&body=a+b%26c&\
                      timestamp__gte=2026-01-02T03%3A04%3A05%2B01%3A00";
        let search = Search::new(id).filter(filter.clone()).request().unwrap();
        assert!(search.target.ends_with(wanted), "{}", search.target);
        let count = Count::new(id).filter(filter).request().unwrap();
        assert!(
            count.target.ends_with(&format!("count?{wanted}")),
            "{}",
            count.target
        );
    }

    #[test]
    fn a_message_names_its_sender_only_if_set() {
        let body =
            |send: SendMessage| String::from_utf8(send.request().unwrap().body.unwrap().to_vec());
        let send = SendMessage::new(ConversationId::random(), vec!["hi".into()]);
        assert!(!body(send.clone()).unwrap().contains("sender"));
        assert!(
            body(send.sender("bot"))
                .unwrap()
                .contains(r#""sender":"bot""#)
        );
    }
}
