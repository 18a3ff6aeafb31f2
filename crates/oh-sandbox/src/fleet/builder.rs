//! The builder of a fleet.

use std::{fmt, time::Duration};

use super::{
    handle::Fleet, observe::FleetObserver, provider::Provider, settings::Settings, store::Store,
};

/// Configures and starts a [`Fleet`].
#[must_use = "a builder does nothing until it is started"]
pub struct FleetBuilder {
    provider: Box<dyn Provider>,
    settings: Settings,
    observers: Vec<Box<dyn FleetObserver>>,
}

impl Fleet {
    /// Creates a builder for a fleet whose servers `provider` starts: the builder of a server, a
    /// warm pool, [`AttachedServers`](crate::AttachedServers), or a closure in
    /// [`provider_fn`](crate::provider_fn).
    pub fn builder(provider: impl Provider) -> FleetBuilder {
        FleetBuilder {
            provider: Box::new(provider),
            settings: Settings::default(),
            observers: Vec::new(),
        }
    }
}

impl FleetBuilder {
    /// Sets the maximum number of servers, including those that start or stop; 0 counts as 1.
    /// Default: 4.
    pub fn size(mut self, servers: usize) -> Self {
        self.settings.size = servers.max(1);
        self
    }

    /// Sets how many ready servers without a lease the fleet keeps, within its size. Default: 0;
    /// servers are started when they are requested. A server stays ready after its leases are
    /// returned.
    pub fn warm(mut self, servers: usize) -> Self {
        self.settings.warm = servers;
        self
    }

    /// Sets how many leases a server has at once; 0 counts as 1. Default: 1. A server accepts 10
    /// runs at once, unless it is configured otherwise.
    pub fn conversations_per_server(mut self, leases: usize) -> Self {
        self.settings.at_once = leases.max(1);
        self
    }

    /// Replaces each server after this many leases; 0 counts as 1. Default: never.
    pub fn replace_after(mut self, leases: u64) -> Self {
        self.settings.uses = Some(leases.max(1));
        self
    }

    /// Gives each lease a server that no other lease has used or will use. The same as
    /// `replace_after(1)`.
    pub fn fresh(self) -> Self {
        self.replace_after(1)
    }

    /// Gives each lease a new directory in the working directory of its server. Default: leases of
    /// a server share its working directory. The server creates the directory with the
    /// conversation; nothing removes it before the server ends.
    pub fn separate_directories(mut self) -> Self {
        self.settings.separate = true;
        self
    }

    /// Sets how many servers are started at once; 0 counts as 1. Default: 4. A local start keeps a
    /// CPU busy.
    pub fn starts_at_once(mut self, starts: usize) -> Self {
        self.settings.starts = starts.max(1);
        self
    }

    /// Sets how often a failed start is attempted in total; 0 counts as 1. Default: 5. Failures
    /// that another attempt cannot cure are not repeated: see [`StartError`](crate::StartError).
    pub fn start_attempts(mut self, attempts: u32) -> Self {
        self.settings.attempts = attempts.max(1);
        self
    }

    /// Sets the first and the longest delay between two attempts. Delays double, and vary at
    /// random. Default: 500 ms and 30 s. After the last attempt, the fleet starts no server for the
    /// longest delay, unless a request finds no server at all.
    pub fn start_backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.settings.backoff = (first, longest);
        self
    }

    /// Sets how long a request waits before it fails with
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). Default: no limit.
    pub fn wait_at_most(mut self, limit: Duration) -> Self {
        self.settings.wait = Some(limit);
        self
    }

    /// Sets how long a server may take to end before it is killed. Default: 5 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Adds an observer of the fleet's events, for example for metrics.
    pub fn observer(mut self, observer: impl FleetObserver) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Starts the fleet, which begins to start its warm servers.
    ///
    /// # Panics
    ///
    /// Panics if called outside of a tokio runtime.
    pub fn start(mut self) -> Fleet {
        let limit = self.provider.limit().unwrap_or(usize::MAX);
        self.settings.size = self.settings.size.min(limit.max(1));
        Fleet::new(Store::start(self.settings, self.provider, self.observers))
    }
}

impl fmt::Debug for FleetBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetBuilder")
            .field("settings", &self.settings)
            .field("observers", &self.observers.len())
            .finish_non_exhaustive()
    }
}
