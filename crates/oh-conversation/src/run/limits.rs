//! Reasons to stop waiting for a run before its end: idle timeout, budget, unreachable server.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use oh_transport::{Backoff, Liveness};
use tokio::time::{Instant, sleep, timeout};

use super::{End, Run, budget::Budget, reached};
use crate::{Error, ErrorKind, Result};

/// Maximum time for an interrupted run to stop.
const STOPPING: Duration = Duration::from_secs(30);
/// The first and the longest delay before an interrupt that failed is repeated.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

impl Run {
    /// Completes when no event has arrived for longer than the idle timeout.
    pub(super) async fn idle(&self) {
        let Some(limit) = self.idle_timeout else {
            return std::future::pending().await;
        };
        let mut changes = self.conversation.changes();
        let mut seen = None;
        let mut last = Instant::now();
        loop {
            changes.borrow_and_update();
            let end = self.conversation.mirror().read().log.end();
            if seen.replace(end).is_some_and(|seen| seen != end) {
                last = Instant::now();
            }
            tokio::select! {
                biased;
                () = reached(last.checked_add(limit)) => return,
                _ = changes.changed() => {}
            }
        }
    }

    /// Completes when the budget is reached and the run has been interrupted.
    /// Once it is reached, `spent` is set.
    pub(super) async fn budget(&self, spent: &AtomicBool) -> Result<End> {
        let budget = self.budget;
        if budget == Budget::default() {
            return std::future::pending().await;
        }
        let conversation = &self.conversation;
        let mut changes = conversation.changes();
        let mut before = None;
        loop {
            changes.borrow_and_update();
            let (up, running) = {
                let held = conversation.mirror().read();
                (held.link.is_up(), held.status().is_running())
            };
            if up || before.is_some() {
                let now = conversation.current_usage();
                let used = now.since(before.get_or_insert_with(|| now.clone()));
                // What earlier runs have cost ends a run only once there is one to interrupt.
                let begun = running || used.total().accumulated_cost > 0.0;
                if budget.is_used_up(&used) || (begun && budget.is_total_used_up(&now)) {
                    break;
                }
            }
            _ = changes.changed().await;
        }
        spent.store(true, Ordering::Release);
        if let Some(tools) = conversation.client_tools() {
            tools.start_no_runs();
        }
        self.stop_run().await?;
        let stopped = conversation.shows(|| !conversation.mirror().read().status().is_running());
        let _ = timeout(STOPPING, stopped).await;
        Ok(End::Budget)
    }

    /// Interrupts the run, and repeats that while requests fail: the run would cost more.
    async fn stop_run(&self) -> Result<()> {
        let conversation = &self.conversation;
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        loop {
            let error = match conversation.interrupt().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let (running, up) = {
                let held = conversation.mirror().read();
                (held.status().is_running(), held.link.is_up())
            };
            if up && !running {
                return Ok(());
            }
            let passing = error.is_transient() || error.kind() == ErrorKind::NotAnAgentServer;
            if !passing || conversation.ended().is_some() {
                return Err(error.in_context("the budget is reached, but the run was not stopped"));
            }
            tracing::debug!(
                conversation = %conversation.id(),
                %error,
                "cannot interrupt a run whose budget is reached; trying again"
            );
            sleep(backoff.next_delay()).await;
        }
    }

    /// Completes with the reason when the link has been down for longer than the limit.
    pub(super) async fn unreachable(&self) -> Option<Error> {
        let conversation = &self.conversation;
        let limit = conversation.limits().unreachable;
        let mut changes = conversation.changes();
        let mut liveness = conversation.client().liveness();
        let mut changed_at = None;
        loop {
            changes.borrow_and_update();
            // A supervisor that is restarting the server reports when it gives up.
            let restarting = *liveness.borrow_and_update() == Liveness::Restarting;
            let down = {
                let held = conversation.mirror().read();
                held.down_since.filter(|_| !restarting && !held.disowned)
            };
            let down =
                down.map(|since| changed_at.map_or(since, |changed_at| since.max(changed_at)));
            let over = down.and_then(|since| since.checked_add(limit));
            tokio::select! {
                biased;
                () = reached(over) => return conversation.last_error(),
                Ok(()) = liveness.changed() => changed_at = Some(Instant::now()),
                _ = changes.changed() => {}
            }
        }
    }
}
