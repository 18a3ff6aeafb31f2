//! The HTML page of a conversation in a real browser.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::{
    env, fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use openhands::{
    protocol::Event,
    view::{Detail, Html, Printer, View},
};
use serde_json::{Value, json};

/// Opens a page without a display. Prints the final document to stdout and the console to stderr.
fn open(directory: &Path, address: &str) -> Output {
    chromium(directory, &["--dump-dom"], address)
}

fn chromium(directory: &Path, arguments: &[&str], address: &str) -> Output {
    let output = Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
        .args(arguments)
        .args(["--disable-background-networking", "--no-first-run"])
        .args(["--enable-logging=stderr", "--timeout=10000"])
        .arg(format!(
            "--user-data-dir={}",
            directory.join("profile").display()
        ))
        .arg(address)
        .env("HOME", directory)
        .output();
    let output = output.expect("install the browser: apt-get install chromium");
    assert!(output.status.success(), "{output:?}");
    output
}

fn message(text: &str) -> Event {
    let event = json!({
        "id": "e", "timestamp": "2026-01-02T03:04:05", "source": "agent", "kind": "MessageEvent",
        "llm_message": {"role": "assistant", "content": [{"type": "text", "text": text}]},
    });
    Event::from_json(event.to_string()).unwrap()
}

/// Closes every connection, and counts them.
fn count(listener: TcpListener) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for connection in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(connection);
        }
    });
    count
}

#[test]
fn a_browser_shows_the_page_without_an_error_or_a_request() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    let connections = count(listener);
    let hostile = format!(
        "<img src=\"{host}/a\"><script src=\"{host}/b\"></script><style>@import '{host}/c'</style>\
         <link rel=stylesheet href={host}/d> ![i]({host}/e) [l]({host}/f)\n\n\
         <iframe src={host}/g></iframe>\n\n|a|\n|:-:|\n|<b onclick=x>|\n\n1. one\n2. two"
    );
    let mut page = Html::new(Vec::new(), View::new().detail(Detail::Full)).title(&hostile);
    for text in [&*hostile, "a needle", "hay"] {
        page.print(&message(text)).unwrap();
    }
    page.finish().unwrap();
    let path = directory.path().join("page.html");
    fs::write(&path, page.into_inner()).unwrap();

    let output = open(
        directory.path(),
        &format!("file://{}#search=needle", path.display()),
    );
    let (document, log) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(!log.contains("CONSOLE"), "{log}");
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    // The script of the page was executed: it has hidden what does not match.
    assert!(
        document.contains("<output id=\"found\">1 of 3</output>"),
        "{document}"
    );
    assert_eq!(document.matches("hidden=\"\"").count(), 2, "{document}");
    for element in ["<img", "<iframe", "<link"] {
        assert!(!document.contains(element), "{element} in {document}");
    }

    // The checks above notice an error and a request of a page that has them.
    let faulty = format!("<img src=\"{host}/a\"><script>console.error('a fault')</script>");
    fs::write(&path, faulty).unwrap();
    let output = open(directory.path(), &format!("file://{}", path.display()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("CONSOLE"));
    assert!(connections.load(Ordering::SeqCst) > 0);
}

/// Returns a short conversation with the usual kinds of events.
fn conversation() -> Vec<Event> {
    let tests = |output: &str, code: i32| {
        json!({"kind": "TerminalObservation", "command": "cargo test", "exit_code": code,
            "is_error": code != 0, "content": [{"type": "text", "text": output}]})
    };
    let (old, new) = (
        "    year % 4 == 0\n",
        "    // Centuries are leap years only every 400 years.\n    \
         year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)\n",
    );
    let edit = json!({"kind": "FileEditorAction", "command": "str_replace",
        "path": "/project/src/date.rs", "old_str": old, "new_str": new});
    let action = |call: &str, tool: &str, summary: &str, action: Value| {
        json!({"kind": "ActionEvent", "source": "agent", "tool_name": tool, "tool_call_id": call,
            "llm_response_id": call, "summary": summary, "security_risk": "LOW",
            "action": action})
    };
    let result = |call: &str, tool: &str, observation: Value| {
        json!({"kind": "ObservationEvent", "source": "environment", "tool_name": tool,
            "tool_call_id": call, "action_id": call, "observation": observation})
    };
    let run = json!({"kind": "TerminalAction", "command": "cargo test"});
    let stats = |calls: u64, cost: f64| {
        let usage = json!({"prompt_tokens": 3000 * calls + 1200 * calls * calls,
            "completion_tokens": 310 * calls, "cache_read_tokens": 2600 * calls * calls / 3,
            "context_window": 200_000, "per_turn_token": 4500 * calls});
        let metrics = json!({"accumulated_cost": cost,
            "accumulated_token_usage": usage});
        json!({"kind": "ConversationStateUpdateEvent", "source": "environment", "key": "stats",
            "value": {"usage_to_metrics": {"default": metrics}}})
    };
    let plan = json!({"kind": "TaskTrackerAction", "command": "plan", "task_list": [
        {"title": "Find the failing case", "notes": "", "status": "done"},
        {"title": "Fix the rule for centuries", "notes": "", "status": "in_progress"},
        {"title": "Run all tests", "notes": "", "status": "todo"}]});
    let done = "The parser rejected **29 February 2000**: centuries were no leap years.\n\n\
        - `is_leap_year` follows the Gregorian rule\n- all 48 tests pass";
    let failure = "test date::parses_leap_day ... FAILED\n\n\
        thread 'date::parses_leap_day' panicked at src/date.rs:41:\ninvalid day: 2000-02-29\n\n\
        test result: FAILED. 47 passed; 1 failed";
    let events = [
        (
            0,
            json!({"kind": "MessageEvent", "source": "user", "llm_message": {"role": "user",
            "content": [{"type": "text", "text": "The date parser fails on leap years. Fix it."}]}}),
        ),
        (4, action("a", "terminal", "run the tests", run.clone())),
        (16, result("a", "terminal", tests(failure, 101))),
        (16, stats(1, 0.0312)),
        (21, action("b", "task_tracker", "plan the work", plan)),
        (21, stats(2, 0.0388)),
        (
            27,
            action("c", "file_editor", "follow the Gregorian rule", edit),
        ),
        (
            27,
            result(
                "c",
                "file_editor",
                json!({"kind": "FileEditorObservation",
            "command": "str_replace", "path": "/project/src/date.rs", "content": [],
            "old_content": format!("fn is_leap_year(year: i32) -> bool {{\n{old}}}\n"),
            "new_content": format!("fn is_leap_year(year: i32) -> bool {{\n{new}}}\n")}),
            ),
        ),
        (27, stats(3, 0.0475)),
        (31, action("d", "terminal", "run the tests again", run)),
        (
            40,
            result(
                "d",
                "terminal",
                tests("test result: ok. 48 passed; 0 failed", 0),
            ),
        ),
        (40, stats(4, 0.0561)),
        (
            44,
            action(
                "e",
                "finish",
                "report",
                json!({"kind": "FinishAction", "message": done}),
            ),
        ),
        (44, stats(5, 0.0662)),
    ];
    let events = events
        .into_iter()
        .enumerate()
        .map(|(at, (second, mut event))| {
            event["id"] = json!(format!("event-{at}"));
            event["timestamp"] = json!(format!("2026-01-02T10:15:{second:02}.000000"));
            Event::from_json(event.to_string()).unwrap()
        });
    events.collect()
}

/// The picture in the guide. `UPDATE_PICTURE=1 cargo test -p openhands-tests --test view_page`
/// draws it again. Look at it before a commit.
#[test]
fn a_browser_draws_the_page_of_a_conversation() {
    let directory = tempfile::tempdir().unwrap();
    let mut page = Html::new(Vec::new(), View::new()).title("Fix the date parser");
    for event in conversation() {
        assert!(event.malformed().is_none(), "{event:?}");
        page.print(&event).unwrap();
    }
    page.finish().unwrap();
    let path = directory.path().join("page.html");
    fs::write(&path, page.into_inner()).unwrap();
    let picture = directory.path().join("page.png");
    let screenshot = format!("--screenshot={}", picture.display());
    let arguments = [&*screenshot, "--window-size=900,1400", "--hide-scrollbars"];
    chromium(
        directory.path(),
        &arguments,
        &format!("file://{}", path.display()),
    );
    let drawn = fs::read(&picture).unwrap();
    assert!(drawn.starts_with(b"\x89PNG"));
    // An empty page has less than 10 kB.
    assert!(
        (30_000..150_000).contains(&drawn.len()),
        "{} bytes",
        drawn.len()
    );
    if env::var_os("UPDATE_PICTURE").is_some() {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/view.png");
        fs::write(guide, drawn).unwrap();
    }
}
