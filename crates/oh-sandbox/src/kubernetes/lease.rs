//! The time after which the cluster removes a claim whose owner has ended.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::sleep;
use tracing::warn;

use crate::kubernetes::{refused, resources::SandboxClaim};

/// Differences of the clocks below this are not corrected, because the cluster's times are whole
/// seconds.
const PRECISION: SignedDuration = SignedDuration::from_secs(2);

/// Returns the cluster's time minus this machine's, from a time that the cluster has named between
/// a request and its response. A slow response is no difference.
pub(crate) fn difference(sent: Timestamp, named: Timestamp, received: Timestamp) -> SignedDuration {
    match named {
        named if named > received => named.duration_since(received),
        named if named < sent => named.duration_since(sent),
        _ => SignedDuration::ZERO,
    }
}

/// How long a claim lives without its owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    length: Duration,
    /// The cluster's time minus this machine's.
    ahead: SignedDuration,
}

impl Lease {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            length,
            ahead: SignedDuration::ZERO,
        }
    }

    /// Sets the cluster's time minus this machine's, as far as it is known.
    pub(crate) fn ahead(mut self, ahead: SignedDuration) -> Self {
        self.ahead = ahead;
        self
    }

    /// Returns the end of the lease from now, on the cluster's clock.
    pub(crate) fn end(&self) -> Time {
        let length = SignedDuration::try_from(self.length).unwrap_or(SignedDuration::MAX);
        let now = Timestamp::now()
            .saturating_add(self.ahead)
            .unwrap_or(Timestamp::MAX);
        Time(now.saturating_add(length).unwrap_or(Timestamp::MAX))
    }

    /// Corrects the lease by the time at which the cluster has created an object that was requested
    /// at `sent`. Returns whether the clocks differ. A slow response is no difference.
    pub(crate) fn correct(&mut self, sent: Timestamp, created: Option<&Time>) -> bool {
        let Some(Time(created)) = created else {
            return false;
        };
        let on_cluster = |time: Timestamp| time.saturating_add(self.ahead).unwrap_or(time);
        let (sent, received) = (on_cluster(sent), on_cluster(Timestamp::now()));
        let further = difference(sent, *created, received);
        let differs = further.abs() > PRECISION;
        if differs {
            self.ahead = self.ahead.saturating_add(further);
        }
        differs
    }

    /// Extends the life of a claim.
    pub(crate) async fn renew(&self, api: &Api<SandboxClaim>, name: &str) -> kube::Result<()> {
        let patch = json!({"spec": {"lifecycle": {"shutdownTime": self.end()}}});
        let params = PatchParams::default();
        api.patch(name, &params, &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Renews the lease for ever, three times as often as necessary. Returns if the claim does not
    /// exist any more.
    pub(crate) async fn keep(self, api: Api<SandboxClaim>, name: String) {
        loop {
            sleep(self.length / 3).await;
            match self.renew(&api, &name).await {
                Ok(()) => {}
                Err(error) if refused::is_missing(&error) => return,
                Err(error) => {
                    let error = refused::error("cannot renew the shutdown time", error);
                    warn!(%error, claim = name, "the cluster will remove the claim if this lasts");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_lease_is_on_the_clock_of_the_cluster() {
        let hour = SignedDuration::from_hours(1);
        for ahead in [hour, -hour] {
            let mut lease = Lease::new(Duration::from_secs(60));
            let created = Time(Timestamp::now().saturating_add(ahead).unwrap());
            assert!(lease.correct(Timestamp::now(), Some(&created)));
            let left = lease.end().0.duration_since(created.0);
            assert!((59..=62).contains(&left.as_secs()), "{left}");
            // A difference that is known is not corrected again, and a wrong one is.
            let mut known = Lease::new(Duration::from_secs(60)).ahead(ahead);
            assert!(!known.correct(Timestamp::now(), Some(&created)));
            assert!(known.correct(Timestamp::now(), Some(&Time(Timestamp::now()))));
            let left = known.end().0.duration_since(Timestamp::now());
            assert!((57..=62).contains(&left.as_secs()), "{left}");
        }
        let mut lease = Lease::new(Duration::from_secs(60));
        let now = Timestamp::now();
        assert!(!lease.correct(now, Some(&Time(now))));
        assert!(!lease.correct(now, None));
        // The response took an hour.
        let sent = now.saturating_add(-hour).unwrap();
        for delay in [SignedDuration::ZERO, SignedDuration::from_mins(30)] {
            let created = Time(sent.saturating_add(delay).unwrap());
            assert!(!lease.correct(sent, Some(&created)));
        }
    }
}
