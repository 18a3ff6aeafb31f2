//! The login to a subscription on the fake server, and its failures.

use std::time::Duration;

use oh_admin::{Admin, ErrorKind};
use oh_testkit::{Fault, Mock};
use serde_json::{Value, json};

use crate::server;

const POLL: &str = "/api/llm/subscription/openai/device/poll";
const STATUS: &str = "/api/llm/subscription/openai/status";
const START: &str = "/api/llm/subscription/openai/device/start";

#[tokio::test]
async fn a_login_ends_when_the_user_has_entered_the_code() {
    let (server, admin) = server().await;
    let subscription = admin.subscription();
    assert!(!subscription.status().await.unwrap().connected);
    assert!(!subscription.models().await.unwrap().is_empty());
    let login = subscription.login().await.unwrap();
    assert!(login.url().starts_with("https://"));
    assert!(!format!("{login:?}").contains(login.code()));
    assert!(!login.poll().await.unwrap().connected);
    let waiting = tokio::spawn(login.wait().into_future());
    assert!(server.approve_login("WRONG").is_err());
    server.approve_login(login.code()).unwrap();
    assert!(waiting.await.unwrap().unwrap().connected);
    // A poll after the end reports the login that it completed.
    assert!(login.poll().await.unwrap().connected);
    assert!(subscription.status().await.unwrap().connected);
    assert!(!subscription.logout().await.unwrap().connected);
    let error = login.poll().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginExpired, "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_dropped_wait_leaves_the_login_intact() {
    let (server, admin) = server().await;
    let login = admin.subscription().login().await.unwrap();
    let limit = Duration::from_millis(20);
    let error = login.wait().timeout(limit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    server.approve_login(login.code()).unwrap();
    // The response of the poll that completes the login is lost.
    server.inject(Fault::lost_answer().on(POLL).times(1));
    assert!(login.wait().await.unwrap().connected);
}

#[tokio::test]
async fn a_logout_ends_a_login_in_progress() {
    let (server, admin) = server().await;
    let login = admin.subscription().login().await.unwrap();
    admin.subscription().logout().await.unwrap();
    assert!(server.approve_login(login.code()).is_err());
    let error = login.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginExpired, "{error}");
}

#[tokio::test]
async fn a_code_expires() {
    let (server, admin) = server().await;
    let login = admin.subscription().login().await.unwrap();
    server.skew_ahead(Duration::from_secs(16 * 60));
    let error = login.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginExpired, "{error}");
}

fn started() -> Value {
    json!({"device_code": "canary", "user_code": "AB-CD", "verification_uri": "https://v/",
        "expires_at": 1, "interval_seconds": 5})
}

#[tokio::test(start_paused = true)]
async fn a_wait_polls_at_the_interval_and_survives_failures() {
    let mock = Mock::new();
    let admin = Admin::of(&mock.client());
    mock.expect("GET", STATUS)
        .answer(200, json!({"connected": false}));
    mock.expect("POST", START).answer(200, started());
    let login = admin.subscription().login().await.unwrap();
    let asked = || {
        mock.expect("POST", POLL)
            .with(json!({"device_code": "canary"}))
    };
    asked().answer(200, json!({"connected": false}));
    asked().answer(500, json!({"detail": "Internal Server Error"}));
    asked().answer(200, json!({"connected": true, "expires_at": 7}));
    let begun = tokio::time::Instant::now();
    let status = login.wait().timeout(Duration::MAX).await.unwrap();
    assert_eq!((status.connected, status.expires_at), (true, Some(7)));
    assert_eq!(begun.elapsed(), Duration::from_secs(10));

    // The last failure is the cause of the timeout.
    asked().answer(502, json!({"detail": "no vendor"}));
    let limit = Duration::from_secs(4);
    let begun = tokio::time::Instant::now();
    let error = login.wait().timeout(limit).await.unwrap_err();
    assert_eq!(begun.elapsed(), limit);
    assert_eq!(
        (error.kind(), error.status().unwrap().as_u16()),
        (ErrorKind::Timeout, 502)
    );
    assert!(!format!("{error} {error:?}").contains("canary"));
    // A failure that cannot pass ends the wait.
    asked().answer(401, json!({"detail": "Unauthorized"}));
    let error = login.wait().await.unwrap_err();
    assert!(error.is_auth(), "{error}");
    mock.verify().unwrap();
}
