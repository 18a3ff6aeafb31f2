//! `oh attach`.

mod talk;

use std::time::Duration;

use clap::Args;
use openhands::{Conversation, RunOutcome};

use crate::{
    exit::{Exit, Failure, Outcome},
    records::Record,
    refresh,
    run::output::Output,
    server::At,
    signals::{Signals, stopped},
    talk::input::Input,
    target::Target,
};
use talk::{Left, Talk};

/// Time in which the agent must stop before its own server ends.
const SETTLE: Duration = Duration::from_secs(10);
/// Time after which a server that does not respond is considered gone.
const GONE: Duration = Duration::from_secs(20);

#[derive(Args)]
pub(crate) struct Options {
    /// The id of the conversation, or its beginning.
    id: String,
    #[command(flatten)]
    at: At,
    /// Show this number of earlier events first.
    #[arg(long, value_name = "N", default_value_t = 50)]
    tail: usize,
    /// Write one JSON object a line to stdout, and read commands as JSON lines from stdin.
    #[arg(long)]
    json: bool,
}

/// Shows a conversation, and does what is typed. Leaving does not stop the agent.
pub(crate) async fn attach(options: Options) -> Outcome {
    let output = Output::new(options.json);
    let mut signals = Signals::new()?;
    let ready = async {
        let target = Target::find(&options.id, &options.at).await?;
        let attach = Conversation::attach(target.server.client(), target.id);
        let attach = attach.tail(options.tail.max(1)).unreachable_after(GONE);
        let conversation = attach.await?;
        Ok::<_, Failure>((target, conversation))
    };
    let (target, conversation) = tokio::select! {
        ready = ready => ready?,
        // Dropping the start ends what it has started.
        signal = signals.next() => return Ok(stopped(signal)),
    };
    let mut record = match &target.record {
        Some(record) => record.clone(),
        None => Record::new(target.id, ""),
    };
    record.server_version = target.server.version();
    let mut input = Input::new(options.json);
    let path = target.path.as_ref().map(|path| path.to_string_lossy());
    output.started(&record, path.as_deref());
    if matches!(input, Input::Person(_)) {
        output.note("type a message, or /help; Ctrl-C leaves");
    }
    // A person who types would be disturbed by the live area.
    let watching = match input {
        Input::Nobody => output.watch(&conversation),
        Input::Person(_) | Input::Program(_) => None,
    };
    let mut talk = Talk::new(&conversation, &output, options.tail);
    let left = talk.until_left(&mut input, &mut signals).await;
    let mut last = talk.last.take();
    drop(talk);
    drop(watching);
    if target.server.is_own() && conversation.state().execution_status().is_running() {
        output.note("leaving ends the server of this run: pausing the agent first");
        tokio::select! {
            paused = paused(&conversation) => last = paused.or(last),
            // The server ends in any case.
            _ = signals.next() => {}
        }
    }
    let exit = match left {
        Left::Quit => Ok(Exit::Finished),
        Left::Closed => Ok(Exit::ClosedOutput),
        Left::Signal(signal) => Ok(stopped(signal)),
        Left::Ended => Ok(last.as_ref().map_or(Exit::Internal, Exit::of)),
        Left::Lost(failure) => Err(failure),
    };
    let answer = match &last {
        Some(last) if last.is_finished() && exit.is_ok() => {
            conversation.agent().final_response().await.ok()
        }
        _ => None,
    };
    refresh::summarize(&mut record, &conversation, last.as_ref());
    let stored = match exit {
        Ok(_) => refresh::store(&target, &record, &conversation, answer.as_deref()).await,
        Err(_) => Ok(()),
    };
    conversation.close().await?;
    if exit.is_ok() {
        output.ended(&record, answer.as_deref());
    }
    tokio::select! {
        ended = target.end() => ended?,
        // Dropping the server ends it at once.
        _ = signals.next() => {}
    }
    stored?;
    exit
}

/// Pauses the agent, and returns how its run has ended.
async fn paused(conversation: &Conversation) -> Option<RunOutcome> {
    conversation.pause().await.ok()?;
    let joined = conversation.join().timeout(SETTLE).await.ok()?;
    (!conversation.state().execution_status().is_running()).then_some(joined)
}
