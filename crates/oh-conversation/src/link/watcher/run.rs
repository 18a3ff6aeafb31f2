//! The watcher's loop, from connection to connection.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use oh_protocol::ExecutionStatus;
use oh_transport::{ErrorKind as Wire, Liveness, Socket};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use super::{
    Connection, Phase, SILENT, Watcher,
    reading::{Expected, Flavor, Reading},
};
use crate::{Error, ErrorKind, LinkStatus};

/// A link that lasted this long counts as healthy: the backoff is reset.
const HEALTHY: Duration = Duration::from_secs(10);
/// The longest time between two checks of an idle link.
const RARELY: Duration = Duration::from_secs(30 * 60);
/// While a caller waits for an event, only the socket is used for this long. Only the socket
/// reports an event's `seq` when the server cannot read all of its log.
const BY_SOCKET: Duration = Duration::from_secs(3);
/// An event larger than this is not requested again to identify the log.
const SMALL: usize = 1024 * 1024;

impl Watcher {
    /// Runs until it is stopped or no more events can arrive.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` keeps its arguments twice, and this is in memory for every link"
    )]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let stop = self.stop.clone();
            let client = self.client.clone();
            let mut gone = pin!(client.server_gone());
            let mut phase = Phase::Dial;
            loop {
                phase = match phase {
                    Phase::End(error) => {
                        let kind = error.kind();
                        debug!(conversation = %self.id, ?kind, "the watcher has ended");
                        self.writer.end(error);
                        return;
                    }
                    // The `read` phase handles the stop itself, to close the socket.
                    Phase::Read(connection) => self.read(connection, gone.as_mut()).await,
                    other => tokio::select! {
                        biased;
                        () = stop.asked() => Phase::End(self.closed()),
                        reason = &mut gone => Phase::End(self.server_gone(&reason)),
                        next = self.step(other) => next,
                    },
                };
            }
        }
    }

    async fn step(&mut self, phase: Phase) -> Phase {
        match phase {
            // Boxed, because a watcher spends its life reading, and is as large as its largest
            // step.
            Phase::Dial => Box::pin(self.dial()).await,
            Phase::Broken(error) => Box::pin(self.broken(error)).await,
            Phase::Fetch => Box::pin(self.fetch()).await,
            Phase::Poll(until) => Box::pin(self.poll(until)).await,
            Phase::Verify => Box::pin(self.verify()).await,
            Phase::Wait(delay) => {
                let mirror = self.writer.mirror().clone();
                tokio::select! {
                    () = sleep(delay) => Phase::Dial,
                    // Not a clone of the receiver: a clone would report the same change again.
                    () = ready(&mut self.liveness) => {
                        self.backoff.reset();
                        Phase::Dial
                    }
                    // A caller waits for an event that the server has.
                    () = mirror.nudge.notified() => match self.heard.elapsed() >= BY_SOCKET {
                        true => Box::pin(self.catch_up_once(delay)).await,
                        false => Phase::Dial,
                    },
                }
            }
            unchanged => unchanged,
        }
    }

    async fn dial(&mut self) -> Phase {
        if !self.polls {
            self.writer.connecting(None);
        }
        // Requested once, and again after a socket was refused. A disconnect alone does not change
        // it.
        let session = match self.session {
            Some(session) => session,
            None => match self.client.server_info().await {
                // The first version of the session socket does not stream tokens; the legacy socket
                // of the same servers does.
                Ok(info) => {
                    let whole = info.has_session_socket() && info.has_session_tokens();
                    *self.session.insert(whole)
                }
                Err(error) => return Phase::Broken(error),
            },
        };
        let legacy = std::mem::take(&mut self.legacy_next) || self.legacy_for_good;
        self.flavor = match legacy || !session {
            true => Flavor::Legacy,
            false => Flavor::Session,
        };
        if self.flavor == Flavor::Session {
            self.prove_numbers().await;
        }
        let (target, expected) = self.target();
        let client = self.client.clone();
        let dialled = tokio::select! {
            dialled = client.socket(&target) => dialled,
            next = self.poll_beside() => return next,
        };
        match dialled {
            Ok(socket) => {
                let reading = Reading::expecting(self.flavor, expected);
                Phase::Read(Box::new(self.connection(socket, reading)))
            }
            Err(error) => {
                // Only a response can refuse a socket, not an unreachable server. If REST works
                // meanwhile, something in between swallows the handshake.
                let away = matches!(error.kind(), Wire::Connect | Wire::Timeout) && !self.polls;
                // The server at this address may have been replaced.
                self.session = None;
                self.fruitless = if away { 0 } else { self.fruitless + 1 };
                Phase::Broken(error)
            }
        }
    }

    pub(super) fn connection(&self, socket: Socket, reading: Reading) -> Connection {
        let now = Instant::now();
        Connection {
            socket,
            opened: now,
            check: now + self.limits.silence,
            reading,
        }
    }

    /// Returns the target of the next socket, and what it delivers first: the last event held is
    /// requested again, because it identifies the log.
    pub(super) fn target(&self) -> (String, Expected) {
        if self.flavor == Flavor::Legacy {
            let target = format!("/sockets/events/{}", self.id);
            return (target, Expected::default());
        }
        let held = self.writer.mirror().read();
        let event = held.anchor().filter(|event| event.raw().len() <= SMALL);
        let event = event.map(|event| (held.cursor, event.id().to_owned()));
        let after = match held.counted.filter(|counted| counted.differs) {
            Some(counted) => counted.after,
            None => held.cursor - i64::from(event.is_some()),
        };
        let target = format!("/sockets/session/{}?after_seq={after}", self.id);
        let next = held.log.after(after);
        let replayed = next..next;
        let expected = Expected {
            event,
            after,
            replayed,
        };
        (target, expected)
    }

    async fn read(
        &mut self,
        mut connection: Box<Connection>,
        mut gone: Pin<&mut impl Future<Output = Arc<str>>>,
    ) -> Phase {
        self.polls = false;
        self.writer.connected();
        let mirror = self.writer.mirror().clone();
        let stop = self.stop.clone();
        if connection.reading.flavor == Flavor::Legacy {
            self.writer.change(|held| {
                (held.unnumbered, held.refused) = (true, false);
            });
            self.ring(&mut connection.reading);
        }
        let next = loop {
            let gap = connection.reading.gap;
            let check = connection.check;
            tokio::select! {
                received = connection.socket.recv() => {
                    if let Some(next) = self.received(received, &mut connection) {
                        break next;
                    }
                    // A socket that replaces a silent one does not deliver new events on its own.
                    if self.rest_until_check == self.limits.silence {
                        connection.check = Instant::now() + self.limits.silence;
                    }
                }
                Some(done) = self.errands.join_next(), if !self.errands.is_empty() => {
                    let Ok(done) = done else { continue };
                    if let Some(next) = self.done(done, &mut connection) {
                        break next;
                    }
                }
                () = stop.asked() => {
                    Box::pin(connection.socket.close(1000, "")).await;
                    return Phase::End(self.closed());
                }
                reason = &mut gone => return Phase::End(self.server_gone(&reason)),
                () = mirror.nudge.notified() => self.nudged(&mut connection),
                // One timer for both, because this future is in memory for every link.
                () = sleep_until(gap.map_or(check, |gap| gap.min(check))) => match gap {
                    Some(gap) if gap <= check => {
                        connection.reading.gap = Some(Instant::now() + self.limits.gap * 10);
                        self.fetch_beside();
                    }
                    _ => self.check(&mut connection),
                },
            }
        };
        let opened = connection.opened;
        if !connection.reading.fruitful {
            self.fruitless += 1;
        }
        drop(connection);
        // Requests in progress belong to the ended connection.
        self.errands.abort_all();
        while self.errands.try_join_next().is_some() {}
        (self.fetching, self.checking, self.dialling) = (false, false, false);
        if opened.elapsed() >= HEALTHY {
            self.backoff.reset();
        }
        next
    }

    /// Checks whether a silent link is dead.
    fn check(&mut self, connection: &mut Connection) {
        let (link, status) = {
            let held = self.writer.mirror().read();
            (held.link, held.status())
        };
        let idle = status != ExecutionStatus::Running && link == LinkStatus::Live;
        let now = Instant::now();
        if !idle {
            connection.check = now + self.limits.silence;
            self.ask_newest();
            return;
        }
        // No events are expected for an idle conversation, so check at growing intervals.
        self.rest_until_check = (self.rest_until_check * 2).min(RARELY);
        connection.check = now + self.rest_until_check;
        match connection.reading.flavor {
            Flavor::Session => self.dial_beside(),
            Flavor::Legacy => self.ask_newest(),
        }
    }

    /// Handles a notification that the server has an event that the mirror lacks, or that the
    /// conversation may be gone.
    fn nudged(&mut self, connection: &mut Connection) {
        let replays = self.writer.mirror().read().link == LinkStatus::Replaying;
        if replays && connection.reading.fruitful && self.heard.elapsed() < SILENT {
            // The history is still arriving.
            return;
        }
        connection.reading.nudged = true;
        self.fetch_beside();
    }

    fn server_gone(&self, reason: &str) -> Error {
        let what = format!("the server has ended and will not be restarted: {reason}");
        Error::new(ErrorKind::ServerGone, self.id, what)
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, self.id, "this handle was closed")
    }
}

/// Completes once the supervisor reports that the server is ready again.
async fn ready(liveness: &mut watch::Receiver<Liveness>) {
    loop {
        if liveness.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if *liveness.borrow_and_update() == Liveness::Ready {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use oh_protocol::{ConversationId, state::ConversationState};
    use oh_transport::{Backoff, Client};

    use super::*;
    use crate::{link::tokens::Tokens, mirror::Mirror};

    #[tokio::test]
    async fn a_waiting_conversation_takes_little_memory() {
        let id = ConversationId::random();
        let state = ConversationState::default();
        let (writer, _mirror) = Mirror::new(id, state, None, 0, Arc::default(), Arc::default());
        let client = Client::builder("http://127.0.0.1:1").build().unwrap();
        let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
        let stop = Arc::default();
        let watcher = Watcher::new(client, writer, Tokens::default(), stop, backoff).run();
        let bytes = size_of_val(&watcher);
        assert!(bytes <= 2 * 1024, "{bytes} bytes");
    }
}
