//! Attaching to the end of a long conversation on the real server: what its length costs, and at
//! what pace the older events come when somebody asks for them.

use openhands::LocalServer;
use openhands_benches::{Outcome, row, us, wanted};

use crate::attach::{GRACE, Taken, grown, take};

/// How many of the newest events are wanted.
pub(crate) const WANTED: usize = 50;

pub(crate) async fn bench(smoke: bool) -> Outcome {
    let (long, short, older, rounds) = match smoke {
        true => (400, 200, 200, 1),
        false => (100_000, 1_000, 20_000, 5),
    };
    let long_home = tempfile::tempdir()?;
    let short_home = tempfile::tempdir()?;
    let (long_id, long) = grown(long_home.path(), long).await?;
    let (short_id, short) = grown(short_home.path(), short).await?;
    let start = async |home: &std::path::Path| LocalServer::builder().state_dir(home).start().await;
    let (long_server, short_server) = (
        start(long_home.path()).await?,
        start(short_home.path()).await?,
    );
    let long_key = Some(long_server.session_api_key());
    let short_key = Some(short_server.session_api_key());
    let (long_url, short_url) = (long_server.url().as_str(), short_server.url().as_str());
    // The first reader finds the server's own caches cold.
    take(us("tail")?, long_url, long_key, long_id, long).await?;
    take(us("tail")?, short_url, short_key, short_id, short).await?;
    for _ in 0..rounds {
        let Taken { seconds, held, .. } =
            take(us("tail")?, long_url, long_key, long_id, long).await?;
        row("last 50 of 100,000", "ours", seconds * 1e3, "ms");
        row("memory of the last 50", "ours", held / 1024.0, "KiB");
        let taken = take(us("tail")?, short_url, short_key, short_id, short).await?;
        row("last 50 of 100,000", "of 1,000", taken.seconds * 1e3, "ms");
    }
    row("memory of the last 50", "promised", 4096.0, "KiB");
    for _ in 0..rounds.min(2) {
        let taken = take(us("attach-floor")?, long_url, long_key, long_id, long).await?;
        row(
            "last 50 of 100,000",
            "bare drain",
            taken.seconds * 1e3,
            "ms",
        );
    }
    for _ in 0..rounds.min(3) {
        for (name, role) in [("ours", "older"), ("bare REST", "older-floor")] {
            if wanted(name) {
                let taken = take(us(role)?, long_url, long_key, long_id, older).await?;
                row(
                    "older events",
                    name,
                    older as f64 / taken.seconds,
                    "events/s",
                );
            }
        }
    }
    long_server.shutdown(GRACE).await?;
    short_server.shutdown(GRACE).await?;
    Ok(())
}
