//! Tests of messages and classifications.

use std::io;

use super::*;

#[test]
fn display_gives_the_reason_once() {
    let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "refused by peer");
    let connect = Error::new(ErrorKind::Connect, "cannot connect to h:1").with_source(refused);
    assert_eq!(
        connect.to_string(),
        "cannot connect to h:1: refused by peer"
    );
    let outer = Error::new(ErrorKind::Timeout, "no response within 1s").with_source(connect);
    assert_eq!(
        outer.with_target("/x?y").to_string(),
        "no response within 1s (/x): cannot connect to h:1: refused by peer"
    );
    let rule = oh_protocol::Error::invalid("agent.llm.temperature: must be at least 0");
    let error = Error::from(rule);
    assert_eq!(
        error.to_string(),
        "agent.llm.temperature: must be at least 0"
    );
    assert!(error.never_sent());
}

#[test]
fn display_has_the_name_of_the_status_once() {
    for (detail, shown) in [
        ("Not Found", ""),
        ("Not Found: no run", ": no run"),
        ("Not Founded", ": Not Founded"),
        ("no run", ": no run"),
        ("", ""),
    ] {
        let error = Error::from_status(StatusCode::NOT_FOUND)
            .with_target("/x")
            .with_detail(Some(detail.to_owned()));
        let shown = format!("the server returned 404 Not Found (/x){shown}");
        assert_eq!(error.to_string(), shown);
        assert_eq!(error.detail(), Some(detail));
    }
}

#[test]
fn terminal_control_characters_of_a_server_are_not_shown() {
    let error = Error::from_status(StatusCode::BAD_REQUEST)
        .with_detail(Some("\x1b[2J\x1b]0;title\x07".to_owned()));
    assert!(!error.to_string().contains(char::is_control), "{error}");
}

#[test]
fn each_kind_of_error_is_classified() {
    for (error, never_sent, timeout, transient, auth) in [
        (Error::new(ErrorKind::Connect, ""), true, false, true, false),
        (
            Error::new(ErrorKind::Connect, "").timed_out(),
            true,
            true,
            true,
            false,
        ),
        (
            Error::new(ErrorKind::Connect, "").sent(),
            false,
            false,
            true,
            false,
        ),
        (
            Error::new(ErrorKind::InvalidInput, ""),
            true,
            false,
            false,
            false,
        ),
        (Error::new(ErrorKind::Tls, ""), true, false, false, false),
        (
            Error::new(ErrorKind::Interrupted, ""),
            false,
            false,
            true,
            false,
        ),
        (Error::new(ErrorKind::Timeout, ""), false, true, true, false),
        (
            Error::from_status(StatusCode::UNAUTHORIZED),
            false,
            false,
            false,
            true,
        ),
        (
            Error::from_status(StatusCode::FORBIDDEN),
            false,
            false,
            false,
            false,
        ),
        (
            Error::from_status(StatusCode::PROXY_AUTHENTICATION_REQUIRED),
            true,
            false,
            false,
            false,
        ),
        (
            Error::from_status(StatusCode::TOO_MANY_REQUESTS),
            false,
            false,
            true,
            false,
        ),
        (
            Error::from_status(StatusCode::BAD_GATEWAY),
            false,
            false,
            true,
            false,
        ),
        (Error::closed(4001, ""), false, false, false, true),
        (Error::closed(1012, "restart"), false, false, true, false),
        (Error::closed(1000, ""), false, false, false, false),
    ] {
        let found = (
            error.never_sent(),
            error.is_timeout(),
            error.is_transient(),
            error.is_auth(),
        );
        assert_eq!(found, (never_sent, timeout, transient, auth), "{error:?}");
    }
}

#[test]
fn a_rejection_is_shown_with_its_remedy() {
    let status = |status: u16| Error::from_status(StatusCode::from_u16(status).unwrap());
    let explained = |code, detail: &str| status(code).with_detail(Some(detail.to_owned()));
    let wait = |seconds| Some(Duration::from_secs(seconds));
    for (error, advice) in [
        (
            status(401).with_key(false),
            "; the client has no session key: set the server's with `session_api_key`",
        ),
        (
            explained(401, "Unauthorized").with_key(true),
            "; the session key is wrong: pass the server's key to `session_api_key`",
        ),
        (
            Error::closed(4001, ""),
            "; set the server's session key with `session_api_key`",
        ),
        (explained(401, "bad provider token"), ": bad provider token"),
        (
            status(403),
            "; check the path, the gateway in front of the server, and whether the server is \
             dormant",
        ),
        (explained(403, "no"), ": no"),
        (
            status(429),
            "; try again later, or run fewer conversations at a time",
        ),
        (
            status(429).with_retry_after(wait(5)),
            "; try again after 5s",
        ),
        (status(503), "; try again later"),
        (
            explained(503, "503: server is in deferred-init state"),
            "; activate the server with `calls::init::Init`",
        ),
        (
            status(500).with_error_id(Some("ab\x1b[2J".to_owned())),
            "; look for error ab\u{241b}[2J in the server's log",
        ),
    ] {
        let shown = error.to_string();
        assert!(shown.ends_with(advice), "{shown}");
        let outer = Error::new(ErrorKind::Timeout, "no response").with_source(error);
        assert_eq!(outer.to_string().matches(advice).count(), 1, "{outer}");
    }
}

#[test]
fn debug_is_the_message_and_the_alternate_form_a_struct() {
    let cause = io::Error::other("refused by peer");
    let error = Error::new(ErrorKind::Connect, "cannot connect to h:1").with_source(cause);
    assert_eq!(
        format!("{error:?}"),
        "Connect: cannot connect to h:1: refused by peer"
    );
    let long = format!("{error:#?}");
    assert!(long.contains("    kind: Connect,"), "{long}");
    assert!(
        long.contains("    message: cannot connect to h:1: refused by peer,"),
        "{long}"
    );
}
