//! Forks, navigation in the log, and child conversations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{super::call, check_tags, check_title};
use crate::{
    Answer, ConversationId, Error, Request, json::open_enum::open_enum, state::ConversationInfo,
};

/// `POST …/fork`: copies a conversation to another id. Events keep their ids. Secrets and policies
/// that were set at run time, and keys in the agent's configuration, are not copied. Returns 409 if
/// the id exists.
///
/// The request always contains an id, so a repeated request returns 409 instead of creating a
/// second copy.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Creates a fork of this conversation with a new random id.
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

    /// Returns the id of the copy.
    #[must_use]
    pub fn copy_id(&self) -> ConversationId {
        self.id
    }

    /// Sets the title, 1 to 200 characters.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets the tags, which replace those of the original.
    pub fn tags(mut self, tags: BTreeMap<String, String>) -> Self {
        self.tags = Some(tags);
        self
    }

    /// Sets whether the cost starts at zero. Default: true.
    pub fn reset_metrics(mut self, reset: bool) -> Self {
        self.reset_metrics = reset;
        self
    }

    /// Copies only the events up to and including this one. Returns 404 if the event is not in the
    /// log.
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

/// `POST …/navigate`: continues from another event in the log. Later events stay in the log, but
/// are not part of the visible branch. Returns 404 if the event is not in the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Navigate {
    #[serde(skip)]
    conversation: ConversationId,
    event_id: Option<String>,
}

impl Navigate {
    /// Creates a call that navigates to this event, which the next event follows.
    pub fn to(conversation: ConversationId, event_id: impl Into<String>) -> Self {
        Self {
            conversation,
            event_id: Some(event_id.into()),
        }
    }

    /// Creates a call that navigates to the start, before the first event.
    pub fn to_start(conversation: ConversationId) -> Self {
        Self {
            conversation,
            event_id: None,
        }
    }
}

call!(Navigate => ConversationInfo, POST "/api/conversations/{conversation_id}/navigate",
    Idempotent;
    |this| Request::new(
        http::Method::POST,
        format!("/api/conversations/{}/navigate", this.conversation),
    ).json(this);
    |answer| ConversationInfo::from_json(&answer.body));

open_enum! {
    /// The workspace of a child conversation.
    Isolation {
        /// A separate git worktree. The call fails if the repository has no commit.
        Worktree = "worktree",
        /// The parent's directory.
        Shared = "shared",
    }
}

/// `POST …/children`: starts a child conversation with the same agent and a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

/// A child conversation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Child {
    /// The id of the child conversation.
    pub conversation_id: ConversationId,
    /// The id of the parent conversation.
    pub parent_conversation_id: ConversationId,
    /// The execution status.
    pub status: String,
    /// The title.
    #[serde(default)]
    pub title: Option<String>,
    /// The URL of the child conversation.
    #[serde(default)]
    pub url: Option<String>,
    /// The workspace, as a path on the server.
    #[serde(default)]
    pub workspace: Option<String>,
    /// The isolation of the workspace.
    #[serde(default)]
    pub isolation: Option<Isolation>,
}

impl StartChild {
    /// Creates a call with this task.
    pub fn new(conversation: ConversationId, task: impl Into<String>) -> Self {
        Self {
            conversation,
            task: task.into(),
            title: None,
            isolation: None,
        }
    }

    /// Sets the title.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets the workspace. Server default: a worktree.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }
}

call!(StartChild => Child, POST "/api/conversations/{conversation_id}/children", Never;
|this| {
    if this.task.trim().is_empty() {
        return Err(Error::invalid("the task of a child conversation must not be empty"));
    }
    Request::new(http::Method::POST, format!("/api/conversations/{}/children", this.conversation))
        .json(this)
};
|answer| Answer::json(&answer, "started conversation"));
