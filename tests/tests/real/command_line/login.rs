//! The login of a server to a subscription, with the vendor played on loopback.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use openhands::{
    secrecy::ExposeSecret as _,
    testkit::{Script, ScriptedModel},
};
use openhands_tests::{Answer, StandIn};
use serde_json::json;

use super::oh;

#[derive(Default)]
struct Vendor {
    approves: AtomicBool,
    fails: AtomicBool,
}

impl Vendor {
    fn answer(&self, head: &str) -> Answer {
        let is = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
        let (status, body) = match head.split(' ').nth(1).unwrap_or_default() {
            _ if is(&self.fails) => ("500 Internal Server Error", json!({})),
            "/api/accounts/deviceauth/usercode" => (
                "200 OK",
                json!({"device_auth_id": "id", "user_code": "ABCD-EFGH", "interval": "1"}),
            ),
            "/api/accounts/deviceauth/token" if is(&self.approves) => (
                "200 OK",
                json!({"authorization_code": "c", "code_verifier": "v"}),
            ),
            "/api/accounts/deviceauth/token" => ("403 Forbidden", json!({})),
            "/oauth/token" => (
                "200 OK",
                json!({"access_token": "canary", "refresh_token": "canary", "expires_in": 3600}),
            ),
            _ => ("404 Not Found", json!({"keys": []})),
        };
        Answer::new(status, body)
    }
}

/// Starts a login; returns its process, and its first line.
fn begin(command: &mut Command) -> (Child, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    (child, line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_logged_in_and_out() {
    let home = openhands_tests::home();
    let vendor = Arc::new(Vendor::default());
    let answers = vendor.clone();
    let hosts = &["auth.openai.com", "chatgpt.com"];
    let stand_in = StandIn::start(&home, hosts, move |head| answers.answer(head)).await;
    let server = stand_in.used_by(openhands_tests::server(&home));
    let server = server.start().await.unwrap();
    let model = ScriptedModel::builder()
        .script(Script::new())
        .start()
        .await
        .unwrap();
    let command = |arguments: &[&str]| {
        let mut command = oh(home.path(), &model);
        command
            .env("SESSION_API_KEY", server.session_api_key().expose_secret())
            .args(arguments)
            .args(["--server", server.url().as_str()]);
        command
    };
    let output = |arguments: &[&str]| {
        let output = command(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text, errors)
    };
    let (code, text, _) = output(&["login", "--status"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("is not logged in"), "{text}");

    // Given up.
    let (mut child, line) = begin(&mut command(&["login"]));
    assert_eq!(
        line,
        "Open https://auth.openai.com/codex/device and enter ABCD-EFGH\n"
    );
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", "INT", &pid]).status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(output(&["login", "--status"]).0, Some(3));

    let (mut child, _) = begin(&mut command(&["login"]));
    vendor.approves.store(true, Ordering::SeqCst);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for arguments in [&["login", "--status"][..], &["login"]] {
        let (code, text, errors) = output(arguments);
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(text, "the server is logged in\n");
    }
    assert_eq!(output(&["logout"]).0, Some(0));
    assert_eq!(output(&["login", "--status"]).0, Some(3));
    vendor.fails.store(true, Ordering::SeqCst);
    let (code, text, errors) = output(&["login"]);
    assert_eq!((code, &*text), (Some(6), ""), "{errors}");
    assert!(errors.contains("cannot begin the login"), "{errors}");
}
