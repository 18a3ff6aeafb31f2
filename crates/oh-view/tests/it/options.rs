//! Options of the view and of the terminal.

use oh_protocol::Event;
use oh_view::{Block, Color, Detail, Paint, Part, Printer, Style, Terminal, Theme, Tone, View};
use serde_json::json;

use crate::events::{action, event, message, stats};

fn shown(view: View, events: &[Event]) -> String {
    let mut terminal = Terminal::new(Vec::new(), view);
    for event in events {
        terminal.print(event).unwrap();
    }
    terminal.finish().unwrap();
    String::from_utf8(terminal.into_inner()).unwrap()
}

#[test]
fn skipped_user_messages_do_not_hide_those_of_hooks() {
    let events = [
        message("user", "user", "typed"),
        message("environment", "user", "from a hook"),
        message("agent", "assistant", "answer"),
    ];
    let output = shown(View::new().skip_user_messages(true), &events);
    assert!(!output.contains("typed"), "{output}");
    assert!(
        output.contains("from a hook") && output.contains("answer"),
        "{output}"
    );
    assert!(shown(View::new(), &events).contains("typed"));
}

#[test]
fn a_parallel_batch_shows_its_usage_once() {
    let call = |command: &str| {
        action(
            "terminal",
            json!({"command": command, "kind": "TerminalAction"}),
        )
    };
    let events = [
        call("a"),
        call("b"),
        stats(1200, 0.5),
        stats(1200, 0.5),
        call("c"),
    ];
    let usage = "tokens: 1.2K in, 20 out · $0.5000";
    let full = shown(View::new().detail(Detail::Full), &events);
    assert_eq!(full.matches(usage).count(), 1, "{full}");
    let compact = shown(View::new(), &events);
    assert!(compact.ends_with(&format!("  {usage}\n")), "{compact}");
    assert_eq!(compact.matches("tokens:").count(), 1);
}

#[test]
fn a_custom_renderer_replaces_one_kind_and_is_masked_too() {
    let view = View::new()
        .secret(&"canary-value".into())
        .render("MessageEvent", |event| {
            let text = format!("{} \x1b[2J canary-value", event.id());
            Some(vec![
                Block::new(Tone::Agent, "custom").part(Part::text(text)),
            ])
        })
        .render("MessageEvent", |event| {
            (event.source().as_str() == "user").then(Vec::new)
        })
        .render("PauseEvent", |_| None);
    let events = [
        message("user", "user", "hidden"),
        message("agent", "assistant", "replaced"),
        event("user", "PauseEvent", json!({})),
    ];
    let expected = "03:04:05 custom\n  e ␛[2J <redacted>\n03:04:05 pause requested\n";
    assert_eq!(shown(view.clone(), &events), expected);
    assert!(!format!("{view:?}").contains("canary"));
}

#[test]
fn secrets_are_hidden_by_name_and_by_value() {
    let secret = View::new()
        .detail(Detail::Full)
        .secret(&"canary-value".into());
    let events = [
        message("agent", "assistant", "the value is canary-value"),
        action(
            "terminal",
            json!({"command": "API_KEY=canary1 ./x", "kind": "TerminalAction"}),
        ),
        action(
            "t",
            json!({"data": {"password": "canary2", "headers": {"x": "canary3"}},
            "kind": "MCPToolAction"}),
        ),
        event(
            "agent",
            "Newer",
            json!({"api_key": "canary4", "env": {"A": "canary5"}}),
        ),
        event(
            "environment",
            "ConversationStateUpdateEvent",
            json!({"key": "agent", "value": {"llm": {"note": "canary6"}}}),
        ),
        event(
            "hook",
            "HookExecutionEvent",
            json!({"hook_event_type": "Stop",
            "hook_command": "x --token canary7", "stdout": "Authorization: Bearer canary8"}),
        ),
    ];
    let output = shown(secret, &events);
    assert!(!output.contains("canary"), "{output}");
    assert!(
        output.contains("<redacted>") && output.contains("API_KEY="),
        "{output}"
    );
}

#[test]
fn an_error_is_shown_in_full() {
    let detail: String = (0..200).map(|line| format!("line {line}\n")).collect();
    let errors = [
        event(
            "environment",
            "ConversationErrorEvent",
            json!({"code": "LLMError",
            "detail": detail, "classification": {"kind": "auth", "retryable": true}}),
        ),
        event(
            "agent",
            "AgentErrorEvent",
            json!({"tool_name": "t", "tool_call_id": "c", "error": detail}),
        ),
    ];
    for error in errors {
        let output = shown(View::new(), std::slice::from_ref(&error));
        let all = detail
            .lines()
            .all(|line| output.contains(&format!("  {line}\n")));
        assert!(all, "{output}");
    }
}

#[test]
fn colours_follow_the_theme_and_highlights_are_marked() {
    let theme = Theme::monochrome().with(Style::Agent, Paint::new().color(Color::Cyan));
    let view = View::new().highlight("TODO").highlight("");
    let mut terminal = Terminal::new(Vec::new(), view).color(true).theme(theme);
    terminal
        .print(&message("agent", "assistant", "a TODO here"))
        .unwrap();
    let output = String::from_utf8(terminal.into_inner()).unwrap();
    let expected = "\x1b[2m03:04:05 \x1b[0m\x1b[36magent\x1b[0m\n  a \x1b[7mTODO\x1b[0m here\n";
    assert_eq!(output, expected);
}

#[test]
fn the_error_of_the_output_is_returned() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut terminal = Terminal::new(Closed, View::new());
    let error = terminal
        .print(&message("agent", "assistant", "a"))
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}
