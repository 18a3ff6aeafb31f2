//! The files of a run that no other program writes: brought up to date by commands that continue or
//! copy its conversation.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
};

use openhands::{Conversation, Cursor, RunOutcome};

use crate::{
    exit::{Exit, Failure},
    records::{EVENTS, Place, RUNNING, Record, unusable},
    target::Target,
};

/// Updates the files of the run, unless another program works with them, or nothing is recorded.
pub(crate) async fn store(
    target: &Target,
    record: &Record,
    conversation: &Conversation,
    answer: Option<&str>,
) -> Result<(), Failure> {
    let Some(path) = &target.path else {
        return Ok(());
    };
    // A run in progress has a program that writes its record, or gets one with `oh run --resume`.
    let opened = match target.server.place() {
        Some(place) if place.path() == path => place.clone(),
        _ => match Place::open(path.clone()) {
            Ok(place) => place,
            Err(_) => return Ok(()),
        },
    };
    let file = opened.path().join(EVENTS);
    add_events(&file, conversation).await?;
    let mut record = record.clone();
    if record.status == RUNNING {
        // The agent goes on without a program that writes its record.
        "left".clone_into(&mut record.status);
    }
    opened.record(&record)?;
    if let Some(answer) = answer {
        opened.write("final.txt", answer.as_bytes())?;
    }
    Ok(())
}

/// Updates the record of the run.
pub(crate) fn summarize(
    record: &mut Record,
    conversation: &Conversation,
    last: Option<&RunOutcome>,
) {
    let running = conversation.state().execution_status().is_running();
    match last {
        Some(last) if !running => {
            record.status = last.status().to_string();
            record.exit_code = Some(Exit::of(last).code());
            record.error = error_of(last);
        }
        _ => {
            RUNNING.clone_into(&mut record.status);
            (record.exit_code, record.error) = (None, None);
        }
    }
    let usage = conversation.usage().current();
    record.cost = usage.cost();
    record.tokens = usage
        .prompt_tokens()
        .saturating_add(usage.completion_tokens());
    let newest = conversation.events();
    let newest = newest.numbered().next_back();
    record.events = newest.map_or(0, |(seq, _)| usize::try_from(seq + 1).unwrap_or(usize::MAX));
    if record.model.is_empty() {
        record.model = conversation.state().model().unwrap_or_default().to_string();
    }
}

/// Returns the error of a run that did not finish.
pub(crate) fn error_of(outcome: &RunOutcome) -> Option<String> {
    match (outcome.error(), outcome.reason()) {
        _ if outcome.is_finished() => None,
        (Some(error), _) => Some(format!("{}: {}", error.code, error.detail)),
        (None, Some(reason)) => Some(reason.to_string()),
        (None, None) => None,
    }
}

/// Appends the events that the file does not have yet.
pub(crate) async fn add_events(path: &Path, conversation: &Conversation) -> Result<(), Failure> {
    let failed = |error| unusable(path, &error);
    let complete = complete_lines(path).map_err(failed)?;
    let newest = conversation.events();
    let Some((newest, _)) = newest.numbered().next_back() else {
        return Ok(());
    };
    let cursor = match complete {
        0 => Cursor::Start,
        lines if lines > newest => return Ok(()),
        lines => Cursor::After(lines - 1),
    };
    let file = match complete {
        0 => File::create(path),
        _ => fs::OpenOptions::new().append(true).open(path),
    };
    let mut file = BufWriter::new(file.map_err(failed)?);
    let mut events = conversation.subscribe(cursor).numbered();
    while let Some(event) = events.next().await {
        let (seq, event) = event?;
        writeln!(file, "{}", event.as_json()).map_err(failed)?;
        if seq >= newest {
            break;
        }
    }
    file.flush().map_err(failed)
}

/// Returns the number of lines. 0 if the last one is not complete: the file is written again.
fn complete_lines(path: &Path) -> io::Result<u64> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let (mut lines, mut line) = (0, Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.last() != Some(&b'\n') {
            return Ok(0);
        }
        lines += 1;
        line.clear();
    }
    Ok(lines)
}
