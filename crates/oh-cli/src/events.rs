//! `oh events`.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    time::Duration,
};

use clap::Args;
use openhands::{Conversation, Cursor, Event, ExecutionStatus, RunStatus};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    exit::{Exit, Failure, Outcome},
    records::{self, EVENTS, unusable},
    server::At,
    signals::{Signals, stopped},
    target::Target,
};

/// Time between the end of a wait for approval and the next look.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: At,
    /// The id of the run, or its beginning.
    id: String,
    /// Go on with each new event until the run has ended.
    #[arg(long)]
    follow: bool,
    /// Print only events of this kind, such as `ActionEvent`. Can be repeated.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
}

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    event: &'a RawValue,
}

/// Prints each event as a line of JSON.
pub(crate) async fn events(options: Options) -> Outcome {
    let recorded = match (records::find(&options.id), &options.at.server) {
        (Ok((path, record)), None) => {
            let is_private = record.server.is_none() && !record.background;
            // The file of a run in progress is complete up to now.
            let is_over = is_private && record.state_of.is_none() && !records::in_use(&path);
            (is_over || !options.follow).then(|| path.join(EVENTS))
        }
        _ => None,
    };
    if let Some(file) = recorded.filter(|file| file.exists()) {
        return options.recorded(&file);
    }
    let mut signals = Signals::new()?;
    tokio::select! {
        ended = options.served() => ended,
        signal = signals.next() => Ok(stopped(signal)),
    }
}

impl Options {
    fn recorded(&self, path: &Path) -> Outcome {
        let failed = |error| unusable(path, &error);
        let file = File::open(path).map_err(failed)?;
        for (seq, line) in (0..).zip(BufReader::new(file).split(b'\n')) {
            self.print(seq, &Event::from_json_lossy(line.map_err(failed)?))?;
        }
        Ok(Exit::Finished)
    }

    async fn served(&self) -> Outcome {
        let target = Target::find(&self.id, &self.at).await?;
        let conversation = target.attach().await?;
        let mut events = conversation.subscribe(Cursor::Start).numbered();
        let mut shown = None;
        if self.follow {
            let over = tokio::spawn(over(conversation.clone()));
            let mut over = std::pin::pin!(over);
            loop {
                tokio::select! {
                    biased;
                    event = events.next() => match event {
                        Some(event) => shown = Some(self.show(event?)?),
                        None => break,
                    },
                    _ = &mut over => break,
                }
            }
        }
        let newest = conversation.events();
        let newest = newest.numbered().next_back().map(|(seq, _)| seq);
        while shown < newest
            && let Some(event) = events.next().await
        {
            shown = Some(self.show(event?)?);
        }
        conversation.close().await?;
        target.end().await?;
        Ok(Exit::Finished)
    }

    fn show(&self, (seq, event): (u64, Event)) -> Result<u64, Failure> {
        self.print(seq, &event)?;
        Ok(seq)
    }

    fn print(&self, seq: u64, event: &Event) -> Result<(), Failure> {
        let wanted = self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == event.kind());
        // A program that was killed has left part of a line.
        let json = serde_json::from_str(event.as_json());
        if let (true, Ok(event)) = (wanted, json) {
            let line = serde_json::to_string(&Line { seq, event });
            let line = line.map_err(|error| Exit::Internal.because(error.to_string()))?;
            let mut out = io::stdout().lock();
            writeln!(out, "{line}").and_then(|()| out.flush())?;
        }
        Ok(())
    }
}

/// Waits until the run has ended. An action that waits for approval does not end it.
async fn over(conversation: Conversation) {
    while let Ok(outcome) = conversation.join().await
        && outcome.status() == RunStatus::WaitingForConfirmation
    {
        let mut states = conversation.states();
        while let Some(state) = states.next().await {
            if state.execution_status() != ExecutionStatus::WaitingForConfirmation {
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
