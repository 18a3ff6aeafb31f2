//! Measures the CPU time per unit of work at ten times the work, relative to the original work.

use std::{hint::black_box, time::Instant};

use openhands::Event;
use openhands_benches::{Corpus, Outcome, row, us};

use crate::{
    attach,
    live::{Stage, Work},
};

const BEFORE: &str = "at a tenth";
const UNIT: &str = "ns/unit";

pub(crate) async fn bench(smoke: bool) -> Outcome {
    let (rounds, scale) = if smoke { (1, 200) } else { (3, 1) };
    let count = 100_000 / scale;
    let stage = Stage::new(10 * count).await?;
    for _ in 0..rounds {
        for (events, name) in [(count, BEFORE), (10 * count, "ours")] {
            row("decode", name, decode(events)?, UNIT);
        }
        // Columns: conversations, events per conversation, readers per conversation.
        let works = [
            ("live events", (1, count, 1), (1, 10 * count, 1)),
            (
                "live conversations",
                (100, count / 100, 1),
                (1_000, count / 100, 1),
            ),
            ("readers", (1, count, 1), (1, count, 10)),
        ];
        for (work, small, large) in works {
            for ((conversations, events, readers), name) in [(small, BEFORE), (large, "ours")] {
                let each = Work::new(conversations, events, readers);
                let taken = stage.follow(us("live")?, each).await?;
                let units = conversations * events * readers;
                row(work, name, taken.cpu * 1e9 / units as f64, UNIT);
            }
        }
        // Running conversations receive one event at a time.
        let (one, many) = if smoke { (20, 20) } else { (2_000, 1_000) };
        for (conversations, events, name) in [(1, one, "of one"), (many, 20, "ours")] {
            let work = Work::new(conversations, events, 1).in_turns();
            let taken = stage.follow(us("live")?, work).await?;
            let units = (conversations * events) as f64;
            row("1,000 running", name, taken.cpu * 1e9 / units, UNIT);
        }
        for (events, name) in [(count / 5, BEFORE), (2 * count, "ours")] {
            let log = stage.conversation().await?;
            log.log_all(stage.events(events)).await;
            let (url, id) = (stage.server().url(), log.id());
            let taken = attach::take(us("attach")?, &url, None, id, events).await?;
            row("attach", name, taken.cpu * 1e9 / events as f64, UNIT);
            stage.forget(&log).await?;
        }
    }
    Ok(())
}

/// Decodes and holds `count` events.
fn decode(count: usize) -> Outcome<f64> {
    let lines: Vec<_> = Corpus::recorded()?.events(count).collect();
    let begun = Instant::now();
    let events = lines.into_iter().map(Event::from_json);
    let events: Vec<Event> = events.collect::<Result<_, _>>()?;
    for event in &events {
        black_box(event.payload());
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / count as f64)
}
