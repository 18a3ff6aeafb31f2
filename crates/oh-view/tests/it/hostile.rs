//! Hostile text in every place of an event.

use oh_protocol::Event;
use oh_view::{Detail, Html, Markdown, Printer, Terminal, View};
use proptest::prelude::*;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::events::{event, of_each_kind};

/// Replaces every text of an event that is not its header, and keeps the kinds.
fn poison(value: &mut Value, text: &str) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if !matches!(
                    &**name,
                    "kind" | "id" | "timestamp" | "role" | "type" | "key"
                ) {
                    poison(member, text);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| poison(item, text)),
        Value::String(old) => *old = text.to_owned(),
        _ => {}
    }
}

/// Returns an event of each kind, full of this text.
pub(crate) fn poisoned(text: &str) -> Vec<Event> {
    let mut all = vec![
        event("agent", text, json!({"a": text})),
        event(text, "PauseEvent", json!({})),
    ];
    for event in of_each_kind().values() {
        let mut tree: Value = serde_json::from_str(event.as_json()).unwrap();
        poison(&mut tree, text);
        all.push(Event::from_json(tree.to_string()).unwrap());
    }
    all
}

/// Text with characters that control terminals, change the direction or have unusual widths.
pub(crate) fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "\\PC{0,12}",
        any::<char>().prop_map(String::from),
        prop::sample::select(vec![
            "\x1b[2J",
            "\x1b]0;title\x07",
            "\x1b[31mred\x1b[0m",
            "\u{9b}1A",
            "\r",
            "\x08",
            "\0",
            "\u{202e}",
            "\u{2066}",
            "\u{200b}",
            "\u{200d}",
            "\u{fe0f}",
            "\u{301}",
            "\u{2028}",
            "\t",
            "\n",
            "```",
            "</script>",
            "<b>",
            "]]>",
            "&lt;",
            "日本",
            "👩\u{200d}🚀",
            "\u{2764}\u{fe0f}",
            "\"'",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn printed(event: &Event, detail: Detail, width: usize, color: bool) -> String {
    let view = View::new().detail(detail);
    let mut terminal = Terminal::new(Vec::new(), view).width(width).color(color);
    terminal.print(event).unwrap();
    terminal.finish().unwrap();
    String::from_utf8(terminal.into_inner()).unwrap()
}

fn acts(letter: char) -> bool {
    (letter.is_control() && letter != '\n')
        || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}')
}

/// Removes the sequences that a theme writes.
fn without_styles(text: &str) -> String {
    let mut plain = String::new();
    let mut pieces = text.split("\x1b[");
    plain.push_str(pieces.next().unwrap());
    for piece in pieces {
        let (codes, rest) = piece.split_once('m').expect("a style ends with m");
        assert!(
            codes
                .chars()
                .all(|code| code.is_ascii_digit() || code == ';'),
            "{codes:?}"
        );
        plain.push_str(rest);
    }
    plain
}

fn check(event: &Event, detail: Detail, width: usize) {
    let plain = printed(event, detail, width, false);
    assert!(!plain.contains(acts), "{plain:?}");
    for line in plain.lines() {
        assert!(
            line.width() <= width,
            "{} > {width}: {line:?}",
            line.width()
        );
    }
    assert_eq!(without_styles(&printed(event, detail, width, true)), plain);
}

/// Returns the events as a page, and as Markdown.
fn pages(events: &[Event]) -> (String, String) {
    let view = View::new().detail(Detail::Full).highlight("a");
    let mut html = Html::new(Vec::new(), view.clone());
    let mut markdown = Markdown::new(Vec::new(), view);
    for event in events {
        html.print(event).unwrap();
        markdown.print(event).unwrap();
    }
    html.finish().unwrap();
    markdown.finish().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(html.into_inner()), text(markdown.into_inner()))
}

/// The elements of a page, and those of Markdown.
const ELEMENTS: &[&str] = &[
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "h1",
    "input",
    "output",
    "main",
    "details",
    "summary",
    "time",
    "b",
    "span",
    "p",
    "pre",
    "i",
    "code",
    "div",
    "dl",
    "dt",
    "dd",
    "ul",
    "ol",
    "li",
    "small",
    "mark",
    "footer",
    "svg",
    "polyline",
    "script",
    "em",
    "strong",
    "del",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "br",
    "blockquote",
    "a",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
];

/// Checks that every `<` begins an element that the writer writes, with attributes that it writes.
fn check_page(page: &str) {
    assert_eq!(page.matches("</script>").count(), 1);
    assert_eq!(page.matches("</style>").count(), 1);
    // Style and script of the page are not text of an event.
    let start = page.find("<main>").unwrap();
    let end = page.find("<script>").unwrap();
    let page = &page[start..end];
    assert!(!page.contains(acts), "{page:?}");
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("an element ends");
        let tag = tag.trim_start_matches('/').trim_end_matches('/');
        let mut words = tag.splitn(2, ' ');
        let name = words.next().unwrap().trim();
        assert!(ELEMENTS.contains(&name), "<{tag}>");
        let attributes = words.next().unwrap_or_default();
        let names = attributes
            .split('"')
            .step_by(2)
            .map(str::trim)
            .filter(|name| !name.is_empty());
        for name in names {
            let known = [
                "class=",
                "open",
                "href=",
                "title=",
                "start=",
                "points=",
                "viewBox=",
                "preserveAspectRatio=",
                "role=",
                "aria-label=",
            ];
            assert!(known.contains(&name), "{name} in <{tag}>");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_event_adds_an_element_to_a_page(text in hostile()) {
        let (html, markdown) = pages(&poisoned(&text));
        check_page(&html);
        assert!(!markdown.contains(acts));
    }
}

#[test]
fn markup_in_an_event_is_text() {
    let text = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\n\n\
        <div onclick=x>\n\n[a](javascript:alert(1)) ![b](https://h/i.png) \"onload=x'\n```\n<b>";
    let events = poisoned(text);
    let (html, markdown) = pages(&events);
    check_page(&html);
    assert!(html.contains("&lt;img src=x onerror=") && !html.contains("javascript:alert(1)\""));
    // An open fence of a message does not contain the next event.
    let headings = markdown.matches("\n### ").count() + 1;
    let view = View::new().detail(Detail::Full);
    let blocks: usize = events.iter().map(|event| view.blocks(event).len()).sum();
    assert_eq!(headings, blocks);
    assert!(markdown.matches("\n```\n\n###").count() > 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_event_controls_the_terminal(
        text in hostile(),
        width in prop::sample::select(vec![10, 19, 20, 80]),
        full in any::<bool>(),
    ) {
        let detail = if full { Detail::Full } else { Detail::Compact };
        for event in poisoned(&text) {
            check(&event, detail, width);
        }
    }
}

#[test]
fn huge_texts_are_printed_in_the_width() {
    for text in [
        "x".repeat(1 << 20),
        "日".repeat(100_000),
        "\u{301}".repeat(100_000),
    ] {
        let huge = crate::events::message("agent", "assistant", &text);
        check(&huge, Detail::Full, 10);
        let many = "line\n".repeat(100_000);
        let diff = json!({"command": "create", "path": "p", "file_text": many,
            "kind": "FileEditorAction"});
        check(
            &crate::events::action("file_editor", diff),
            Detail::Compact,
            10,
        );
    }
}
