//! Other histories: forks, places in the log, conversations under a conversation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{super::call, check_tags, check_title};
use crate::{
    Answer, ConversationId, Error, Request, open_enum::open_enum, state::ConversationInfo,
};

/// `POST …/fork`: a copy of a conversation under another id. Events keep their ids; secrets and
/// policies set at run time, and keys given with the agent, are not copied. 409 where the id is
/// taken.
///
/// It always carries an id: sent again, it is answered 409 rather than copying twice.
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Fork {
    #[serde(skip)]
    conversation: ConversationId,
    id: ConversationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<BTreeMap<String, String>>,
    reset_metrics: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_event_id: Option<String>,
}

impl Fork {
    /// Of this conversation, under a fresh random id.
    pub fn new(conversation: ConversationId) -> Self {
        Self {
            conversation,
            id: ConversationId::random(),
            title: None,
            tags: None,
            reset_metrics: true,
            from_event_id: None,
        }
    }

    /// Sets the id of the copy.
    pub fn id(mut self, id: ConversationId) -> Self {
        self.id = id;
        self
    }

    /// Returns the id that the copy is to have.
    #[must_use]
    pub fn copy_id(&self) -> ConversationId {
        self.id
    }

    /// Its title, 1 to 200 characters.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Its tags, instead of the original's.
    pub fn tags(mut self, tags: BTreeMap<String, String>) -> Self {
        self.tags = Some(tags);
        self
    }

    /// Whether its cost begins at zero. Default: yes.
    pub fn reset_metrics(mut self, reset: bool) -> Self {
        self.reset_metrics = reset;
        self
    }

    /// Copies up to this event only. 404 where the log does not have it.
    pub fn from_event(mut self, event_id: impl Into<String>) -> Self {
        self.from_event_id = Some(event_id.into());
        self
    }
}

call!(Fork => ConversationInfo, POST "/api/conversations/{conversation_id}/fork", Never;
|this| {
    this.title.as_deref().map_or(Ok(()), check_title)?;
    this.tags.as_ref().map_or(Ok(()), check_tags)?;
    Request::new(http::Method::POST, format!("/api/conversations/{}/fork", this.conversation))
        .json(this)
};
|answer| ConversationInfo::from_json(&answer.body));

/// `POST …/navigate`: goes on from another place in the log; what came after it stays in the log
/// but is no longer of the visible branch. 404 where the log does not have the event.
#[derive(Debug, Clone, Serialize)]
pub struct Navigate {
    #[serde(skip)]
    conversation: ConversationId,
    event_id: Option<String>,
}

impl Navigate {
    /// To this event: the next one follows it.
    pub fn to(conversation: ConversationId, event_id: impl Into<String>) -> Self {
        Self {
            conversation,
            event_id: Some(event_id.into()),
        }
    }

    /// To before the first event.
    pub fn to_start(conversation: ConversationId) -> Self {
        Self {
            conversation,
            event_id: None,
        }
    }
}

call!(Navigate => ConversationInfo, POST "/api/conversations/{conversation_id}/navigate", Idempotent;
    |this| Request::new(
        http::Method::POST,
        format!("/api/conversations/{}/navigate", this.conversation),
    ).json(this);
    |answer| ConversationInfo::from_json(&answer.body));

open_enum! {
    /// Where a conversation under another works.
    Isolation {
        /// In a git worktree of its own. The repository needs a commit, or the server fails.
        Worktree = "worktree",
        /// In the same directory.
        Shared = "shared",
    }
}

/// `POST …/children`: starts a conversation under this one, with the same agent, on a task.
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct StartChild {
    #[serde(skip)]
    conversation: ConversationId,
    task: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    isolation: Option<Isolation>,
}

/// A conversation that was started under another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Child {
    /// Its id.
    pub conversation_id: ConversationId,
    /// The other's id.
    pub parent_conversation_id: ConversationId,
    /// What it is doing.
    pub status: String,
    /// Its title.
    #[serde(default)]
    pub title: Option<String>,
    /// Where to look at it.
    #[serde(default)]
    pub url: Option<String>,
    /// Where it works, a path of the server.
    #[serde(default)]
    pub workspace: Option<String>,
    /// Whether that is its own.
    #[serde(default)]
    pub isolation: Option<Isolation>,
}

impl StartChild {
    /// On this task.
    pub fn new(conversation: ConversationId, task: impl Into<String>) -> Self {
        Self {
            conversation,
            task: task.into(),
            title: None,
            isolation: None,
        }
    }

    /// Its title.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Where it works. Server's default: in a worktree.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }
}

call!(StartChild => Child, POST "/api/conversations/{conversation_id}/children", Never;
|this| {
    if this.task.trim().is_empty() {
        return Err(Error::invalid("a conversation under another needs a task"));
    }
    Request::new(http::Method::POST, format!("/api/conversations/{}/children", this.conversation))
        .json(this)
};
|answer| Answer::json(&answer, "started conversation"));
