//! Tests of session hooks on the client: they run only if the server does not run them, run once,
//! and are reported.

use std::{
    collections::VecDeque,
    path::Path,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use futures_core::Stream;
use oh_hooks::{
    ErrorKind, Hook, HookConfig, HookEventType, HookExecution, SessionHooks, blocked_actions,
    blocked_messages, executions, server_runs_session_hooks,
};
use oh_protocol::{Event, calls::server::ServerInfo};

fn server(version: &str) -> ServerInfo {
    serde_json::from_value(serde_json::json!({ "version": version })).unwrap()
}

/// Creates a hook that appends the event's name to `log`.
fn noting(log: &Path) -> Hook {
    Hook::command(format!("echo $OPENHANDS_EVENT_TYPE >> {}", log.display()))
}

fn noted(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

struct Items<T>(VecDeque<T>);

impl<T: Unpin> Stream for Items<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
        Poll::Ready(self.0.pop_front())
    }
}

async fn all<S: Stream>(stream: S) -> Vec<S::Item> {
    let mut stream = pin!(stream);
    let mut items = Vec::new();
    while let Some(item) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        items.push(item);
    }
    items
}

fn from_server(hook: &str) -> Event {
    let json = serde_json::json!({
        "kind": "HookExecutionEvent", "id": "1", "timestamp": "2026-01-01T00:00:00",
        "source": "hook", "hook_event_type": "Stop", "hook_command": hook,
        "success": false, "blocked": true, "exit_code": 2, "stderr": " reported \n",
    });
    Event::from_json(json.to_string()).unwrap()
}

#[test]
fn only_servers_without_hooks_leave_hooks_to_the_client() {
    for (version, runs) in [
        ("1.8.0", false),
        ("1.9.1", false),
        ("1.10.0", true),
        ("1.12.0", true),
        ("1.13.0", true),
        ("1.14.0", true),
        ("1.58.2", true),
        ("2.0.0", true),
        ("nightly", true),
    ] {
        assert_eq!(
            server_runs_session_hooks(&server(version)),
            runs,
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_hook_runs_once_and_on_one_side() {
    let directory = tempfile::tempdir().unwrap();
    for (version, expected) in [
        ("1.9.1", "SessionStart\nSessionEnd\n"),
        ("1.13.0", ""),
        ("1.58.2", ""),
    ] {
        let log = directory.path().join(version);
        let hooks = HookConfig::new()
            .session_start(noting(&log))
            .session_end(noting(&log))
            .stop(noting(&log));
        let mut session =
            SessionHooks::new(directory.path()).of_conversation(&hooks, &server(version));
        session.start().await.unwrap();
        assert!(session.start().await.unwrap().is_empty());
        session.end().await.unwrap();
        assert_eq!(noted(&log), expected, "{version}");
    }
}

#[tokio::test]
async fn hooks_of_the_program_run_on_every_server_and_report_denials() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let own = HookConfig::new()
        .session_start(Hook::command("echo no model >&2; exit 2"))
        .session_start(noting(&log))
        .session_end(noting(&log));
    let mut session = SessionHooks::new(directory.path())
        .of_conversation(&own, &server("1.58.2"))
        .own(own)
        .session_id("abc");
    let seen = session.start().await.unwrap();
    assert_eq!(seen.len(), 2, "a denial stops no session");
    assert_eq!(seen[0].feedback(), Some("no model"));
    assert_eq!((seen[0].exit_code, seen[0].local), (Some(2), true));
    assert!(seen.iter().all(|hook| hook.duration.is_some()));
    session.end().await.unwrap();
    assert_eq!(noted(&log), "SessionStart\nSessionEnd\n");
}

#[tokio::test]
async fn a_session_that_never_started_has_no_end_event() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let own = HookConfig::new().session_end(noting(&log));
    let ended = SessionHooks::new(directory.path()).own(own).end().await;
    assert!(ended.unwrap().is_empty() && noted(&log).is_empty());
}

#[tokio::test]
async fn hooks_that_need_the_conversation_cannot_run_on_the_client() {
    let own = HookConfig::new()
        .session_start(Hook::command("touch ran"))
        .pre_tool_use(Hook::command("./guard.sh"));
    let directory = tempfile::tempdir().unwrap();
    let mut session = SessionHooks::new(directory.path()).own(own);
    let error = session.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("./guard.sh"), "{error}");
    assert!(!directory.path().join("ran").exists());
}

#[tokio::test]
async fn local_hooks_are_marked_in_the_servers_stream() {
    let directory = tempfile::tempdir().unwrap();
    let own = HookConfig::new()
        .session_start(Hook::command("echo hello"))
        .session_end(Hook::command("echo bye"));
    let mut session = SessionHooks::new(directory.path()).own(own);
    let local = session.watch();
    session.start().await.unwrap();
    session.end().await.unwrap();
    // Items as in a conversation's subscription: results, with other events and an error.
    let other = r#"{"kind": "PauseEvent", "id": "2", "timestamp": "t", "source": "user"}"#;
    let events = Items(VecDeque::from([
        Ok(Event::from_json(other).unwrap()),
        Ok(from_server("./check.sh")),
        Err("the link is down"),
    ]));
    let seen = all(executions(events).with_local(local)).await;
    assert_eq!(seen.len(), 4);
    let shown = |hook: &HookExecution| (hook.hook_command.to_string(), hook.local);
    let mut hooks: Vec<_> = seen.iter().flatten().map(shown).collect();
    hooks.sort();
    assert_eq!(
        hooks,
        [
            ("./check.sh".to_owned(), false),
            ("echo bye".to_owned(), true),
            ("echo hello".to_owned(), true)
        ]
    );
    assert_eq!(seen[3].as_ref().unwrap_err(), &"the link is down");
}

#[tokio::test]
async fn plain_events_are_accepted_and_feedback_is_the_text_for_the_agent() {
    let seen = all(executions(Items(VecDeque::from([from_server("x")])))).await;
    assert_eq!(seen[0].feedback(), Some("reported"));
    assert_eq!(
        seen[0].hook_event_type.as_str(),
        HookEventType::Stop.as_str()
    );
    assert_eq!((seen[0].local, seen[0].duration), (false, None));
    let with_context = |event: &str| {
        let mut json: serde_json::Value = serde_json::from_slice(from_server("x").raw()).unwrap();
        json["hook_event_type"] = event.into();
        json["additional_context"] = "more".into();
        Event::from_json(json.to_string()).unwrap()
    };
    for (event, reported) in [("Stop", "more"), ("PreToolUse", "reported")] {
        let seen = all(executions(Items(VecDeque::from([with_context(event)])))).await;
        assert_eq!(seen[0].feedback(), Some(reported), "{event}");
    }
}

#[test]
fn currently_blocked_actions_are_read_from_the_state() {
    let state = serde_json::json!({
        "kind": "ConversationStateUpdateEvent", "id": "1", "timestamp": "t",
        "source": "environment", "key": "full_state",
        "value": {"blocked_actions": {"a": "no"}, "blocked_messages": {"m": "never", "n": "nor"}},
    });
    let event = Event::from_json(state.to_string()).unwrap();
    let mut state = oh_protocol::state::ConversationState::default();
    assert!(blocked_actions(&state).is_empty() && blocked_messages(&state).is_empty());
    let oh_protocol::Payload::ConversationStateUpdate(update) = event.payload() else {
        panic!("{event:?}");
    };
    state.apply(update).unwrap();
    let pair = |id: &str, why: &str| (id.to_owned(), why.to_owned());
    assert_eq!(blocked_actions(&state), [pair("a", "no")]);
    assert_eq!(
        blocked_messages(&state),
        [pair("m", "never"), pair("n", "nor")]
    );
}

#[tokio::test]
async fn a_flood_of_output_is_streamed_as_by_the_server() {
    let own =
        HookConfig::new().session_start(Hook::command("head -c 60000 /dev/zero | tr '\\0' x"));
    let mut session = SessionHooks::new(std::env::temp_dir()).own(own);
    let seen = session.start().await.unwrap();
    assert_eq!(seen[0].stdout.chars().count(), 50_000);
    assert!(seen[0].stdout.ends_with("x\n<TRUNCATED>"));
}
