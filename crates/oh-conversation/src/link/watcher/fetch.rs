//! Fetching events that no socket delivers, in pages of a suitable size.

use std::time::Duration;

use oh_protocol::calls::conversations::Get;
use oh_transport::{Error, ErrorKind};
use tracing::warn;

use super::{
    Phase, Watcher,
    rest::{Fault, MANY, STALLED, is_missing},
};

/// The number of events per request when one of them is known to be huge.
const FEW: u32 = 10;
/// After this many successful pages, larger ones are tried.
const STEADY: u32 = 4;

impl Watcher {
    /// Fetches events that the session socket cannot carry, and continues after them. Each event is
    /// progress: if the connection breaks before a page is complete, smaller pages are requested.
    pub(super) async fn fetch(&mut self) -> Phase {
        let fetched = match self.rest_while_down().after_last(self.few.min(FEW)).await {
            Ok(fetched) => fetched,
            Err(Fault::Other) => return Phase::Verify,
            Err(Fault::Wire(error)) => {
                self.few = self.few.min(FEW);
                return match self.ask_for_fewer(&error) {
                    true => Phase::Fetch,
                    false => Phase::Broken(error),
                };
            }
        };
        self.went_well();
        let (found, more) = (fetched.events.len(), fetched.more);
        let through = self.through.take();
        let before = self.writer.mirror().read().cursor;
        self.take_fetched(fetched, false);
        let moved = self.writer.change(|held| {
            if !more && let Some(through) = through {
                // The log was fetched up to there: missing events cannot be read.
                held.skip(through);
            }
            held.cursor > before
        });
        if found > 0 || moved {
            self.too_large = 0;
            return Phase::Dial;
        }
        // The frame was not an event. If it is the state, no frame can carry it, and the session
        // socket cannot be used at all.
        self.too_large += 1;
        if self.too_large > 1 {
            warn!(
                conversation = %self.id,
                "the state is too large for the session socket; using the legacy socket"
            );
            self.legacy_for_good = true;
        }
        self.writer.connecting(None);
        Phase::Wait(self.backoff.next_delay())
    }

    /// Reduces the page size after a failed page. Returns whether a smaller page can be requested.
    pub(super) fn ask_for_fewer(&mut self, error: &Error) -> bool {
        let passing = matches!(
            error.kind(),
            ErrorKind::Interrupted | ErrorKind::Decode | ErrorKind::Connect | ErrorKind::Server
        );
        let fewer = passing && self.few > 1;
        if fewer {
            self.few = (self.few / 4).max(1);
            self.steady = 0;
        }
        fewer
    }

    pub(super) fn went_well(&mut self) {
        self.steady += 1;
        if self.steady >= STEADY {
            self.few = (self.few * 2).min(MANY);
            self.steady = 0;
        }
    }

    /// Finds out before a socket is opened whether the numbers counted without one are the
    /// server's. Otherwise the socket delivers these events again.
    pub(super) async fn prove_numbers(&mut self) {
        let counted = {
            let held = self.writer.mirror().read();
            held.unnumbered && held.counted.is_some_and(|counted| !counted.differs)
        };
        if !counted {
            return;
        }
        let length = self.rest_while_down().length().await.ok();
        self.writer.change(|held| {
            if let Some(length) = length {
                held.has_length(length);
            }
            if let Some(counted) = &mut held.counted {
                counted.differs = true;
            }
        });
    }

    /// Fetches page by page until the mirror has the end of the log.
    pub(super) async fn catch_up(&mut self) -> Result<(), Fault> {
        loop {
            let fetched = match self.rest_while_down().after_last(self.few).await {
                Err(Fault::Wire(error)) if self.ask_for_fewer(&error) => continue,
                fetched => fetched?,
            };
            self.went_well();
            let more = fetched.more;
            self.take_fetched(fetched, false);
            if !more {
                return Ok(());
            }
        }
    }

    /// Fetches the log with REST while there is no connection, for a caller that waits for an
    /// event.
    pub(super) async fn catch_up_once(&mut self, delay: Duration) -> Phase {
        match self.catch_up().await {
            Ok(()) => Phase::Wait(delay / 2),
            Err(Fault::Other) => Phase::Verify,
            Err(Fault::Wire(error)) if is_missing(&error) => Phase::Broken(error),
            Err(Fault::Wire(_)) => Phase::Wait(delay),
        }
    }

    /// Checks that the server has the conversation.
    pub(super) async fn look(&self) -> oh_transport::Result<()> {
        let call = Get::new(self.id);
        let answer = self
            .client
            .call(&call)
            .timeout(Duration::from_secs(30))
            .attempt_timeout(STALLED / 2)
            .await;
        answer.map(drop)
    }
}
