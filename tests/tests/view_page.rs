//! The HTML page of a conversation in a real browser.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
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
use serde_json::json;

/// Opens a page without a display. Prints the final document to stdout and the console to stderr.
fn open(directory: &Path, address: &str) -> Output {
    let output = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
        ])
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
