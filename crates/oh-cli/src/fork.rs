//! `oh fork`.

use std::{
    env,
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;
use openhands::{Conversation, ConversationId, Llm};

use crate::{
    exit::{Exit, Failure, Outcome},
    records::{self, EVENTS, Place, Record},
    refresh, run,
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
    /// Continue the copy with this message.
    task: Option<String>,
    /// Copy the events up to this one, given by its id or the beginning of its id.
    #[arg(long, value_name = "EVENT")]
    from: Option<String>,
    /// Print one JSON object a line while the copy works, as `oh run` does.
    #[arg(long, requires = "task")]
    json: bool,
}

/// Copies a conversation, and lets the copy work if there is a task.
pub(crate) async fn fork(options: Options) -> Outcome {
    let copied = {
        let mut signals = Signals::new()?;
        tokio::select! {
            copied = copy(&options) => copied?,
            signal = signals.next() => return Ok(stopped(signal)),
        }
    };
    match &options.task {
        Some(task) => run::run(run::Options::resuming(copied, task, options.json)?).await,
        None => {
            writeln!(std::io::stdout(), "{copied}")?;
            Ok(Exit::Finished)
        }
    }
}

async fn copy(options: &Options) -> Result<ConversationId, Failure> {
    if options
        .task
        .as_ref()
        .is_some_and(|task| task.trim().is_empty())
    {
        return Err(Exit::Usage.because("the task is empty"));
    }
    let target = Target::find(&options.id, &options.at).await?;
    let original = target.attach().await?;
    let model = original.state().model().unwrap_or_default().to_string();
    let mut fork = original.branches().fork();
    if let Some(event) = &options.from {
        fork = fork.from_event(event_of(&original, event)?);
    }
    // The server does not copy keys.
    if let Some(llm) = llm(&model)? {
        fork = fork.llm(llm);
    }
    let copy = fork.await?;
    let record = record(&target, &copy, options);
    let place = Place::open(records::place_of(copy.id())?)?;
    refresh::add_events(&place.path().join(EVENTS), &copy).await?;
    place.record(&record)?;
    let id = copy.id();
    copy.close().await?;
    original.close().await?;
    target.end().await?;
    Ok(id)
}

/// Returns the configured model, or the model of the original with the configured key. `None` if
/// nothing is configured: the copy can then use what the server knows.
fn llm(model: &str) -> Result<Option<Llm>, Failure> {
    let has_key = env::var_os("LLM_API_KEY").is_some_and(|key| !key.is_empty());
    match run::model_here() {
        Ok(llm) => Ok(Some(llm)),
        Err(_) if has_key => Ok(Some(Llm::from_env_with_model("LLM_", model)?)),
        Err(_) => Ok(None),
    }
}

/// Finds an event by its id, or by the beginning of its id.
fn event_of(conversation: &Conversation, id: &str) -> Result<String, Failure> {
    let events = conversation.events();
    let begins = |event: &&openhands::Event| event.id().starts_with(id);
    let mut found = events.iter().filter(begins).map(openhands::Event::id);
    match (found.next(), found.next()) {
        (Some(event), None) if !id.is_empty() => Ok(event.to_owned()),
        (Some(_), Some(_)) if !id.is_empty() => {
            let message = format!("several events begin with `{id}`: write more of the id");
            Err(Exit::Usage.because(message))
        }
        _ => {
            let message = format!("the run has no event `{id}`: `oh events` lists the ids");
            Err(Exit::Usage.because(message))
        }
    }
}

fn record(target: &Target, copy: &Conversation, options: &Options) -> Record {
    let original = target.record.as_ref();
    let task = original.map_or("", |record| &*record.task);
    let mut record = Record::new(copy.id(), options.task.as_deref().unwrap_or(task));
    if let Some(original) = original {
        record.directory.clone_from(&original.directory);
        record.server.clone_from(&original.server);
        record.background = original.background;
        let is_private = original.server.is_none() && !original.background;
        record.state_of = is_private.then(|| original.state_of.unwrap_or(original.conversation));
    }
    record.started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    record.server_version = target.server.version();
    refresh::summarize(&mut record, copy, None);
    record.status = copy.state().execution_status().to_string();
    record
}
