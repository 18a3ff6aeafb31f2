//! Measures attaching to the end of a long conversation on the real server: the cost of its length,
//! and the speed of loading older events on demand.

use openhands::{ConversationId, LocalServer};
use openhands_benches::{Outcome, row, us, wanted};
use tempfile::TempDir;

use crate::attach::{GRACE, Taken, grown, take};

/// Number of newest events to load.
pub(crate) const WANTED: usize = 50;

/// A server with one conversation.
struct Place {
    server: LocalServer,
    id: ConversationId,
    count: usize,
    _state: TempDir,
}

impl Place {
    async fn of(count: usize) -> Outcome<Self> {
        let state = tempfile::tempdir()?;
        let (id, count) = grown(state.path(), count).await?;
        let server = LocalServer::builder().state_dir(state.path());
        let place = Self {
            server: server.start().await?,
            id,
            count,
            _state: state,
        };
        // The first reader only warms the server's own caches.
        place.take("tail", place.count).await?;
        Ok(place)
    }

    async fn take(&self, role: &str, count: usize) -> Outcome<Taken> {
        let (url, key) = (self.server.url().as_str(), self.server.session_api_key());
        take(us(role)?, url, Some(key), self.id, count).await
    }
}

pub(crate) async fn bench(smoke: bool) -> Outcome {
    let (long, older, rounds) = if smoke {
        (400, 200, 1)
    } else {
        (100_000, 20_000, 5)
    };
    let long = Place::of(long).await?;
    // A smoke run starts only one server.
    let short = if smoke {
        None
    } else {
        Some(Place::of(1_000).await?)
    };
    let work = "last 50 of 100,000";
    for _ in 0..rounds {
        let Taken { seconds, held, .. } = long.take("tail", long.count).await?;
        row(work, "ours", seconds * 1e3, "ms");
        row("memory of the last 50", "ours", held / 1024.0, "KiB");
        let place = short.as_ref().unwrap_or(&long);
        let taken = place.take("tail", place.count).await?;
        row(work, "of 1,000", taken.seconds * 1e3, "ms");
    }
    row("memory of the last 50", "promised", 4096.0, "KiB");
    for _ in 0..rounds.min(2) {
        let taken = long.take("attach-floor", long.count).await?;
        row(work, "bare drain", taken.seconds * 1e3, "ms");
    }
    for _ in 0..rounds.min(3) {
        for (name, role) in [("ours", "older"), ("bare REST", "older-floor")] {
            if wanted(name) {
                let taken = long.take(role, older).await?;
                row(
                    "older events",
                    name,
                    older as f64 / taken.seconds,
                    "events/s",
                );
            }
        }
    }
    for place in [Some(long), short].into_iter().flatten() {
        place.server.shutdown(GRACE).await?;
    }
    Ok(())
}
