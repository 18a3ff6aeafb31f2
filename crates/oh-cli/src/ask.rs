//! `oh ask`.

use std::io::Write as _;

use clap::Args;
use openhands::{Conversation, protocol::printable};

use crate::{
    exit::{Exit, Failure, Outcome},
    server::At,
    signals::{Signals, stopped},
    target::Target,
};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: At,
    /// The id of the run, or its beginning.
    id: String,
    /// The question.
    question: String,
}

/// Asks the agent's model about the conversation, which stays as it is.
pub(crate) async fn ask(options: Options) -> Outcome {
    let mut signals = Signals::new()?;
    if options.question.trim().is_empty() {
        return Err(Exit::Usage.because("the question is empty"));
    }
    let asking = async {
        let target = Target::find(&options.id, &options.at).await?;
        let conversation = Conversation::attach(target.server.client(), target.id);
        let conversation = conversation.live().await?;
        let answer = conversation.agent().ask(&options.question).await;
        conversation.close().await?;
        target.end().await?;
        Ok::<_, Failure>(answer?)
    };
    let answer = tokio::select! {
        answer = asking => answer?,
        signal = signals.next() => return Ok(stopped(signal)),
    };
    writeln!(std::io::stdout(), "{}", printable(&answer))?;
    Ok(Exit::Finished)
}
