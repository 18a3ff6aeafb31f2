//! `oh run`.

mod agent;
mod attend;
mod begin;
mod options;
pub(crate) mod output;
mod rules;

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use openhands::{
    Conversation, ConversationId, Cursor, RunStatus, Workspace, WorkspaceHandle as _,
    protocol::config::SecurityAnalyzer,
};
use tokio::task::JoinHandle;

use crate::{
    config::Confirm,
    exit::{Exit, Failure, Outcome},
    records::{Place, RUNNING, Record},
    server::Server,
    show,
    signals::{Signals, stopped},
    talk::input::Input,
    target,
};
use agent::{Parts, Tool};
use attend::{Attention, End};
use begin::{Beginning, Terms, begin};
use output::Output;

pub(crate) use agent::model_here;
pub(crate) use options::Options;

/// Runs an agent until it has finished, or must stop.
pub(crate) async fn run(options: Options) -> Outcome {
    let options = options.normalized();
    let output = Output::new(options.json);
    let message = options.message()?;
    // From here on, no signal ends the program by itself.
    let mut signals = Signals::new()?;
    let beginning = begin(&options, message)?;
    for key in beginning.terms.parts.iter().flat_map(Parts::ignored) {
        output.note(&format!(
            "the MCP file's `{key}` has no meaning here, and is ignored"
        ));
    }
    let place = beginning.place.clone();
    output.starting(&beginning.record, &place.path().to_string_lossy());
    let mut created = options.resume.is_some();
    let outcome = {
        let work = work(&options, beginning, &output, &mut signals, &mut created);
        work.await
    };
    // The directory of a new run is removed if nothing comes of it.
    if !created {
        place.abandon();
    }
    outcome
}

/// Works on the run. Sets `created` as soon as there is a conversation.
async fn work(
    options: &Options,
    beginning: Beginning,
    output: &Output,
    signals: &mut Signals,
    created: &mut bool,
) -> Outcome {
    let Beginning {
        place,
        mut record,
        message,
        mut terms,
    } = beginning;
    let begun = Instant::now();
    let mut input = Input::new(options.json);
    let ready = async {
        let tools = terms.parts.as_ref().map_or(&[][..], |parts| &parts.tools);
        let server = server(options, tools, &place, &mut record, output).await?;
        match (&record.container, &options.resume) {
            (Some(_), Some(_)) => target::start_container(&server, &record).await?,
            (Some(_), None) => output.note("starting the container"),
            (None, _) => {}
        }
        let workspace = server.workspace(&record.directory);
        let id = record.conversation;
        let started = start(options, &mut terms, &workspace, id, output).await;
        let conversation = started.map_err(|failure| match record.container {
            // The server names the reason in its log only.
            Some(_) => server.with_log(failure),
            None => failure,
        })?;
        let workspace = server.workspace_of(&record);
        Ok::<_, Failure>((server, workspace, conversation))
    };
    let (server, workspace, conversation) = tokio::select! {
        ready = ready => ready?,
        // Dropping the start ends what it has started.
        signal = signals.next() => return Ok(stopped(signal)),
    };
    *created = true;
    record.server_version = server.version().to_owned();
    RUNNING.clone_into(&mut record.status);
    (record.error, record.exit_code) = (None, None);
    record.model = conversation.state().model().unwrap_or_default().to_string();
    record.started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    place.record(&record)?;
    output.started(&record, Some(&place.path().to_string_lossy()));
    let _watching = output.watch(&conversation);

    let events = BufWriter::new(place.events()?);
    let recorded = record_events(&conversation, events, output.clone());
    let attention = Attention {
        conversation: &conversation,
        output,
        rules: &terms.rules,
        max_cost: terms.max_cost,
        deadline: terms
            .timeout
            .map(|limit| begun + Duration::from_secs(limit)),
    };
    let end = attention.until_the_end(message, &mut input, signals).await;
    let answer = match &end {
        Ok(End::Outcome(outcome, _)) if outcome.is_finished() => {
            conversation.agent().final_response().await.ok()
        }
        _ => None,
    };
    let left = matches!(end, Ok(End::Left(_)));
    // The patch is an extra: a directory need not be a repository.
    let patch = match left {
        true => None,
        false => tokio::select! {
            patch = workspace.git().patch().bytes() => patch.ok(),
            _ = signals.next() => None,
        },
    };
    let usage = conversation.usage().current();
    conversation.close().await?;
    let written = recorded
        .await
        .unwrap_or_else(|error| Err(Exit::Internal.because(error.to_string())));
    (record.cost, record.events) = (usage.cost(), conversation.events().len());
    record.tokens = usage
        .prompt_tokens()
        .saturating_add(usage.completion_tokens());
    record.seconds = begun.elapsed().as_secs_f64();
    let mut exit = match &end {
        Ok(End::Outcome(outcome, exit)) => {
            record.status = outcome.status().to_string();
            if outcome.status() != RunStatus::Finished {
                record.error = outcome
                    .error()
                    .map(|error| format!("{}: {}", error.code, error.detail));
            }
            *exit
        }
        Ok(End::Left(signal)) => {
            "left".clone_into(&mut record.status);
            stopped(*signal)
        }
        Err(failure) => {
            "failed".clone_into(&mut record.status);
            record.error = Some(failure.message.clone());
            failure.exit
        }
    };
    let files = || {
        if let Some(answer) = &answer {
            place.write("final.txt", answer.as_bytes())?;
        }
        if let Some(patch) = &patch {
            place.write("patch.diff", patch)?;
        }
        match options.output_dir {
            Some(_) => show::page(&place, options.title.as_deref()),
            None => Ok(()),
        }
    };
    let mut stored = written.and_then(|()| files());
    // The record is the most important file, and small: it is tried even if the disk is full.
    record_end(&mut record, &mut exit, &stored);
    if let Err(failure) = place.record(&record) {
        stored = stored.and(Err(failure));
        record_end(&mut record, &mut exit, &stored);
    }
    output.ended(&record, answer.as_deref());
    tokio::select! {
        ended = server.end(left) => ended?,
        // Dropping the server ends it at once.
        _ = signals.next() => {}
    }
    if options.output_dir.is_none() && !matches!(exit, Exit::Finished) {
        output.note(&format!(
            "continue with `oh run --resume {}`",
            record.conversation
        ));
    }
    stored?;
    Ok(exit)
}

/// Sets how the run has ended. A missing file is a failure, unless there was another one.
fn record_end(record: &mut Record, exit: &mut Exit, stored: &Result<(), Failure>) {
    if let (Err(failure), Exit::Finished) = (stored, &*exit) {
        *exit = failure.exit;
        record.error = Some(failure.message.clone());
    }
    record.exit_code = Some(exit.code());
}

/// Returns the server of the run: the given one, that of the earlier run, the background server, or
/// an own one.
async fn server(
    options: &Options,
    tools: &[Tool],
    place: &Place,
    record: &mut Record,
    output: &Output,
) -> Result<Server, Failure> {
    let files: Vec<_> = tools
        .iter()
        .filter_map(|tool| tool.directory.clone())
        .collect();
    if record.server.is_some() && !files.is_empty() {
        let message = "the file of a tool needs a private server: use --private, or name a module";
        return Err(Exit::Usage.because(message));
    }
    if record.container.is_some() && !files.is_empty() {
        let message = "the file of a tool is not in the container: name a module of the image";
        return Err(Exit::Usage.because(message));
    }
    if options.resume.is_none()
        && let Some(pool) = &record.pool
    {
        if !files.is_empty() {
            let message = "the file of a tool is not in the sandbox: name a module of its image";
            return Err(Exit::Usage.because(message));
        }
        output.note("claiming a sandbox");
        return Server::pod(pool).await;
    }
    let elsewhere = record.server.is_some()
        || record.background
        || record.state_of.is_some()
        || record.pool.is_some();
    if elsewhere {
        return target::server_of(place.path(), record).await;
    }
    let shared = options.resume.is_none() && !options.is_private() && files.is_empty();
    if shared && let Some(server) = Server::background().await? {
        record.background = true;
        return Ok(server);
    }
    let output = output.clone();
    let container = record.container.as_ref();
    Server::own(place.clone(), &files, container, move |step| {
        output.note(step)
    })
    .await
}

async fn start(
    options: &Options,
    terms: &mut Terms,
    workspace: &Workspace,
    id: ConversationId,
    output: &Output,
) -> Result<Conversation, Failure> {
    let policy = terms.policy();
    let Some(parts) = &mut terms.parts else {
        return Ok(Conversation::attach(workspace.client(), id).await?);
    };
    let agent = parts.agent(workspace, |llm| output.streaming(llm)).await?;
    let mut builder = Conversation::builder(workspace, agent)
        .id(id)
        .confirmation_policy(policy);
    if terms.confirm == Confirm::Risky {
        builder = builder.security_analyzer(SecurityAnalyzer::llm());
    }
    for tool in &parts.tools {
        builder = builder.tool_module(&tool.name, &tool.module);
    }
    if let Some(hooks) = parts.hooks.take() {
        builder = builder.hooks(hooks);
    }
    if let Some(steps) = terms.max_iterations {
        builder = builder.max_iterations(steps);
    }
    let conversation = builder.start().await?;
    if let Some(title) = &options.title {
        conversation.title().set(title).await?;
    }
    Ok(conversation)
}

/// Writes all events of the conversation to the file, and shows those that are new.
fn record_events(
    conversation: &Conversation,
    mut file: BufWriter<File>,
    output: Output,
) -> JoinHandle<Result<(), Failure>> {
    let shown = conversation
        .events()
        .numbered()
        .next_back()
        .map(|(seq, _)| seq);
    let mut events = conversation.subscribe(Cursor::Start).numbered();
    tokio::spawn(async move {
        let mut written = Ok(());
        while let Some(event) = events.next().await {
            let Ok((seq, event)) = event else {
                break;
            };
            // A full disk does not stop the agent.
            if written.is_ok() {
                let line = writeln!(file, "{}", event.as_json()).and_then(|()| file.flush());
                written = line.map_err(|error| {
                    Exit::Internal.because(format!("cannot write events.jsonl: {error}"))
                });
            }
            if shown.is_none_or(|shown| seq > shown) {
                output.event(seq, &event);
            }
        }
        written
    })
}
