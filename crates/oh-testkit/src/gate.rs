//! Gates, at which a scripted model or a tool waits until the test opens them, so that tests need
//! no sleep.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

/// Holds a [`Step`](crate::Step) or a tool's [`Observation`](crate::fake::Observation) until a test
/// opens the gate. Cheap to clone; all clones share one gate.
///
/// A gate starts closed. Nothing waits at an open gate.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use oh_testkit::{FakeServer, Gate, Script, Step};
///
/// let asked = Gate::new();
/// let server = FakeServer::builder()
///     .script(Script::new().step(Step::text("Done.").hold(&asked)))
///     .start()
///     .await?;
/// let conversation = server.create();
/// conversation.say("go");
/// asked.arrived(1).await; // The model is being queried now.
/// assert_eq!(conversation.status(), "running");
/// asked.open();
/// conversation.idle().await;
/// assert_eq!(conversation.status(), "finished");
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    open: bool,
    arrived: u64,
    /// The number of the last arrival that may pass while the gate is closed.
    passes: u64,
}

impl Gate {
    /// Creates a closed gate.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Opens the gate. Everything that waits continues, and later arrivals do not wait.
    pub fn open(&self) {
        self.0.send_modify(|state| state.open = true);
    }

    /// Closes the gate for later arrivals.
    pub fn close(&self) {
        self.0.send_modify(|state| {
            state.open = false;
            state.passes = state.arrived;
        });
    }

    /// Lets one more arrival pass, in order of arrival, and leaves the gate closed.
    pub fn let_one_pass(&self) {
        self.0.send_modify(|state| state.passes += 1);
    }

    /// Returns the number of arrivals so far, including those that have passed.
    pub fn arrivals(&self) -> u64 {
        self.0.borrow().arrived
    }

    /// Waits until there have been `count` arrivals since the gate was created, including those
    /// that have passed.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe. Dropping the future has no effect.
    pub async fn arrived(&self, count: u64) {
        let mut state = self.0.subscribe();
        // Cannot fail: `self` keeps the sender alive.
        let _ = state.wait_for(|state| state.arrived >= count).await;
    }

    /// Arrives at the gate and waits until it may pass.
    pub(crate) async fn pass(&self) {
        let mut state = self.0.subscribe();
        let mut number = 0;
        self.0.send_modify(|state| {
            state.arrived += 1;
            number = state.arrived;
        });
        let _ = state
            .wait_for(|state| state.open || state.passes >= number)
            .await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = *self.0.borrow();
        f.debug_struct("Gate")
            .field("open", &state.open)
            .field("arrivals", &state.arrived)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    #[tokio::test]
    async fn a_closed_gate_blocks_and_an_open_one_does_not() {
        let gate = Gate::new();
        let waits = |gate: &Gate| {
            let gate = gate.clone();
            AbortOnDropHandle::new(tokio::spawn(async move { gate.pass().await }))
        };
        let first = waits(&gate);
        gate.arrived(1).await;
        let second = waits(&gate);
        gate.arrived(2).await;
        assert!(!first.is_finished() && !second.is_finished());
        gate.let_one_pass();
        first.await.unwrap();
        assert!(!second.is_finished());
        gate.open();
        second.await.unwrap();
        gate.pass().await;
        gate.close();
        let third = waits(&gate);
        gate.arrived(4).await;
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        assert_eq!(gate.arrivals(), 4);
    }
}
