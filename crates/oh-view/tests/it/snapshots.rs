//! The output for each kind of event, compared with files in `tests/snapshots`.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p oh-view` writes the files. Read the changes before a commit.

use std::{env, fs, path::Path};

use oh_protocol::event::{Action, Observation};
use oh_protocol::{Event, Payload};
use oh_view::{Detail, Printer, Terminal, View};

use crate::events::{conversation, of_each_kind};

/// Compares a text with a file. Escapes are `\e` in the file.
fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(name);
    let text = text.replace('\x1b', "\\e");
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (at, (line, expected)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(line, expected, "line {} of {name}", at + 1);
    }
    assert_eq!(
        text.lines().count(),
        expected.lines().count(),
        "lines of {name}"
    );
}

fn terminal<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    detail: Detail,
    color: bool,
) -> String {
    let view = View::new().detail(detail);
    let mut terminal = Terminal::new(Vec::new(), view).width(100).color(color);
    for event in events {
        terminal.print(event).unwrap();
    }
    terminal.finish().unwrap();
    String::from_utf8(terminal.into_inner()).unwrap()
}

/// Returns the output for each kind, under a line with the kind.
fn each(print: impl Fn(&Event) -> String) -> String {
    let kinds = of_each_kind();
    let shown = kinds
        .iter()
        .map(|(kind, event)| format!("==== {kind}\n{}", print(event)));
    shown.collect()
}

#[test]
fn every_kind_is_in_the_snapshots() {
    let kinds = of_each_kind();
    let known = Payload::KINDS
        .iter()
        .chain(Action::KINDS)
        .chain(Observation::KINDS);
    for kind in known {
        let has = |name: &String| name.split(' ').any(|part| part == *kind);
        assert!(kinds.keys().any(has), "no event of kind {kind}");
    }
}

#[test]
fn the_terminal_shows_each_kind_in_full() {
    compare(
        "terminal-full.snap",
        &each(|event| terminal([event], Detail::Full, false)),
    );
}

#[test]
fn the_terminal_shows_each_kind_with_colours() {
    compare(
        "terminal-color.snap",
        &each(|event| terminal([event], Detail::Full, true)),
    );
}

#[test]
fn the_terminal_shows_a_compact_conversation() {
    compare(
        "terminal-compact.snap",
        &terminal(&conversation(), Detail::Compact, false),
    );
}

#[test]
fn every_shown_kind_says_more_than_its_title() {
    // Only these kinds have no content.
    let bare = ["PauseEvent", "InterruptEvent", "CondensationRequest"];
    for (kind, event) in of_each_kind() {
        let blocks = View::new().detail(Detail::Full).blocks(&event);
        let says = |block: &oh_view::Block| !block.parts.is_empty() || !block.note.is_empty();
        let fits = blocks.iter().all(says) || bare.contains(&&*kind) || kind.contains("Action");
        assert!(!blocks.is_empty(), "{kind}");
        assert!(fits || kind.ends_with(" stats"), "{kind}: {blocks:?}");
    }
}
