//! Uses the example `service` as a browser does, and opens its page in one.

use std::{
    future::IntoFuture as _,
    net::SocketAddr,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use axum::{response::Html, routing::get};
use openhands::Workspace;
use openhands_examples::Result;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::spawn_blocking, time::timeout};

const PAGE: &str = include_str!("../../../service/page.html");
const LIMIT: Duration = Duration::from_secs(60);

/// Added to the page for the check. The browser's document is complete only when the image is
/// there, which the program holds back until the page shows the end of the conversation.
const PROBE: &str = "<img src='/held' alt=''><script>
  new MutationObserver(() => {
    if (document.body.innerText.includes('old.txt is gone.')) fetch('/seen');
  }).observe(document.getElementById('log'), {childList: true});
</script>";

/// Sends a message, approves the action, reconnects in the middle, and opens the page.
pub(crate) async fn check(workspace: &Workspace) -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (routes, _model) = crate::service::routes(workspace).await?;
    let seen = Arc::new(Notify::new());
    let held = Arc::clone(&seen);
    let routes = routes
        .route("/probe", get(async || Html(PAGE.to_owned() + PROBE)))
        .route("/seen", get(async move || seen.notify_one()))
        .route("/held", get(async move || held.notified().await));
    tokio::select! {
        served = axum::serve(listener, routes).into_future() => Ok(served?),
        used = timeout(LIMIT, visit(address)) => used?,
    }
}

async fn visit(address: SocketAddr) -> Result {
    let client = Client::builder().no_proxy().build()?;
    let url = |path: &str| format!("http://{address}{path}");
    let post = async |path: &str, body: Value| {
        let body = client.post(url(path)).json(&body).send().await?;
        Ok::<_, reqwest::Error>(body.status())
    };
    post("/messages", json!({"text": "Clean up."})).await?;
    let mut events = Events::of(client.get(url("/events")).send().await?);
    let waiting = loop {
        let event = events.next().await?;
        if event.name == "pending" && event.data != "[]" {
            break serde_json::from_str::<Vec<Value>>(&event.data)?;
        }
    };
    let seen = events.last_id.ok_or("events have no ids")?;
    drop(events);

    let answer = json!({"ids": [waiting[0]["id"]], "approve": true});
    let first = post("/approvals", answer.clone()).await?;
    let again = post("/approvals", answer).await?;
    println!("first answer: {first}, the same again: {again}");
    if first != StatusCode::NO_CONTENT || again.is_success() {
        return Err("only the first answer should be accepted".into());
    }

    let request = client.get(url("/events")).header("Last-Event-ID", seen);
    let mut events = Events::of(request.send().await?);
    let mut ids = Vec::new();
    loop {
        let event = events.next().await?;
        ids.extend(event.id);
        if event.data.contains("\"finished\"") {
            break;
        }
    }
    let expected: Vec<u64> = (seen + 1..).take(ids.len()).collect();
    println!("after {seen}: {ids:?}");
    if ids.is_empty() || ids != expected {
        return Err("a reconnect should continue with the next event".into());
    }

    let output = spawn_blocking(move || open(&format!("http://{address}/probe"))).await??;
    let page = String::from_utf8_lossy(&output.stdout);
    let console = String::from_utf8_lossy(&output.stderr);
    for text in [
        "<li>user: Clean up.</li>",
        "<li>finish: old.txt is gone.</li>",
    ] {
        if !page.contains(text) || console.contains("CONSOLE") {
            return Err(format!("no {text} in {page}\n{console}").into());
        }
    }
    println!("the page shows the conversation");
    Ok(())
}

/// Opens a page without a display, and returns its document once it is complete.
fn open(url: &str) -> Result<Output, String> {
    let profile = tempfile::tempdir().map_err(|error| error.to_string())?;
    let output = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
        ])
        .args([
            "--disable-background-networking",
            "--no-first-run",
            "--no-proxy-server",
        ])
        .args(["--enable-logging=stderr", "--timeout=30000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .env("HOME", profile.path())
        .output();
    output.map_err(|error| format!("install the browser (apt-get install chromium): {error}"))
}

/// Server-sent events.
struct Events {
    response: Response,
    buffer: String,
    last_id: Option<u64>,
}

#[derive(Default)]
struct Event {
    id: Option<u64>,
    name: String,
    data: String,
}

impl Events {
    fn of(response: Response) -> Self {
        Self {
            response,
            buffer: String::new(),
            last_id: None,
        }
    }

    async fn next(&mut self) -> Result<Event> {
        let end = loop {
            match self.buffer.find("\n\n") {
                Some(end) => break end,
                None => {
                    let chunk = self.response.chunk().await?;
                    let chunk = chunk.ok_or("the events ended")?;
                    self.buffer.push_str(&String::from_utf8_lossy(&chunk));
                }
            }
        };
        let text: String = self.buffer.drain(..end + 2).collect();
        let mut event = Event::default();
        for line in text.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => event.id = Some(id.parse()?),
                Some(("event", name)) => name.clone_into(&mut event.name),
                Some(("data", data)) => event.data.push_str(data),
                _ => {}
            }
        }
        self.last_id = event.id.or(self.last_id);
        Ok(event)
    }
}
