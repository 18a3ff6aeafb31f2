//! The output for each kind of event, compared with files in `tests/snapshots`.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p oh-view` writes the files. Read the changes before a commit.

use std::{env, fs, path::Path};

use oh_protocol::event::{Action, Observation};
use oh_protocol::{Event, Payload};
use oh_view::{Detail, Html, Jsonl, Markdown, Printer, Terminal, View};

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

#[cfg(feature = "syntax")]
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

fn markdown<'a>(events: impl IntoIterator<Item = &'a Event>) -> String {
    let mut page = Markdown::new(Vec::new(), View::new().detail(Detail::Full));
    for event in events {
        page.print(event).unwrap();
    }
    page.finish().unwrap();
    String::from_utf8(page.into_inner()).unwrap()
}

fn html<'a>(events: impl IntoIterator<Item = &'a Event>) -> String {
    let view = View::new().detail(Detail::Full);
    let mut page = Html::new(Vec::new(), view).title("A <title>");
    for event in events {
        page.print(event).unwrap();
    }
    page.finish().unwrap();
    // A second call adds nothing.
    page.finish().unwrap();
    String::from_utf8(page.into_inner()).unwrap()
}

/// Returns the part of a page that is about its events.
fn fragment(page: &str) -> &str {
    let from = page.find("<main>").unwrap() + "<main>\n".len();
    &page[from..page.find("<script>").unwrap()]
}

#[test]
fn markdown_shows_each_kind() {
    compare("markdown.snap", &each(|event| markdown([event])));
}

#[cfg(feature = "syntax")]
#[test]
fn html_shows_each_kind() {
    compare(
        "html.snap",
        &each(|event| fragment(&html([event])).to_owned()),
    );
}

#[test]
fn a_page_is_complete_and_has_a_chart() {
    let page = html(&conversation());
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert!(page.contains("<title>A &lt;title&gt;</title>"));
    assert_eq!(page.matches("<polyline").count(), 2);
    for once in [
        "<main>",
        "</main>",
        "<script>",
        "</script>",
        "<footer>",
        "</body>",
    ] {
        assert_eq!(page.matches(once).count(), 1, "{once}");
    }
    let opened = page.matches("<details ").count();
    assert_eq!(opened, page.matches("</details>").count());
    let without_events = html([]);
    assert!(without_events.contains("<main>\n</main>") && without_events.ends_with("</html>\n"));
}

#[test]
fn jsonl_keeps_the_bytes_of_each_event() {
    let mut log = Jsonl::new(Vec::new());
    let mut expected = Vec::new();
    for event in conversation() {
        log.print(&event).unwrap();
        expected.extend_from_slice(event.raw());
        expected.push(b'\n');
    }
    let pretty = "{\"id\":\"1\",\r\n\"kind\":\"PauseEvent\"}";
    log.print(&Event::from_json(pretty).unwrap()).unwrap();
    log.finish().unwrap();
    expected.extend_from_slice(b"{\"id\":\"1\",  \"kind\":\"PauseEvent\"}\n");
    assert_eq!(log.into_inner(), expected);
}

#[test]
fn every_shown_kind_says_more_than_its_title() {
    // Only these kinds have no content.
    let bare = ["PauseEvent", "InterruptEvent", "CondensationRequest"];
    for (kind, event) in of_each_kind() {
        let blocks = View::new().detail(Detail::Full).blocks(&event);
        let says = |block: &oh_view::Block| !block.parts.is_empty() || !block.note.is_empty();
        let fits = blocks.iter().all(says) || bare.contains(&&*kind) || kind.contains("Action");
        // The stats are shown as totals.
        assert_eq!(blocks.is_empty(), kind.ends_with(" stats"), "{kind}");
        assert!(fits, "{kind}: {blocks:?}");
    }
}
