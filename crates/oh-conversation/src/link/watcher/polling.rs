//! Following the log with REST alone, for servers behind a proxy that refuses sockets.

use std::time::Duration;

use oh_protocol::{ExecutionStatus, calls::conversations::Get};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Phase, Watcher,
    rest::{Fault, is_missing},
};
use crate::{Error, ErrorKind};

/// The interval between requests for the log during a run.
const OFTEN: Duration = Duration::from_millis(400);
/// The interval between requests for the log while nothing happens.
const RARELY: Duration = Duration::from_secs(5);

/// How long a handshake may take before the log is also followed with REST.
const LATE: Duration = Duration::from_secs(3);
/// Longer than any handshake.
const LONG: Duration = Duration::from_secs(60 * 60);

impl Watcher {
    /// Follows the log while a handshake has no response: the server may be busy, or a proxy may
    /// swallow the handshake. Returns only when REST does not work either.
    pub(super) async fn poll_beside(&mut self) -> Phase {
        sleep(LATE).await;
        if self.leased.is_some() || self.missing.is_some() {
            sleep(LONG).await;
        }
        while let Err(fault) = self.catch_up().await {
            match fault {
                Fault::Other => return Phase::Verify,
                Fault::Wire(error) if is_missing(&error) => return Phase::Broken(error),
                Fault::Wire(_) => sleep(LATE).await,
            }
        }
        let late = "the handshake of the socket has no response yet, so events are read by REST";
        self.polls = true;
        self.writer
            .polling(Error::new(ErrorKind::Timeout, self.id, late), false);
        self.tell_live();
        self.poll(Instant::now() + LONG).await
    }

    /// Fetches the log until it is time to try a socket again.
    pub(super) async fn poll(&mut self, until: Instant) -> Phase {
        // State that no event reports, such as the status after a restart.
        if let Ok(info) = self.client.call(&Get::new(self.id)).await {
            self.writer.change(|held| held.described(info.state()));
        }
        let mirror = self.writer.mirror().clone();
        let mut delay = OFTEN;
        loop {
            let wake = (Instant::now() + delay).min(until);
            tokio::select! {
                () = sleep_until(wake) => {}
                () = mirror.nudge.notified() => {}
            }
            if Instant::now() >= until {
                return Phase::Dial;
            }
            let before = mirror.read().log.end();
            match self.catch_up().await {
                Ok(()) => {}
                Err(Fault::Other) => return Phase::Verify,
                Err(Fault::Wire(error)) if is_missing(&error) => {
                    return Phase::Broken(error);
                }
                Err(Fault::Wire(error)) => {
                    // REST does not work either.
                    self.polls = false;
                    self.fruitless = 0;
                    return Phase::Broken(error);
                }
            }
            let (end, status) = {
                let held = mirror.read();
                (held.log.end(), held.status())
            };
            delay = match end > before || status == ExecutionStatus::Running {
                true => OFTEN,
                false => (delay * 3 / 2).min(RARELY),
            };
        }
    }
}
