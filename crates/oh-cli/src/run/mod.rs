//! `oh run`.

mod attend;
pub(crate) mod output;

use std::{
    fs::{self, File},
    io::{BufWriter, Read as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::{Args, ValueEnum};
use openhands::{
    Agent, ConfirmationPolicy, Conversation, ConversationId, Cursor, Llm, RunStatus, Workspace,
    protocol::config::SecurityAnalyzer,
};
use tokio::task::JoinHandle;

use crate::{
    exit::{Exit, Failure, Outcome},
    records::{self, Place, RUNNING, Record},
    server::Server,
    signals::{Signals, stopped},
    talk::input::Input,
    target,
};
use attend::{Attention, End};
use output::Output;

#[derive(Args)]
pub(crate) struct Options {
    /// The task of the agent. `-` reads it from stdin.
    #[arg(required_unless_present = "resume")]
    task: Option<String>,
    /// Continue an earlier run, given by its id or the beginning of its id. A task is sent as the
    /// next message.
    #[arg(long, value_name = "ID")]
    resume: Option<String>,
    /// The agent's directory. Default: the current one.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    dir: Option<PathBuf>,
    /// Use the server at this URL, with the session key in OH_SESSION_API_KEYS_0 or
    /// SESSION_API_KEY, and a directory of that server. Default: the background server (`oh up`);
    /// without one, a private server is started.
    #[arg(long, value_name = "URL", conflicts_with = "resume", requires = "dir")]
    server: Option<String>,
    /// Start a private server even if the background server is running.
    #[arg(long, conflicts_with_all = ["resume", "server"])]
    private: bool,
    /// The model. Default: LLM_MODEL. The key is read from LLM_API_KEY; other LLM_ variables count
    /// as well.
    #[arg(long, conflicts_with = "resume")]
    model: Option<String>,
    /// The URL of the model's provider. Default: LLM_BASE_URL, or the provider's own.
    #[arg(long, value_name = "URL", conflicts_with = "resume")]
    base_url: Option<String>,
    /// Which actions wait for approval.
    #[arg(long, value_enum, default_value_t = Confirm::Never, conflicts_with = "resume")]
    confirm: Confirm,
    /// Interrupt the agent when the conversation has cost this much, in US dollars.
    #[arg(long, value_name = "DOLLARS")]
    max_cost: Option<f64>,
    /// Stop after this number of steps.
    #[arg(long, value_name = "STEPS", conflicts_with = "resume")]
    max_iterations: Option<u32>,
    /// Interrupt the agent after this time.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The title of the conversation.
    #[arg(long, conflicts_with = "resume")]
    title: Option<String>,
    /// Print one JSON object a line. Approvals are then requested on stdout and answered on stdin.
    #[arg(long)]
    json: bool,
    /// Write the record, the events, the answer and the patch here. Default: a directory for each
    /// run in $OH_STATE_DIR, which `oh ls` lists.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    output_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Confirm {
    /// The agent acts without asking.
    Never,
    /// The agent asks before actions that its model rates as risky or cannot rate.
    Risky,
    /// The agent asks before every action.
    Always,
}

/// The beginning of a run.
struct Beginning {
    place: Place,
    record: Record,
    /// The message to send.
    message: Option<String>,
    /// Whether the run is a new one, whose directory is removed if nothing comes of it.
    new: bool,
}

/// Runs an agent until it has finished, or must stop.
pub(crate) async fn run(options: Options) -> Outcome {
    let output = Output::new(options.json);
    let message = message(options.task.as_deref(), options.json)?;
    let llm = match options.resume {
        Some(_) => None,
        None => Some(output.streaming(model(&options)?)),
    };
    // From here on, no signal ends the program by itself.
    let mut signals = Signals::new()?;
    let beginning = begin(&options, message)?;
    let (place, new) = (beginning.place.clone(), beginning.new);
    let mut created = false;
    let outcome = {
        let work = work(
            &options,
            llm,
            beginning,
            &output,
            &mut signals,
            &mut created,
        );
        work.await
    };
    if new && !created {
        place.abandon();
    }
    outcome
}

/// Returns the text of the task.
fn message(task: Option<&str>, json: bool) -> Result<Option<String>, Failure> {
    let Some(task) = task else {
        return Ok(None);
    };
    let mut text = task.to_owned();
    if task == "-" {
        if json {
            let what = "with --json, stdin is for answers: give the task as an argument";
            return Err(Exit::Usage.because(what));
        }
        text.clear();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| {
                Exit::Usage.because(format!("cannot read the task from stdin: {error}"))
            })?;
    }
    match text.trim().is_empty() {
        true => Err(Exit::Usage.because("the task is empty")),
        false => Ok(Some(text)),
    }
}

/// Returns the configuration of the model.
fn model(options: &Options) -> Result<Llm, Failure> {
    let llm = match &options.model {
        Some(model) => Llm::from_env_with_model("LLM_", model)?,
        None => Llm::from_env("LLM_")
            .map_err(|error| Exit::Configuration.because(format!("{error}, or use --model")))?,
    };
    Ok(options
        .base_url
        .iter()
        .fold(llm, |llm, url| llm.base_url(url)))
}

/// Finds or creates the directory and the record of the run.
fn begin(options: &Options, message: Option<String>) -> Result<Beginning, Failure> {
    if let Some(id) = &options.resume {
        let (path, record) = records::find(id)?;
        let place = Place::open(path)?;
        return Ok(Beginning {
            place,
            record,
            message,
            new: false,
        });
    }
    let id = ConversationId::random();
    let path = match &options.output_dir {
        Some(path) => path.clone(),
        None => records::place_of(id)?,
    };
    if path.join("run.json").exists() {
        let message = format!(
            "{} contains another run: use an empty directory",
            path.display()
        );
        return Err(Exit::Configuration.because(message));
    }
    let directory = match (&options.dir, &options.server) {
        (Some(dir), Some(_)) => dir.clone(),
        (dir, _) => {
            let dir = dir.clone().unwrap_or_else(|| PathBuf::from("."));
            fs::canonicalize(&dir).map_err(|error| {
                let message = format!("cannot use the directory {}: {error}", dir.display());
                Exit::Configuration.because(message)
            })?
        }
    };
    let mut record = Record::new(id, message.as_deref().unwrap_or_default());
    record.directory = directory.to_string_lossy().into_owned();
    record.server.clone_from(&options.server);
    let place = Place::open(path)?;
    Ok(Beginning {
        place,
        record,
        message,
        new: true,
    })
}

/// Works on the run. Sets `created` as soon as there is a conversation.
async fn work(
    options: &Options,
    llm: Option<Llm>,
    beginning: Beginning,
    output: &Output,
    signals: &mut Signals,
    created: &mut bool,
) -> Outcome {
    let Beginning {
        place,
        mut record,
        message,
        ..
    } = beginning;
    let begun = Instant::now();
    let mut input = Input::new(options.json);
    let ready = async {
        let server = server(options, &place, &mut record, output).await?;
        let workspace = server.workspace(&record.directory);
        let conversation = match llm {
            Some(llm) => start(options, llm, &workspace, record.conversation).await?,
            None => Conversation::attach(server.client(), record.conversation).await?,
        };
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
        max_cost: options.max_cost,
        deadline: options
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
    let exit = match &end {
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
    record.exit_code = Some(exit.code());
    place.record(&record)?;
    if let Some(answer) = &answer {
        place.write("final.txt", answer.as_bytes())?;
    }
    if let Some(patch) = &patch {
        place.write("patch.diff", patch)?;
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
    written?;
    Ok(exit)
}

/// Returns the server of the run: the given one, that of the earlier run, the background server, or
/// an own one.
async fn server(
    options: &Options,
    place: &Place,
    record: &mut Record,
    output: &Output,
) -> Result<Server, Failure> {
    if record.server.is_some() || record.background {
        return target::server_of(place.path(), record).await;
    }
    let new = options.resume.is_none() && !options.private;
    if let Some(server) = match new {
        true => Server::background().await?,
        false => None,
    } {
        record.background = true;
        return Ok(server);
    }
    let output = output.clone();
    Server::own(place.clone(), move |step| output.note(step)).await
}

async fn start(
    options: &Options,
    llm: Llm,
    workspace: &Workspace,
    id: ConversationId,
) -> Result<Conversation, Failure> {
    let agent = Agent::default_preset(llm).cli_mode(true);
    let mut builder = Conversation::builder(workspace, agent).id(id);
    builder = match options.confirm {
        Confirm::Never => builder.confirmation_policy(ConfirmationPolicy::never()),
        Confirm::Always => builder.confirmation_policy(ConfirmationPolicy::always()),
        Confirm::Risky => builder
            .security_analyzer(SecurityAnalyzer::llm())
            .confirmation_policy(ConfirmationPolicy::approve_up_to(
                openhands::SecurityRisk::Low,
            )),
    };
    if let Some(steps) = options.max_iterations {
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
