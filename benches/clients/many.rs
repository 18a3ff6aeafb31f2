//! Measures many live conversations in one process: the cost of each beyond the bytes of its
//! state and events. The floor is one bare socket per conversation.

use std::time::Duration;

use openhands_benches::{Outcome, python, row, skipped, typescript, upgraded, us, wanted};

use crate::live::{Stage, Work};

const EVENTS: usize = 20;

pub(crate) async fn bench(smoke: bool) -> Outcome {
    let stage = Stage::new(EVENTS).await?;
    let sizes: &[(&str, usize)] = match smoke {
        true => &[("20 conversations", 20)],
        false => &[
            ("1,000 conversations", 1_000),
            ("10,000 conversations", 10_000),
        ],
    };
    let (rounds, idle) = match smoke {
        true => (1, Duration::from_millis(100)),
        false => (3, Duration::from_secs(5)),
    };
    let own = stage.bytes(EVENTS) + state_bytes(&stage).await?;
    let cores = std::thread::available_parallelism()?.get();
    for (work, count) in sizes {
        let threads = format!("threads, {work}");
        let requests = format!("requests while idle, {work}");
        for round in 0..rounds {
            let subjects = [
                ("bare socket each", Some(us("live-floor")?), true),
                ("ours", Some(us("live")?), true),
                ("TypeScript client", typescript("live"), round == 0),
                // The SDK uses a thread and an event loop per conversation, so more than a thousand
                // is too many.
                ("Python SDK", python("live"), round == 0 && *count <= 1_000),
            ];
            for (name, command, takes_part) in subjects {
                if !takes_part || !wanted(name) {
                    continue;
                }
                let Some(command) = command else {
                    skipped(work, name, "not provisioned");
                    continue;
                };
                let each = Work::new(*count, EVENTS, 1).idle(idle);
                let taken = stage.follow(command, each).await?;
                let floor = name == "bare socket each";
                let each = taken.held / *count as f64 - if floor { 0.0 } else { own as f64 };
                row(work, name, each.max(1.0) / 1024.0, "KiB each");
                row(&threads, name, taken.threads, "threads");
                row(&requests, name, taken.asked, "requests");
            }
        }
        if *count > 1_000 {
            skipped(
                work,
                "Python SDK",
                "it needs a thread and an event loop each",
            );
        }
        row(work, "promised", 12.0, "KiB each");
        row(&threads, "cores + 2", (cores + 2) as f64, "threads");
        row(&requests, "promised", 1.0, "requests");
    }
    Ok(())
}

/// Returns the size of a conversation's state in the server's first snapshot.
async fn state_bytes(stage: &Stage) -> Outcome<usize> {
    let log = stage.conversation().await?;
    let address = stage.server().address().to_string();
    let target = format!("/sockets/session/{}", log.id());
    let mut socket = upgraded(&address, &target, None).await?;
    loop {
        let frame = socket.next().await?;
        if frame.starts_with(br#"{"type":"transient""#) {
            return Ok(frame.len());
        }
    }
}
