//! Counts of a fleet's events.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::observe::FleetEvent;

/// Numbers of a [`Fleet`](crate::Fleet), now and since it was created. `Display`
/// shows the numbers in the text format of Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetStats {
    /// Servers that are ready, or that have ended while leases of them are out.
    pub servers: usize,
    /// Ready servers without a lease.
    pub idle: usize,
    /// Servers that are being started.
    pub starting: usize,
    /// Servers that are being stopped.
    pub stopping: usize,
    /// Leases that are out.
    pub leased: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Largest number of servers so far.
    pub most_servers: usize,
    /// Requests for a lease.
    pub requests: u64,
    /// Requests that got a lease.
    pub leases: u64,
    /// Leases of a server that has had one before.
    pub reused: u64,
    /// Requests that the program gave up.
    pub abandoned: u64,
    /// Total time that requests have waited.
    pub waited: Duration,
    /// Longest time that a request has waited.
    pub longest_wait: Duration,
    /// Servers that became ready.
    pub starts: u64,
    /// Failed attempts to start a server.
    pub failed_starts: u64,
    /// Servers that have ended by themselves, or were discarded.
    pub discarded: u64,
    /// Servers that were stopped.
    pub stopped: u64,
    /// Failed requests and failed attempts to start a server, by the name of their error kind.
    pub failures: BTreeMap<String, u64>,
}

impl FleetStats {
    pub(super) fn count(&mut self, event: &FleetEvent<'_>) {
        match event {
            FleetEvent::Requested => self.requests += 1,
            FleetEvent::Leased { waited, reused, .. } => {
                self.leases += 1;
                self.reused += u64::from(*reused);
                self.waits(*waited);
            }
            FleetEvent::Refused { kind, waited } => {
                self.fails(&format!("{kind:?}"));
                self.waits(*waited);
            }
            FleetEvent::Abandoned { waited } => {
                self.abandoned += 1;
                self.waits(*waited);
            }
            FleetEvent::Started { .. } => self.starts += 1,
            FleetEvent::StartFailed { kind, .. } => {
                self.failed_starts += 1;
                self.fails(&format!("{kind:?}"));
            }
            FleetEvent::Discarded { .. } => self.discarded += 1,
            FleetEvent::Stopped { .. } => self.stopped += 1,
            FleetEvent::Returned { .. } => {}
        }
    }

    fn waits(&mut self, waited: Duration) {
        self.waited = self.waited.saturating_add(waited);
        self.longest_wait = self.longest_wait.max(waited);
    }

    fn fails(&mut self, reason: &str) {
        *self.failures.entry(reason.to_owned()).or_default() += 1;
    }
}

impl fmt::Display for FleetStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [
            ("servers", self.servers),
            ("servers_idle", self.idle),
            ("servers_starting", self.starting),
            ("servers_stopping", self.stopping),
            ("leases", self.leased),
            ("requests_waiting", self.waiting),
        ] {
            writeln!(f, "# TYPE openhands_fleet_{name} gauge")?;
            writeln!(f, "openhands_fleet_{name} {value}")?;
        }
        for (name, value) in [
            ("requests", self.requests),
            ("leases", self.leases),
            ("leases_reused", self.reused),
            ("requests_abandoned", self.abandoned),
            ("starts", self.starts),
            ("starts_failed", self.failed_starts),
            ("servers_discarded", self.discarded),
            ("servers_stopped", self.stopped),
        ] {
            writeln!(f, "# TYPE openhands_fleet_{name}_total counter")?;
            writeln!(f, "openhands_fleet_{name}_total {value}")?;
        }
        writeln!(f, "# TYPE openhands_fleet_waited_seconds_total counter")?;
        let waited = self.waited.as_secs_f64();
        writeln!(f, "openhands_fleet_waited_seconds_total {waited}")?;
        writeln!(f, "# TYPE openhands_fleet_failures_total counter")?;
        for (kind, count) in &self.failures {
            writeln!(
                f,
                "openhands_fleet_failures_total{{kind=\"{kind}\"}} {count}"
            )?;
        }
        Ok(())
    }
}
