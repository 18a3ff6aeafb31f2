//! The runs of this machine: a directory for each, with its record, its events and the state of its
//! server.
//!
//! | File | Content |
//! |-|-|
//! | `run.json` | the record, replaced as a whole |
//! | `events.jsonl` | each event as the server sent it, one a line |
//! | `final.txt` | the agent's last answer |
//! | `patch.diff` | what the agent changed, if its directory is a git repository |
//! | `server/` | the state of the run's own server |

use std::{
    env,
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use openhands::ConversationId;
use serde::{Deserialize, Serialize};

use crate::{
    exit::{Exit, Failure, Outcome},
    near::{Candidate, near},
};

/// The version of the schema of `run.json`.
const SCHEMA: u32 = 1;
const RECORD: &str = "run.json";
/// Time in which everything that a killed server has left is removed.
const CLEANUP: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// Time in which a program that starts has locked its directory.
const STARTING: Duration = Duration::from_secs(2);
pub(crate) const EVENTS: &str = "events.jsonl";

/// The record of a run: `run.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: u32,
    pub(crate) conversation: ConversationId,
    /// `running`, or how the run ended.
    pub(crate) status: String,
    /// The exit code, once the run has ended.
    pub(crate) exit_code: Option<u8>,
    /// Why the run did not finish.
    pub(crate) error: Option<String>,
    pub(crate) task: String,
    /// The agent's directory, on the server.
    pub(crate) directory: String,
    /// The URL of the server, if it was already running.
    pub(crate) server: Option<String>,
    /// Whether the conversation is on the background server.
    #[serde(default)]
    pub(crate) background: bool,
    /// The container in which the private server runs the agent.
    #[serde(default)]
    pub(crate) container: Option<Container>,
    /// The warm pool of a cluster whose sandbox the run had.
    #[serde(default)]
    pub(crate) pool: Option<String>,
    /// The run whose private server has the conversation, if this run is a fork of it.
    #[serde(default)]
    pub(crate) state_of: Option<ConversationId>,
    pub(crate) server_version: String,
    pub(crate) model: String,
    /// The beginning of the run, in seconds since 1970.
    pub(crate) started: u64,
    /// Duration in seconds.
    pub(crate) seconds: f64,
    /// Cost in US dollars. Not set if the server has not reported it.
    pub(crate) cost: Option<f64>,
    pub(crate) tokens: u64,
    pub(crate) events: usize,
}

/// A container of Docker that sees the agent's directory as `/workspace`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Container {
    /// The image. Not set: the one that the server's authors publish.
    pub(crate) image: Option<String>,
}

impl Record {
    pub(crate) fn new(conversation: ConversationId, task: &str) -> Self {
        Self {
            schema: SCHEMA,
            conversation,
            status: RUNNING.to_owned(),
            exit_code: None,
            error: None,
            task: task.to_owned(),
            directory: String::new(),
            server: None,
            background: false,
            container: None,
            pool: None,
            state_of: None,
            server_version: String::new(),
            model: String::new(),
            started: 0,
            seconds: 0.0,
            cost: None,
            tokens: 0,
            events: 0,
        }
    }
}

/// The status of a run that has not ended.
pub(crate) const RUNNING: &str = "running";
/// The status of a run whose program has ended without writing how.
const LOST: &str = "lost";

/// The directory of a run. Only one program at a time works with it.
#[derive(Clone)]
pub(crate) struct Place {
    path: PathBuf,
    /// Locked for as long as a program works with the run.
    _lock: Arc<File>,
}

impl Place {
    /// Creates the directory of a new run, or opens that of an earlier one.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Failure> {
        let failed = |error| unusable(&path, &error);
        private(&path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {
                let _lock = Arc::new(lock);
                Ok(Self { path, _lock })
            }
            Err(TryLockError::WouldBlock) => {
                let shown = path.display();
                let message =
                    format!("another program works with {shown}; use `oh attach` to join");
                Err(Exit::Configuration.because(message))
            }
            Err(TryLockError::Error(error)) => Err(unusable(&path, &error)),
        }
    }

    /// Waits until no process uses the state of the run's own server: if its program was killed, a
    /// process still removes what the server has left.
    pub(crate) fn without_server(&self) -> Result<(), Failure> {
        let path = self.server().join("lock");
        let Ok(lock) = File::open(&path) else {
            return Ok(());
        };
        let end = Instant::now() + CLEANUP;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let message = format!("a server still uses {}", self.server().display());
                    return Err(Exit::Configuration.because(message));
                }
                Err(TryLockError::Error(error)) => return Err(unusable(&path, &error)),
            }
        }
    }

    /// Removes what this program has put there for a run that did not begin, and the directory if
    /// it is empty then.
    pub(crate) fn abandon(&self) {
        // What cannot be removed does not hide why the run did not begin.
        let _ = self.without_server();
        let _ = fs::remove_dir_all(self.server());
        let _ = fs::remove_file(self.path.join("lock"));
        let _ = fs::remove_dir(&self.path);
    }

    /// Returns the directory for the state of the run's own server.
    pub(crate) fn server(&self) -> PathBuf {
        self.path.join("server")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces a file as a whole.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let path = self.path.join(name);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            file.write_all(content)?;
            file.persist(&path).map(drop).map_err(io::Error::from)
        };
        write().map_err(|error| unusable(&path, &error))
    }

    pub(crate) fn record(&self, record: &Record) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(record);
        let json = json.map_err(|error| Exit::Internal.because(error.to_string()))?;
        self.write(RECORD, &json)
    }

    /// Opens the file for the events, which is empty then.
    pub(crate) fn events(&self) -> Result<File, Failure> {
        let path = self.path.join(EVENTS);
        File::create(&path).map_err(|error| unusable(&path, &error))
    }
}

/// Creates a directory that only this user can read.
pub(crate) fn private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

pub(crate) fn unusable(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::StorageFull => Exit::Internal,
        _ => Exit::Configuration,
    };
    exit.because(format!("cannot use {}: {error}", path.display()))
}

/// Returns the directory of a run: `$OH_STATE_DIR/runs/ID`. By default, `OH_STATE_DIR` is
/// `$XDG_STATE_HOME/oh`, or `~/.local/state/oh`.
pub(crate) fn place_of(id: ConversationId) -> Result<PathBuf, Failure> {
    Ok(runs()?.join(id.to_string()))
}

/// Returns the directory of the background server.
pub(crate) fn background() -> Result<PathBuf, Failure> {
    Ok(state()?.join("up"))
}

/// Returns the file by which other programs find the server of the program that works in a place.
pub(crate) fn connection(place: &Path) -> PathBuf {
    place.join("server.json")
}

fn runs() -> Result<PathBuf, Failure> {
    Ok(state()?.join("runs"))
}

fn state() -> Result<PathBuf, Failure> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let state = set("OH_STATE_DIR").map(PathBuf::from).or_else(|| {
        let state = set("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.or_else(|| Some(Path::new(&set("HOME")?).join(".local/state")));
        Some(state?.join("oh"))
    });
    state.ok_or_else(|| {
        Exit::Configuration.because("HOME is not set: set OH_STATE_DIR to a directory for the runs")
    })
}

/// Finds a run by its id, or by the beginning of its id.
pub(crate) fn find(id: &str) -> Result<(PathBuf, Record), Failure> {
    let begins = |record: &Record| {
        let full = record.conversation.to_string();
        !id.is_empty() && full.starts_with(&id.to_lowercase())
    };
    let all = all()?;
    let mut matching: Vec<_> = all.iter().filter(|(_, record)| begins(record)).collect();
    match (matching.pop(), matching.is_empty()) {
        (Some((path, record)), true) => Ok((path.clone(), record.clone())),
        (Some(_), false) => {
            let message = format!("several runs begin with `{id}`: write more of the id");
            Err(Exit::Usage.because(message))
        }
        (None, _) => {
            let candidates = all.iter().map(|(path, run)| Candidate {
                id: run.conversation,
                task: &run.task,
                events: path.join(EVENTS),
            });
            let candidates: Vec<_> = candidates.collect();
            let (which, places) = match near(id, &candidates) {
                near if near.is_empty() => ("the newest are", (0..all.len().min(3)).collect()),
                near => ("near are", near),
            };
            let named = places.into_iter().filter_map(|place| all.get(place));
            let named: Vec<_> = named.map(|(_, run)| named_run(run)).collect();
            let hint = match named.as_slice() {
                [] => "there is none on this machine".to_owned(),
                named => format!("{which} {}", named.join(", ")),
            };
            Err(Exit::Usage.because(format!("no run has the id `{id}`: {hint}")))
        }
    }
}

/// Returns the id of a run with the beginning of its task.
fn named_run(record: &Record) -> String {
    format!("{} ({})", record.conversation, short(&record.task, 30))
}

/// Returns the beginning of the first line.
fn short(text: &str, characters: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    clean(&line.chars().take(characters).collect::<String>())
}

/// Removes what a program has left that was killed before its run began. `age`: the directories of
/// programs that are just starting are younger.
fn remove_unborn(path: &Path, age: Duration) {
    let lock = path.join("lock");
    let old = lock.metadata().and_then(|meta| meta.modified());
    let old = old.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed >= age));
    // The server of a killed program is still removing what it has left.
    if old
        && !in_use(&path.join("server"))
        && let Ok(_place) = Place::open(path.to_owned())
        && !path.join(RECORD).exists()
    {
        // Nobody misses what cannot be removed.
        let _ = fs::remove_dir_all(path);
    }
}

/// Returns all runs, the newest first. Leaves out what is no run.
pub(crate) fn all() -> Result<Vec<(PathBuf, Record)>, Failure> {
    let runs = runs()?;
    let entries = match fs::read_dir(&runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(&runs, &error)),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(json) = fs::read(path.join(RECORD)) else {
            remove_unborn(&path, STARTING);
            continue;
        };
        if let Ok(mut record) = serde_json::from_slice::<Record>(&json) {
            if record.status == RUNNING && !in_use(&path) {
                LOST.clone_into(&mut record.status);
            }
            found.push((path, record));
        }
    }
    found.sort_by_key(|(_, record)| std::cmp::Reverse(record.started));
    Ok(found)
}

/// Returns whether a program works with the run.
pub(crate) fn in_use(path: &Path) -> bool {
    let lock = File::open(path.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[derive(Args)]
pub(crate) struct List {
    /// Print each record as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// `oh ls`.
pub(crate) fn list(options: &List) -> Outcome {
    let mut out = io::stdout().lock();
    for (_, record) in all()? {
        match options.json {
            true => writeln!(out, "{}", line(&record)?)?,
            false => {
                let cost = record
                    .cost
                    .map_or("-".to_owned(), |cost| format!("${cost:.4}"));
                let task = short(&record.task, 50);
                let (id, status) = (record.conversation, &record.status);
                writeln!(out, "{id}  {status:<12}  {cost:>9}  {task}")?;
            }
        }
    }
    Ok(Exit::Finished)
}

pub(crate) fn line(record: &Record) -> Result<String, Failure> {
    serde_json::to_string(record).map_err(|error| Exit::Internal.because(error.to_string()))
}

/// Replaces control characters, which could command a terminal.
pub(crate) fn clean(text: &str) -> String {
    openhands::protocol::printable(text)
        .to_string()
        .replace(['\n', '\t'], " ")
}
