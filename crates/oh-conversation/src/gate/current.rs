//! Bringing the mirror up to the server's newest event, and repeating requests for that.

use std::time::Duration;

use oh_protocol::{Call, calls::events::Search};
use oh_transport::{Backoff, ErrorKind as Wire};
use tokio::time::timeout;

use crate::{Conversation, Error, ErrorKind, Result, read::attempts::Attempts};

/// Timeout of one request.
const LOOK: Duration = Duration::from_secs(30);
/// The first and the longest delay before a request is repeated.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// The time that the link has to deliver an event that REST has shown, before it is asked to fetch
/// the event. If it is shorter, a quarter of the time limit for unclear answers is used: the fetch
/// has to be done within that limit.
const BEHIND: Duration = Duration::from_millis(500);

impl Conversation {
    /// Waits until the mirror has the server's newest event.
    pub(crate) async fn up_to_date(&self) -> Result<()> {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let search = Search::new(self.id()).descending().limit(1);
        loop {
            let page = self.insist("read the newest event", &search).await?;
            match page.items.first() {
                None if page.next_page_id.is_none() => return Ok(()),
                None => self.rest(&mut backoff).await,
                Some(newest) => {
                    let soon = BEHIND.min(self.limits().answer / 4);
                    if self.comes_within(newest.id(), soon).await {
                        return Ok(());
                    }
                    // The link fetches the event, or finds out why it cannot.
                    self.mirror().nudge.notify_one();
                    if self.comes_within(newest.id(), LONGEST).await {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits until the mirror has the server's newest event, within the time limit for unclear
    /// answers.
    pub(crate) async fn up_to_date_soon(&self) -> Result<()> {
        let limit = self.limits().answer;
        match timeout(limit, self.unless_ended(self.up_to_date())).await {
            Ok(current) => current,
            Err(_) => {
                let what = format!("the server's newest event could not be read within {limit:?}");
                Err(self.timed_out(what).advise("nothing was sent"))
            }
        }
    }

    /// Repeats a request until it succeeds, cannot succeed any more, or the link has ended. The
    /// caller sets the time limit.
    pub(crate) async fn insist<C: Call>(&self, what: &str, call: &C) -> Result<C::Output> {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let mut attempts = Attempts::default();
        loop {
            if let Some(error) = self.ended() {
                return Err(error);
            }
            match self.client().call(call).timeout(LOOK).await {
                Ok(answer) => return Ok(answer),
                Err(error) if attempts.give_up(&error) => {
                    return Err(Error::transport(self.id(), what, error));
                }
                Err(error) => {
                    tracing::debug!(
                        conversation = %self.id(),
                        %error,
                        "cannot {what}; trying again"
                    );
                    if error.kind() == Wire::NotFound {
                        // The conversation is gone or leased, or a gateway responded: the watcher
                        // finds out.
                        self.mirror().nudge.notify_one();
                    }
                }
            }
            self.rest(&mut backoff).await;
        }
    }

    /// Waits before the next attempt, unless the link ends.
    async fn rest(&self, backoff: &mut Backoff) {
        let _ = timeout(backoff.next_delay(), self.until_ended()).await;
    }

    /// Returns whether the mirror has an event and all before it, or receives them in time.
    pub(crate) async fn comes_within(&self, id: &str, limit: Duration) -> bool {
        let coming = self.shows(|| self.mirror().read().holds(id));
        timeout(limit, coming).await.unwrap_or(false)
    }

    /// Returns whether the mirror shows the effect of a request whose response was lost, within the
    /// limit for that.
    pub(crate) async fn shows_effect(&self, shown: impl Fn() -> bool) -> bool {
        let looking = async {
            loop {
                match timeout(Duration::from_secs(1), self.shows(&shown)).await {
                    Ok(shown) => return shown,
                    // Over a link that is down, events are fetched with REST.
                    Err(_) => self.mirror().nudge.notify_one(),
                }
            }
        };
        let limit = self.limits().answer;
        timeout(limit, looking).await.unwrap_or(false)
    }

    /// Waits for something, unless the link or this handle ends. Requests in progress are given up.
    pub(crate) async fn unless_ended<T>(&self, what: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            done = what => done,
            error = self.end() => Err(error),
        }
    }

    /// Waits until the link or this handle has ended. Returns why.
    pub(crate) async fn end(&self) -> Error {
        self.until_ended().await;
        let closed = || Error::new(ErrorKind::Closed, self.id(), "this handle was closed");
        self.ended().unwrap_or_else(closed)
    }

    /// Waits until the link or this handle has ended.
    pub(crate) async fn until_ended(&self) {
        self.shows(|| false).await;
    }
}
