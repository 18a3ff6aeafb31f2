//! The journal of a batch: a file that shows after a crash what ran, what did not, and what may
//! still run.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use oh_protocol::ConversationId;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, lock::lock};

/// The last state of a task in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskState {
    /// The conversation was about to be created, and may exist. A resumed batch looks for it.
    Started,
    /// The run has ended, in the way that [`TaskRecord::reason`] names.
    Ended,
    /// The server rejected the conversation, for the reason that [`TaskRecord::reason`] names. A
    /// resumed batch tries again.
    Rejected,
    /// The task failed after the conversation was created. A resumed batch does not repeat it.
    Failed,
    /// The server has ended, and the conversation with it. A resumed batch repeats the task only
    /// with [`Bulk::repeat_lost`](crate::Bulk::repeat_lost).
    Lost,
}

/// A line of a journal: a change of the state of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskRecord {
    /// The key of the task.
    pub task: String,
    /// The number of the attempt, from 1. Each attempt has its own conversation.
    pub attempt: u32,
    /// Id of the conversation.
    pub conversation: ConversationId,
    /// Name of the server.
    pub server: String,
    /// The state of the task.
    pub state: TaskState,
    /// How the run ended, such as `Finished`, or the kind of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The cost of the conversation in US dollars, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

impl TaskRecord {
    /// Returns whether a resumed batch does nothing about this task.
    pub(super) fn is_settled(&self, repeats: u32) -> bool {
        match self.state {
            TaskState::Started | TaskState::Rejected => false,
            TaskState::Ended | TaskState::Failed => true,
            TaskState::Lost => self.attempt > repeats,
        }
    }
}

/// An open journal. Locked until this is dropped, or the process ends.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<Written>,
    last: BTreeMap<String, TaskRecord>,
    spent: f64,
}

#[derive(Debug)]
struct Written {
    file: File,
    /// Length of the complete lines.
    length: u64,
}

impl Journal {
    /// Opens a journal, or creates it. Removes a line that was torn by a crash.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| failed(path, "open", error);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let path = path.display();
                let what = format!("another program uses the journal {path}");
                return Err(Error::without_conversation(ErrorKind::Journal, what));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let complete = complete(&text);
        let records = parse(path, complete)?;
        let length = u64::try_from(complete.len()).unwrap_or(u64::MAX);
        if complete.len() < text.len() {
            file.set_len(length).map_err(failed)?;
        }
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        sync_directory(path).map_err(failed)?;
        let spent = records.iter().filter_map(|record| record.cost).sum();
        let last = records.into_iter();
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(Written { file, length }),
            last: last.map(|record| (record.task.clone(), record)).collect(),
            spent,
        })
    }

    /// Reads the lines of a journal.
    pub(super) fn read(path: &Path) -> Result<Vec<TaskRecord>> {
        let text = std::fs::read(path).map_err(|error| failed(path, "read", error))?;
        parse(path, complete(&text))
    }

    /// Returns the last record of a task, from before this journal was opened.
    pub(super) fn last(&self, task: &str) -> Option<&TaskRecord> {
        self.last.get(task)
    }

    /// Returns the costs from before this journal was opened.
    pub(super) fn spent(&self) -> f64 {
        self.spent
    }

    /// Appends a line and waits until the disk has it. Blocks.
    pub(super) fn append(&self, record: &TaskRecord) -> Result<()> {
        let failed = |error| failed(&self.path, "write", error);
        let mut line = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        let mut written = lock(&self.file);
        let length = written.length;
        let done = written.file.write_all(&line);
        match done.and_then(|()| written.file.sync_data()) {
            Ok(()) => {
                written.length += u64::try_from(line.len()).unwrap_or(0);
                Ok(())
            }
            Err(error) => {
                // A partial line would damage the next one.
                let _kept_for_the_next_open = written.file.set_len(length);
                Err(failed(error))
            }
        }
    }
}

/// Returns the part with complete lines.
fn complete(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte == b'\n');
    &text[..end.map_or(0, |end| end + 1)]
}

fn parse(path: &Path, text: &[u8]) -> Result<Vec<TaskRecord>> {
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_slice(line).map_err(|error| {
                let (path, line) = (path.display(), index + 1);
                let what = format!("line {line} of the journal {path} is not valid");
                Error::without_conversation(ErrorKind::Journal, what).with_source(error)
            })
        })
        .collect()
}

fn failed(path: &Path, what: &str, error: std::io::Error) -> Error {
    let what = format!("cannot {what} the journal {}", path.display());
    Error::without_conversation(ErrorKind::Journal, what).with_source(error)
}

/// Makes the creation of a file durable.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match cfg!(unix) {
        true => File::open(directory)?.sync_all(),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(task: &str, state: TaskState, cost: Option<f64>) -> TaskRecord {
        TaskRecord {
            task: task.to_owned(),
            attempt: 1,
            conversation: ConversationId::random(),
            server: "http://127.0.0.1:1".to_owned(),
            state,
            reason: None,
            cost,
        }
    }

    #[test]
    fn a_torn_line_is_removed_and_the_rest_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("batch.jsonl");
        let started = record("a", TaskState::Started, None);
        let ended = record("a", TaskState::Ended, Some(0.25));
        let journal = Journal::open(&path).unwrap();
        journal.append(&started).unwrap();
        journal.append(&ended).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"task\":\"b\",\"att").unwrap();
        let journal = Journal::open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        assert_eq!(journal.last("a"), Some(&ended));
        assert_eq!(journal.last("b"), None);
        assert!((journal.spent() - 0.25).abs() < 1e-9);
        journal
            .append(&record("b", TaskState::Started, None))
            .unwrap();
        assert_eq!(Journal::read(&path).unwrap().len(), 3);
    }

    #[test]
    fn a_journal_has_one_user_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("batch.jsonl");
        let journal = Journal::open(&path).unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Journal, "{error}");
        assert!(error.to_string().contains("another program"), "{error}");
        drop(journal);
        Journal::open(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_line_is_an_error_with_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("batch.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
