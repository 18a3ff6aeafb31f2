//! Measures the time from the server's final snapshot until `run()` returns.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openhands_benches::{Outcome, Subject, python, quantile, row, skipped, us, wanted};

use crate::live::Stage;

/// How long a client may take to request a run.
const FOLLOWS: Duration = Duration::from_millis(200);

pub(crate) async fn bench(smoke: bool) -> Outcome {
    let (rounds, runs) = if smoke { (1, 5) } else { (5, 100) };
    let stage = Stage::new(10).await?;
    for round in 0..rounds {
        let subjects = [
            ("ours", Some(us("returns")?)),
            ("Python SDK", python("returns")),
        ];
        for (name, command) in subjects {
            if !wanted(name) {
                continue;
            }
            let Some(command) = command else {
                if round == 0 {
                    skipped("run returns, 90th percentile", name, "not provisioned");
                }
                continue;
            };
            let runs = if name == "ours" { runs } else { runs / 5 };
            let log = stage.conversation().await?;
            let (url, id) = (stage.server().url(), log.id().to_string());
            let mut subject = Subject::start(command, &[&url, &id])?;
            subject.wait_for("up").await?;
            let mut late = Vec::new();
            for number in 0..runs + 1 {
                log.set_status("running");
                log.wedge();
                let asked = stage.runs();
                subject.send("go").await?;
                // A client that joins a run in progress does not request one.
                let asked_at = Instant::now();
                while stage.runs() == asked && asked_at.elapsed() < FOLLOWS {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                log.log_all(stage.events(10)).await;
                log.set_status("finished");
                log.unwedge();
                let ended = SystemTime::now().duration_since(UNIX_EPOCH)?;
                log.publish_state();
                let returned: f64 = subject.wait_for("returned").await?.parse()?;
                // The first run warms the caches and is not measured.
                if number > 0 {
                    late.push((returned - ended.as_secs_f64()) * 1e3);
                }
            }
            subject.send("end").await?;
            subject.ended().await?;
            for (work, at) in [
                ("run returns, median", 0.5),
                ("run returns, 90th percentile", 0.9),
            ] {
                row(work, name, quantile(&mut late, at), "ms");
            }
        }
    }
    row("run returns, 90th percentile", "promised", 5.0, "ms");
    Ok(())
}
