//! A web service: events for browsers, messages, and approvals.
//!
//! Run it with `cargo run -p openhands-examples --example service`, and open the address that it
//! prints. The service listens on loopback only. Add authentication before you expose it: everyone
//! who reaches it can run commands as your user.
//!
//! | Request | Does |
//! |-|-|
//! | `GET /` | shows the page |
//! | `GET /events` | streams events as server-sent events, after `Last-Event-ID` if it is set |
//! | `POST /messages` | sends a message and runs the agent |
//! | `POST /approvals` | approves or rejects the named actions |

use std::time::Duration;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse, Response, Sse, sse},
    routing::{get, post},
};
use futures_util::{Stream, StreamExt as _, stream};
use openhands::{ErrorKind, prelude::*, protocol::config::SecurityAnalyzer, testkit::Script};
use openhands_examples::{Model, Result};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result {
    let server = LocalServer::builder().start().await?;
    let workspace = server.workspace(server.workspace_dir());
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    println!("open http://{}/", listener.local_addr()?);
    let (routes, _model) = routes(&workspace).await?;
    tokio::select! {
        served = axum::serve(listener, routes).into_future() => served?,
        _ = tokio::signal::ctrl_c() => println!("stopping"),
    }
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Returns the routes for a new conversation, and its model. A larger service would keep a map of
/// conversations.
pub async fn routes(workspace: &Workspace) -> Result<(Router, Model)> {
    let remove =
        json!({"command": "rm -f old.txt", "security_risk": "HIGH", "summary": "clean up"});
    let script =
        Script::new().forever(|script| script.call("terminal", remove).finish("old.txt is gone."));
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    // The conversation stays connected, whether or not a browser is.
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent)
        .confirmation_policy(ConfirmationPolicy::risky(SecurityRisk::High))
        .security_analyzer(SecurityAnalyzer::llm())
        .start()
        .await?;
    let routes = Router::new()
        .route(
            "/",
            get(|| async { Html(include_str!("service/page.html")) }),
        )
        .route("/events", get(events))
        .route("/messages", post(message))
        .route("/approvals", post(answer))
        .with_state(conversation);
    Ok((routes, model))
}

/// Streams the events. Each has its number as the id, so that a browser that reconnects gets
/// exactly the events that it has not seen: it sends the last id by itself.
async fn events(
    State(conversation): State<Conversation>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = openhands::Result<sse::Event>>> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let cursor = last
        .and_then(|id| id.parse().ok())
        .map_or(Cursor::Start, Cursor::After);
    let events = conversation.subscribe(cursor).numbered().map(|item| {
        let (seq, event) = item?;
        Ok(sse::Event::default()
            .id(seq.to_string())
            .data(event.as_json()))
    });
    // The actions that wait, after each change. These have no id, so they are not replayed.
    let approvals = conversation.approvals();
    let pending = approvals.events().map(move |_| {
        let waiting = approvals.pending();
        let waiting = waiting.iter().map(|action| {
            json!({"id": action.id(), "tool": action.tool_name(), "summary": action.summary()})
        });
        let waiting = json!(waiting.collect::<Vec<_>>());
        Ok(sse::Event::default()
            .event("pending")
            .data(waiting.to_string()))
    });
    Sse::new(stream::select(events, pending)).keep_alive(sse::KeepAlive::default())
}

#[derive(Deserialize)]
struct Message {
    text: String,
}

/// Sends a message. Answers at once; the browser sees the run in the events.
async fn message(
    State(conversation): State<Conversation>,
    Json(message): Json<Message>,
) -> std::result::Result<StatusCode, Failure> {
    conversation.send(message.text).and_run().await?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
struct Answer {
    /// The actions that the person has seen.
    ids: Vec<String>,
    approve: bool,
}

/// Answers the actions that a person has seen. If others wait by now, the response is a conflict.
async fn answer(
    State(conversation): State<Conversation>,
    Json(answer): Json<Answer>,
) -> std::result::Result<StatusCode, Failure> {
    let approvals = conversation.approvals();
    let mut actions = approvals.pending();
    actions.retain(|action| answer.ids.iter().any(|id| id == action.id()));
    match answer.approve {
        true => approvals.approve(&actions).await?,
        false => {
            approvals
                .reject(&actions, "Rejected in the browser.")
                .await?;
            // The agent reads the reason in its next run.
            tokio::spawn(conversation.run().into_future());
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// An error as a response. The messages of this library contain no secrets.
struct Failure(openhands::Error);

impl<E: Into<openhands::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0.kind() {
            ErrorKind::Conflict | ErrorKind::NothingPending => StatusCode::CONFLICT,
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        };
        (status, self.0.to_string()).into_response()
    }
}
