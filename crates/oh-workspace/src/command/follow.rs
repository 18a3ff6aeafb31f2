//! Following the history: the events so far, and then each new one.
//!
//! The history on the server is the source of truth, and the socket only announces changes. The
//! server sends frames from a moment after the handshake on, which a client cannot observe. Every
//! pass over the history therefore begins a little before the newest event, and the ids of recent
//! events show which ones are new.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use oh_protocol::calls::bash::{BashEvent, SearchEvents};
use oh_transport::{Backoff, WorkspaceHandle as _};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{hub::Watching, order::unmark};
use crate::{Error, ErrorKind, Result, Workspace};

/// How far before the newest event a pass begins.
const OVERLAP: Duration = Duration::from_secs(5);
/// The shortest delay between two passes that a program can set.
const SHORTEST: Duration = Duration::from_millis(10);

/// The delay between two passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intervals {
    /// If the socket announces nothing.
    announced: Duration,
    /// If there is no socket.
    polled: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            announced: Duration::from_secs(5),
            polled: Duration::from_secs(1),
        }
    }
}

impl Intervals {
    pub(super) fn set_announced(&mut self, interval: Duration) {
        self.announced = interval.max(SHORTEST);
    }

    pub(super) fn set_polled(&mut self, interval: Duration) {
        self.polled = interval.max(SHORTEST);
    }
}

/// A stream of the events of a history and of those that follow: see
/// [`History::follow`](crate::History::follow).
#[must_use = "a stream does nothing until it is read"]
pub struct HistoryStream(Pin<Box<dyn Stream<Item = Result<BashEvent>> + Send>>);

impl HistoryStream {
    /// Waits for the next event. Returns `None` after an error.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no event is lost.
    pub async fn next(&mut self) -> Option<Result<BashEvent>> {
        self.0.next().await
    }
}

impl Stream for HistoryStream {
    type Item = Result<BashEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for HistoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HistoryStream")
    }
}

/// Returns the stream of a search. `since` is its start; `bounded` is a setter that gave it an end.
pub(super) fn follow(
    workspace: Workspace,
    search: SearchEvents,
    since: Option<Timestamp>,
    bounded: Option<&'static str>,
    intervals: Intervals,
) -> HistoryStream {
    if let Some(setter) = bounded {
        let what = format!("a history with `{setter}` has an end and cannot be followed");
        let rejected = stream::iter([Err(Error::invalid(what))]);
        return HistoryStream(Box::pin(rejected));
    }
    let follow = Follow {
        announced: workspace.hub().map(|hub| hub.watch()),
        workspace,
        search,
        since,
        intervals,
        page: None,
        complete: false,
        ready: VecDeque::new(),
        recent: Recent::default(),
        backoff: fresh(),
    };
    let events = stream::unfold(Some(follow), |follow| async move {
        let mut follow = follow?;
        match follow.event().await {
            Ok(event) => Some((Ok(event), Some(follow))),
            Err(error) => Some((Err(error), None)),
        }
    });
    HistoryStream(Box::pin(events))
}

fn fresh() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}

struct Follow {
    workspace: Workspace,
    search: SearchEvents,
    since: Option<Timestamp>,
    intervals: Intervals,
    /// The next page of the current pass.
    page: Option<SearchEvents>,
    /// Whether the last pass has ended.
    complete: bool,
    /// New events that were not returned yet.
    ready: VecDeque<BashEvent>,
    recent: Recent,
    /// The changes that the socket announces, if the scope has a socket.
    announced: Option<Watching>,
    backoff: Backoff,
}

impl Follow {
    /// Waits for the next event.
    async fn event(&mut self) -> Result<BashEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if std::mem::replace(&mut self.complete, false) {
                self.change().await;
            }
            let search = match self.page.take() {
                Some(next) => next,
                None => self.pass(),
            };
            match self.workspace.client().call(&search).await {
                Ok(page) => {
                    self.backoff = fresh();
                    self.page = page.next_page_id.map(|id| search.page_id(id));
                    self.complete = self.page.is_none();
                    for mut event in page.items {
                        if self.recent.is_new(&event) {
                            unmark(&mut event);
                            self.ready.push_back(event);
                        }
                    }
                }
                Err(error) => {
                    let error = Error::transport("cannot read the command history", error);
                    if !error.is_transient() {
                        return Err(error);
                    }
                    tracing::debug!(%error, "following the command history continues");
                    let delay = self.backoff.next_delay();
                    let gone = self.workspace.client().server_gone();
                    if let Ok(reason) = timeout(delay, gone).await {
                        let context =
                            format!("the server has ended and will not be restarted: {reason}");
                        return Err(Error::new(ErrorKind::ServerGone, context));
                    }
                }
            }
        }
    }

    /// Returns the search for the first page of a pass.
    fn pass(&mut self) -> SearchEvents {
        // Marked before the request, so that no announcement during the pass is missed.
        if let Some(announced) = &mut self.announced {
            announced.mark_seen();
        }
        let search = self.search.clone();
        match self.recent.begin().max(self.since) {
            Some(begin) => search.since(begin.to_string()),
            None => search,
        }
    }

    /// Waits until there may be new events.
    async fn change(&mut self) {
        match &mut self.announced {
            Some(announced) => {
                let delay = match announced.is_up() {
                    true => self.intervals.announced,
                    false => self.intervals.polled,
                };
                _ = timeout(delay, announced.changed()).await;
            }
            None => sleep(self.intervals.polled).await,
        }
    }
}

/// The events of the last seconds before the newest one.
#[derive(Default)]
struct Recent {
    newest: Option<Timestamp>,
    events: VecDeque<(Timestamp, String)>,
}

impl Recent {
    /// Returns where the next pass begins.
    fn begin(&self) -> Option<Timestamp> {
        let newest = self.newest?;
        Some(newest.checked_sub(OVERLAP).unwrap_or(Timestamp::MIN))
    }

    /// Adds an event. Returns whether it is new.
    fn is_new(&mut self, event: &BashEvent) -> bool {
        let Some((id, at)) = identity(event) else {
            return false;
        };
        if self.events.iter().any(|(_, known)| *known == id) {
            return false;
        }
        let at = at.parse().ok().or(self.newest).unwrap_or_default();
        self.newest = self.newest.max(Some(at));
        self.events.push_back((at, id));
        if let Some(begin) = self.begin() {
            self.events.retain(|(at, _)| *at >= begin);
        }
        true
    }
}

/// Returns the id and the time of an event. Every event of the history has both.
fn identity(event: &BashEvent) -> Option<(String, &str)> {
    let (id, at) = match event {
        BashEvent::Command(command) => (&*command.id, &*command.timestamp),
        BashEvent::Output(output) => (&*output.id, &*output.timestamp),
        BashEvent::Unknown(value) => (
            value["id"].as_str().unwrap_or_default(),
            value
                .get("timestamp")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        ),
        _ => return None,
    };
    (!id.is_empty()).then(|| (id.to_owned(), at))
}
