//! Requests that could approve a pending action, and messages: each is sent once, and one at a
//! time.

use std::{future::ready, time::Duration};

use oh_protocol::Call;
use oh_transport::{Client, Error, ErrorKind, Result};
use tokio::{sync::OwnedMutexGuard, task::JoinHandle, time};

use crate::{Conversation, mirror::answered::Answered};

/// Timeout of a request: on older servers it takes as long as a running tool.
const LONGEST: Duration = Duration::from_secs(600);

/// The right to send a request that could approve a pending action, or a message.
pub(crate) struct Turn {
    guards: Vec<OwnedMutexGuard<()>>,
}

impl Turn {
    /// Waits for the turn to check and send. The turn ends when it is dropped.
    async fn wait(answered: &Answered) -> Self {
        Self {
            guards: vec![answered.lock_turn().await],
        }
    }

    /// Sends a request once. The turn ends with its response, even if the caller no longer waits
    /// for it: a request in flight can still approve.
    pub(crate) fn send<C>(self, client: &Client, call: C) -> JoinHandle<Result<C::Output>>
    where
        C: Call + 'static,
        C::Output: 'static,
    {
        self.send_then(client, call, ready(()))
    }

    /// Does the same as [`send`](Self::send), and awaits `done` after a successful response, before
    /// the turn ends.
    pub(crate) fn send_then<C>(
        self,
        client: &Client,
        call: C,
        done: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<Result<C::Output>>
    where
        C: Call + 'static,
        C::Output: 'static,
    {
        let client = client.clone();
        tokio::spawn(async move {
            let answer = client.call(&call).timeout(LONGEST).single_attempt().await;
            if answer.is_ok() {
                done.await;
            }
            drop(self);
            answer
        })
    }
}

impl Conversation {
    /// Waits for the turn to send a request that could approve, unless the link ends.
    pub(crate) async fn turn(&self) -> crate::Result<Turn> {
        let turn = async { Ok(Turn::wait(&self.mirror().answered).await) };
        self.unless_ended(turn).await
    }

    /// Waits for the turn to send a message, with the time limit for unclear answers. Only a
    /// message that starts a run could approve, and waits for other such requests.
    pub(crate) async fn turn_to_message(&self, could_approve: bool) -> crate::Result<Turn> {
        let limit = self.limits().answer;
        let lock = async { Ok(self.mirror().answered.lock_message().await) };
        let message = time::timeout(limit, self.unless_ended(lock)).await;
        let message = message.unwrap_or_else(|_| {
            let what =
                format!("an earlier message of this process has had no response for {limit:?}");
            Err(self.timed_out(what).advise("nothing was sent"))
        })?;
        let mut turn = match could_approve {
            true => self.turn_soon().await?,
            false => Turn { guards: Vec::new() },
        };
        turn.guards.push(message);
        Ok(turn)
    }

    /// Waits for the response to a request that was sent on a separate task. Once the link has
    /// ended, nothing shows the effect of the request any more.
    pub(crate) async fn answer<T>(&self, sent: &mut JoinHandle<Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            answer = answer(sent) => answer,
            () = self.until_ended() => {
                let what = "the link ended before the response";
                Err(Error::new(ErrorKind::Interrupted, what))
            }
        }
    }

    /// Waits for the right to start a goal, with the time limit for unclear answers: a policy that
    /// is being set may wait for a tool.
    pub(crate) async fn goal_soon(&self) -> crate::Result<OwnedMutexGuard<()>> {
        let limit = self.limits().answer;
        let lock = async { Ok(self.mirror().answered.lock_goal().await) };
        let goal = time::timeout(limit, self.unless_ended(lock)).await;
        goal.unwrap_or_else(|_| {
            let what = format!(
                "another goal of this process, or a policy that may ask, has had no response for \
                 {limit:?}"
            );
            Err(self.timed_out(what).advise("nothing was sent"))
        })
    }

    /// Waits for the turn to send an answer, with the time limit for unclear answers: a response
    /// that never arrives holds the turn for long.
    pub(crate) async fn turn_soon(&self) -> crate::Result<Turn> {
        let limit = self.limits().answer;
        let turn = time::timeout(limit, self.turn()).await;
        turn.unwrap_or_else(|_| {
            let what = format!(
                "an earlier request of this process that could approve an action has had no \
                 response for {limit:?}"
            );
            Err(self.timed_out(what).advise("nothing was sent"))
        })
    }
}

/// Waits for the response to a request that was sent on a separate task.
pub(crate) async fn answer<T>(task: &mut JoinHandle<Result<T>>) -> Result<T> {
    task.await.unwrap_or_else(|_| {
        let what = "the task that sends the request ended, for example because the tokio runtime \
                    was shut down";
        Err(Error::new(ErrorKind::Interrupted, what))
    })
}
