//! Runs that a wrong id may have meant.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use openhands::ConversationId;

/// The most runs to name.
const NAMED: usize = 3;
/// The shortest text that is searched for in ids and tasks.
const SHORTEST: usize = 3;
/// The shortest text that may be the id of an event.
const EVENT_ID: usize = 8;

/// A run that may be meant.
pub(crate) struct Candidate<'a> {
    pub(crate) id: ConversationId,
    pub(crate) task: &'a str,
    /// The file with the events of the run.
    pub(crate) events: PathBuf,
}

/// Returns the places of the runs that are near to what was written instead of an id: a similar
/// id, a part of the id, a part of the task, or the id of an event. The nearest come first.
pub(crate) fn near(written: &str, runs: &[Candidate<'_>]) -> Vec<usize> {
    let written = written.trim().to_lowercase();
    let distances = runs.iter().map(|run| distance(&written, run));
    let mut found: Vec<_> = distances
        .enumerate()
        .filter_map(|(place, distance)| Some((distance?, place)))
        .collect();
    found.sort_unstable();
    let places = found.into_iter().map(|(_, place)| place);
    places.take(NAMED).collect()
}

/// Returns how far the run is from the text: mistakes in the id first, then other matches.
fn distance(written: &str, run: &Candidate<'_>) -> Option<usize> {
    let id = run.id.to_string();
    let length = written.chars().count();
    // A character more or less shifts the rest of the beginning.
    let beginnings = [length.saturating_sub(1), length, length + 1];
    let mistakes = beginnings
        .into_iter()
        .filter(|&end| end > 0)
        .map(|end| strsim::osa_distance(written, id.get(..end).unwrap_or(&id)))
        .min()?;
    // One mistake in four characters, or two in a long text.
    let allowed = (length / 4).min(2);
    if mistakes <= allowed {
        return Some(mistakes);
    }
    if length < SHORTEST {
        return None;
    }
    if id.contains(written) || run.id.to_hex().contains(written) {
        return Some(3);
    }
    if run.task.to_lowercase().contains(written) {
        return Some(4);
    }
    (length >= EVENT_ID && has_event(&run.events, written)).then_some(5)
}

/// Returns whether the file has an event whose id begins like this.
fn has_event(events: &Path, id: &str) -> bool {
    if !id.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return false;
    }
    let Ok(file) = File::open(events) else {
        return false;
    };
    let mut lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    lines.any(|line| {
        let event = openhands::Event::from_json_lossy(line);
        event.id().to_lowercase().starts_with(id)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const ID: &str = "4b1c9d20-7e55-4f0a-9a3e-0123456789ab";

    fn run<'a>(id: &str, task: &'a str, events: &Path) -> Candidate<'a> {
        let (id, events) = (id.parse().unwrap(), events.to_owned());
        Candidate { id, task, events }
    }

    fn matches(written: &str) -> bool {
        let event = r#"{"id":"EEE1f2a3-0000","timestamp":"","source":"agent","kind":"PauseEvent"}"#;
        let mut events = tempfile::NamedTempFile::new().unwrap();
        events.write_all(event.as_bytes()).unwrap();
        let run = run(ID, "Fix the Parser of dates.", events.path());
        near(written, &[run]).len() == 1
    }

    #[test]
    fn a_mistake_a_part_a_word_and_an_event_are_near() {
        for written in [
            "4b1d",
            "b41c",
            "4bc9",
            "4b1c9d20-7e55-4f0a-9a3e-0123456789ba",
            "4b1c9d20-7e55-4f0a-9a3e-1234567890ab",
            "0123456789ab",
            "7e554f0a",
            "parser",
            "eee1f2a3",
        ] {
            assert!(matches(written), "{written}");
        }
        for written in ["", "0", "c9", "ffff", "printer", "eee1f2a4", "e"] {
            assert!(!matches(written), "{written}");
        }
    }

    #[test]
    fn the_nearest_runs_come_first() {
        let run = |id, task| run(id, task, Path::new("/nowhere"));
        let runs = [
            run("aaaaaaaa-0000-4000-8000-000000000000", "like 4b1c9d20"),
            run("4b1c9d21-0000-4000-8000-000000000000", ""),
            run("4b1c9d12-0000-4000-8000-000000000000", ""),
            run("ffffffff-0000-4000-8000-000000000000", ""),
        ];
        assert_eq!(near("4b1c9d20", &runs), [1, 2, 0]);
        assert_eq!(near("4b1c9d02", &runs), [1, 2]);
    }
}
