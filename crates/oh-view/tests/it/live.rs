//! The live area below the printed lines.

use std::io::Write as _;

use oh_protocol::Event;
use oh_view::{Live, Printer, Terminal, View};
use serde_json::json;

use crate::{
    events::{action, conversation, event, stats},
    screen::Screen,
};

fn live(screen: &Screen, color: bool) -> Live<Screen> {
    let terminal = Terminal::new(screen.clone(), View::new()).color(color);
    Live::new(terminal, screen.size())
}

fn running() -> Event {
    let change = json!({"key": "execution_status", "value": "running"});
    event("environment", "ConversationStateUpdateEvent", change)
}

fn command(command: &str) -> Event {
    action(
        "terminal",
        json!({"command": command, "kind": "TerminalAction"}),
    )
}

#[test]
fn printed_lines_never_change() {
    let events = conversation();
    for (columns, rows, color) in [(80, 24, true), (40, 10, true), (10, 6, false)] {
        let screen = Screen::new(columns, rows);
        let mut live = live(&screen, color);
        let pipe = Screen::new(columns, rows).unknown_size();
        let mut terminal = Terminal::new(pipe.clone(), View::new()).width(columns.into());
        let history = || -> Vec<String> {
            let text = pipe.raw();
            text.lines()
                .map(|line| line.trim_end().to_owned())
                .collect()
        };
        for event in &events {
            live.print(event).unwrap();
            terminal.print(event).unwrap();
            let (shown, history) = (screen.lines(), history());
            let (above, area) = shown.split_at(history.len().min(shown.len()));
            assert_eq!(above, &history[..above.len()]);
            assert!(history[above.len()..].iter().all(String::is_empty));
            assert!(area.len() <= 5.min(usize::from(rows) / 2), "{area:?}");
        }
        live.finish().unwrap();
        terminal.finish().unwrap();
        assert_eq!(screen.lines(), history());
        assert!(screen.is_normal());
    }
}

#[test]
fn the_area_shows_the_running_action_and_the_totals() {
    let screen = Screen::new(60, 24);
    let mut live = live(&screen, false);
    live.print_all(&[running(), stats(1200, 0.5)]).unwrap();
    let totals = "tokens: 1.2K in, 20 out · $0.5000";
    assert_eq!(screen.lines(), ["waiting for the model  0 s", totals]);
    live.print(&command("sleep 60")).unwrap();
    let action = ["03:04:05 terminal", "  $ sleep 60"];
    let area = ["terminal  0 s  $ sleep 60", totals];
    assert_eq!(screen.lines(), [action, area].concat());
    live.hide().unwrap();
    assert_eq!(screen.lines(), action);
    live.show().unwrap();
    assert_eq!(screen.lines(), [action, area].concat());
    // The echo of a typed text does not stay.
    screen.clone().write_all(b"^C").unwrap();
    drop(live);
    assert_eq!(screen.lines(), action);
}

#[test]
fn the_area_fits_after_each_change_of_the_size() {
    let screen = Screen::new(60, 20);
    let mut live = live(&screen, false);
    live.print_all(&[running(), stats(1200, 0.5), command(&"word ".repeat(40))])
        .unwrap();
    let printed = screen.lines().len() - 2;
    for (columns, rows) in [(30, 20), (10, 20), (8, 20), (90, 30), (60, 8)] {
        screen.resize(columns, rows);
        live.refresh().unwrap();
        let lines = screen.lines();
        assert_eq!(lines.len(), printed + 2, "{lines:?}");
        assert!(lines[printed].starts_with("termin"), "{lines:?}");
        assert!(lines[printed + 1].starts_with("tokens"), "{lines:?}");
    }
    // Too small for an area.
    for (columns, rows) in [(7, 20), (60, 3)] {
        let screen = Screen::new(columns, rows);
        let mut live = self::live(&screen, false);
        live.print_all(&[running(), stats(1200, 0.5)]).unwrap();
        assert_eq!(screen.raw(), "");
    }
    screen.resize(7, 20);
    live.refresh().unwrap();
    assert_eq!(screen.lines().len(), printed);
}

#[test]
fn an_output_that_is_not_a_terminal_has_no_area() {
    let screen = Screen::new(80, 24).unknown_size();
    let mut live = live(&screen, false);
    let mut terminal = Terminal::new(Vec::new(), View::new());
    for event in conversation() {
        live.print(&event).unwrap();
        live.refresh().unwrap();
        terminal.print(&event).unwrap();
    }
    drop(live);
    assert_eq!(screen.raw().as_bytes(), terminal.into_inner());
}

#[test]
fn texts_in_the_area_are_cleaned() {
    let screen = Screen::new(80, 24);
    let mut live = live(&screen, false);
    live.print(&command("API_KEY=canary \x1b]0;title\x07\x1b[2J\u{202e}x"))
        .unwrap();
    let area = screen.lines().pop().unwrap();
    assert!(area.starts_with("terminal  0 s  $ API_KEY="), "{area}");
    let raw = screen.raw();
    assert!(!raw.contains("canary") && !raw.contains("\x1b]"), "{raw}");
    assert!(
        !raw.contains("[2J\u{202e}") && raw.contains("␛[2J"),
        "{raw}"
    );
}
