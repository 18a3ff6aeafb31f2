//! Branches of the history: navigation in the log, and the visible branch.

use oh_protocol::{Event, calls::conversations::Navigate};

use crate::{
    Conversation, Error, ErrorKind, Request, Result,
    gate::Standing,
    mirror::head::{Head, walk},
};

/// The branches of a conversation's history: see [`Conversation::branches`].
#[derive(Debug, Clone)]
pub struct Branches {
    pub(crate) conversation: Conversation,
}

impl Conversation {
    /// Returns the branches of the history: the visible one, navigation, and forks.
    pub fn branches(&self) -> Branches {
        Branches {
            conversation: self.clone(),
        }
    }
}

impl Branches {
    /// Continues from another event: the next event follows it, and later events stay in the log
    /// but not in the visible [branch](Self::current) (`POST …/navigate`).
    ///
    /// An action that has no result in the branch is open, also if it was executed in another
    /// branch. If a policy asks for it, it waits for approval again.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFound`] if the log does not have the event, and
    /// [`ErrorKind::Conflict`] while a run or a [goal](crate::Goals) is in progress: it would
    /// execute the open actions of the other branch without approval. Returns
    /// [`ErrorKind::Timeout`] if the standing of the conversation cannot be determined in time.
    ///
    /// The request is sent once. Returns [`ErrorKind::Ambiguous`] if the connection failed, or a
    /// gateway gave up waiting for the server, and the server does not report this head.
    pub fn navigate(&self, event_id: impl Into<String>) -> Request<()> {
        let event_id = event_id.into();
        let call = Navigate::to(self.conversation.id(), event_id.clone());
        self.go(call, Head::Event(event_id))
    }

    /// Continues from before the first event (`POST …/navigate`).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`navigate`](Self::navigate).
    pub fn navigate_to_start(&self) -> Request<()> {
        let call = Navigate::to_start(self.conversation.id());
        self.go(call, Head::Start)
    }

    fn go(&self, call: Navigate, head: Head) -> Request<()> {
        let conversation = self.conversation.clone();
        Request::new(async move {
            // No run of this process starts between the check and the response.
            let turn = conversation.turn_soon().await?;
            conversation.check_before_navigation().await?;
            let moved = conversation.clone();
            let sent = tokio::spawn(async move {
                // Not repeated: a run of another program may have started after the check.
                let answer = moved.client().call(&call).single_attempt().await;
                match answer {
                    Err(error) if error.is_unclear() => {
                        moved.look_at_head().await?;
                        if moved.known_head().0 != head {
                            return Err(Error::ambiguous(moved.id(), "moved the head", error));
                        }
                    }
                    answer => {
                        let named = |error| Error::naming(moved.id(), "navigate", error);
                        answer.map_err(named)?;
                    }
                }
                moved.navigated(head);
                drop(turn);
                Ok(())
            });
            let ended = |_| {
                let what = "the task that sends the request ended, for example because the tokio \
                            runtime was shut down";
                Err(Error::new(ErrorKind::Closed, conversation.id(), what))
            };
            sent.await.unwrap_or_else(ended)
        })
    }

    /// Returns the id of the event that the next event follows; `None` before the first.
    ///
    /// The server does not announce navigation by another program. It becomes visible with the next
    /// full state, or when a run asks the server for the head.
    pub fn head(&self) -> Option<String> {
        let log = self.conversation.mirror().read().log.clone();
        let (head, _) = self.conversation.known_head();
        head.id(log.range(0..log.end())).map(str::to_owned)
    }

    /// Returns the visible branch: the events from the first to the [`head`](Self::head), following
    /// their parents. Events that [`navigate`](Self::navigate) left behind are omitted;
    /// [`events`](Conversation::events) has them. State changes, which belong to no branch, are
    /// omitted too. The branch goes back as far as events are held.
    pub fn current(&self) -> Vec<Event> {
        let events: Vec<Event> = self.conversation.events().iter().cloned().collect();
        walk(&events, &self.conversation.known_head().0).0
    }
}

impl Conversation {
    /// Checks that nothing runs that would execute the open actions of another branch.
    async fn check_before_navigation(&self) -> Result<()> {
        let busy = || {
            let what = "a run or a goal is in progress, and could execute actions of the other \
                        branch without approval";
            let error = Error::new(ErrorKind::Conflict, self.id(), what);
            error.advise("interrupt it, or wait for its end with `join`")
        };
        // A run that was accepted may not be in the log yet.
        for last in [false, true] {
            if matches!(self.standing_soon().await?, Standing::Running)
                || self.pursues_goal().await?
                || !last && !self.is_vacant().await
            {
                return Err(busy());
            }
        }
        Ok(())
    }
}
