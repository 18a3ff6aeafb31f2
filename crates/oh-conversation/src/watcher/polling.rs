//! Following the log with REST alone, for servers behind a proxy that refuses sockets.

use std::time::Duration;

use oh_protocol::{ExecutionStatus, calls::conversations::Get};
use tokio::time::{Instant, sleep_until};

use super::{
    Phase, Watcher,
    rest::{Fault, is_missing},
};

/// The time until a socket is tried again, at first and at most.
pub(super) const FIRST: Duration = Duration::from_secs(1);
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// How often the log is fetched during a run.
const OFTEN: Duration = Duration::from_millis(400);
/// How often the log is fetched while nothing happens.
const RARELY: Duration = Duration::from_secs(5);

impl Watcher {
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
