//! The files of a run that no other program writes.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
};

use openhands::{Conversation, Cursor};

use crate::{
    exit::Failure,
    records::{EVENTS, Place, RUNNING, Record, unusable},
    target::Target,
};

/// Updates the files of the run, unless another program works with them, or nothing is recorded.
pub(super) async fn store(
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
    let failed = |error| unusable(&file, &error);
    add_events(&file, conversation).await?.map_err(failed)?;
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

/// Appends the events that the file does not have yet.
async fn add_events(path: &Path, conversation: &Conversation) -> Result<io::Result<()>, Failure> {
    let complete = match complete_lines(path) {
        Ok(lines) => lines,
        Err(error) => return Ok(Err(error)),
    };
    let newest = conversation.events();
    let Some((newest, _)) = newest.numbered().next_back() else {
        return Ok(Ok(()));
    };
    let cursor = match complete {
        0 => Cursor::Start,
        lines if lines > newest => return Ok(Ok(())),
        lines => Cursor::After(lines - 1),
    };
    let file = match complete {
        0 => File::create(path),
        _ => fs::OpenOptions::new().append(true).open(path),
    };
    let mut file = match file {
        Ok(file) => BufWriter::new(file),
        Err(error) => return Ok(Err(error)),
    };
    let mut events = conversation.subscribe(cursor).numbered();
    while let Some(event) = events.next().await {
        let (seq, event) = event?;
        if let Err(error) = writeln!(file, "{}", event.as_json()) {
            return Ok(Err(error));
        }
        if seq >= newest {
            break;
        }
    }
    Ok(file.flush())
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
