//! Automation environments: the tags they request, and the callback at the end of the work.

use std::process::Command;

use oh_protocol::ConversationId;
use oh_workspace::{
    Automation, AutomationPhases, CompletionCallback, CompletionReport, ErrorKind, automation_tags,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Answers one request with a status, and returns the request.
async fn once(status: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/hook/done?t=canary",
        listener.local_addr().unwrap()
    );
    let answered = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut request, mut buffer) = (String::new(), [0; 4096]);
        while !request.ends_with('}') {
            let count = stream.read(&mut buffer).await.unwrap();
            request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        request
    });
    (url, answered)
}

fn body(request: &str) -> Value {
    serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[tokio::test]
async fn an_automation_is_notified_when_the_work_is_done() {
    let (url, asked) = once("202 Accepted").await;
    let id = ConversationId::random();
    let callback = CompletionCallback::new(&url).unwrap();
    let callback = callback
        .api_key("canary")
        .run_id("r")
        .conversation(id)
        .cost(0.5);
    assert!(!format!("{callback:?}").contains("canary"), "{callback:?}");
    callback.completed().await.unwrap();
    let request = asked.await.unwrap();
    assert!(
        request.starts_with("POST /hook/done?t=canary HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("authorization: Bearer canary\r\n"),
        "{request}"
    );
    let expected = json!({"status": "COMPLETED", "run_id": "r", "cost": 0.5,
        "conversation_id": id.to_string()});
    assert_eq!(body(&request), expected);

    let (url, asked) = once("200 OK").await;
    let callback = CompletionCallback::new(&url).unwrap();
    callback.failed("io_error", "no space").await.unwrap();
    let request = asked.await.unwrap();
    assert!(!request.contains("authorization"), "{request}");
    let body = body(&request);
    // Unknown values are omitted, not zero.
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    assert_eq!(
        (&body["status"], &body["error"]["code"]),
        (&json!("FAILED"), &json!("io_error"))
    );
    assert_eq!(body["error"]["classification"]["kind"], "unknown");
}

#[tokio::test]
async fn a_failing_run_is_reported_with_its_event() {
    let (url, asked) = once("200 OK").await;
    let event = json!({"kind": "ConversationErrorEvent", "id": "e", "timestamp": "t",
        "source": "environment", "code": "X", "detail": "d", "new": [1]});
    let event = oh_protocol::Event::from_json(event.to_string()).unwrap();
    CompletionCallback::new(&url)
        .unwrap()
        .failed_with(&event)
        .await
        .unwrap();
    let body = body(&asked.await.unwrap());
    assert_eq!(
        body["error"],
        serde_json::from_slice::<Value>(event.raw()).unwrap()
    );
}

#[tokio::test]
async fn a_failing_callback_is_reported_without_its_secrets() {
    let (url, _asked) = once("500 Oh").await;
    let callback = CompletionCallback::new(&url).unwrap().api_key("canary");
    let error = callback.completed().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
    assert!(
        !format!("{error} {error:?}").contains("canary"),
        "{error:?}"
    );
    for url in ["", "nowhere", "ftp://h/x", "http://"] {
        let error = CompletionCallback::new(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
    }
    let key = CompletionCallback::new("http://127.0.0.1:9/x")
        .unwrap()
        .api_key("a\nb");
    assert_eq!(
        key.completed().await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[tokio::test]
async fn a_phase_is_reported_short_and_without_secrets() {
    let (url, asked) = once("200 OK").await;
    let phases = AutomationPhases::new(&url, "canary").unwrap();
    assert!(!format!("{phases:?}").contains("canary"), "{phases:?}");
    let secret = "https://user:canary-password@host/x ";
    phases.report(format!("{secret}{}", "x".repeat(300))).await;
    let request = asked.await.unwrap();
    assert!(
        request.contains("authorization: Bearer canary\r\n"),
        "{request}"
    );
    let phase = body(&request)["phase"].as_str().unwrap().to_owned();
    assert_eq!(phase.chars().count(), 200);
    assert!(
        phase.starts_with("https://") && !phase.contains("canary"),
        "{phase}"
    );
}

#[tokio::test]
async fn a_phase_that_cannot_be_reported_is_no_error() {
    let (url, asked) = once("409 Conflict").await;
    let phases = AutomationPhases::new(&url, "canary").unwrap();
    phases.report("Too late").await;
    assert!(asked.await.unwrap().contains("Too late"));
    // Nobody listens there.
    phases.report("Again").await;
    AutomationPhases::default().report("Nowhere").await;
    assert!(AutomationPhases::new("ftp://h/x", "k").is_err());
}

/// Runs `child` of this file in a process with these variables.
fn child(url: &str, variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "automation::child_process_of_an_automation",
        "--nocapture",
    ]);
    child
        .env("OH_TEST_CHILD", "1")
        .env("AUTOMATION_CALLBACK_URL", url);
    child.envs(variables.iter().copied());
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Checks the effects of the environment in a child process, which reports them.
#[tokio::test]
async fn child_process_of_an_automation() {
    if std::env::var_os("OH_TEST_CHILD").is_none() {
        return;
    }
    println!("tags {}", json!(automation_tags()));
    let callback = CompletionCallback::from_env();
    println!("callback {callback:?}");
    println!("requested {}", Automation::from_env().is_requested());
    println!("phases {:?}", AutomationPhases::from_env().unwrap());
    if let Ok(Some(callback)) = callback {
        let failure = std::io::Error::other(Refused("no: my-key-canary"));
        callback.report(&Err::<(), _>(failure)).await.unwrap();
    }
}

#[derive(Debug)]
struct Refused(&'static str);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

#[tokio::test]
async fn the_environment_configures_the_callback() {
    let (url, asked) = once("200 OK").await;
    let payload = r#"{"trigger":"cron","automation_id":"a","automation_name":"n"}"#;
    let reported = tokio::task::spawn_blocking(move || {
        child(
            &url,
            &[
                ("AUTOMATION_EVENT_PAYLOAD", payload),
                ("AUTOMATION_RUN_ID", "run-7"),
                ("AUTOMATION_CALLBACK_API_KEY", "my-key-canary"),
                ("AUTOMATION_PHASE_URL", "http://phases.example/x?t=canary"),
            ],
        )
    });
    let reported = reported.await.unwrap();
    let tags = json!({"automationtrigger": "cron", "automationid": "a", "automationname": "n",
        "automationrunid": "run-7"});
    assert!(reported.contains(&format!("tags {tags}")), "{reported}");
    assert!(reported.contains("phases.example"), "{reported}");
    assert!(!reported.contains("canary"), "{reported}");
    let request = asked.await.unwrap();
    assert!(
        request.contains("authorization: Bearer my-key-canary\r\n"),
        "{request}"
    );
    let body = body(&request);
    assert_eq!(
        (&body["status"], &body["run_id"]),
        (&json!("FAILED"), &json!("run-7"))
    );
    // The error's type and message, without the key they contained.
    assert_eq!(body["error"]["code"], "Error");
    assert_eq!(body["error"]["detail"], "no: **********");
}

#[test]
fn without_an_automation_no_callback_is_sent() {
    let reported = child("", &[]);
    assert!(
        reported.contains("tags {}") && reported.contains("callback Ok(None)"),
        "{reported}"
    );
    let reported = child("junk canary", &[]);
    assert!(
        reported.contains("InvalidInput")
            && reported.contains("requested false")
            && !reported.contains("canary"),
        "{reported}"
    );
}

#[tokio::test]
async fn a_report_contains_the_outcome_of_the_work() {
    let (url, asked) = once("200 OK").await;
    let callback = CompletionCallback::new(&url).unwrap();
    callback.report(&Ok::<_, std::io::Error>(())).await.unwrap();
    assert_eq!(body(&asked.await.unwrap()), json!({"status": "COMPLETED"}));
    let (url, asked) = once("200 OK").await;
    let callback = CompletionCallback::new(&url).unwrap();
    callback
        .report(&Err::<(), _>(Refused("why")))
        .await
        .unwrap();
    let body = body(&asked.await.unwrap());
    let found = (&body["error"]["code"], &body["error"]["detail"]);
    assert_eq!(found, (&json!("Refused"), &json!("why")));
}

/// A run that returns may have ended in an error, stuck, paused or waiting.
#[tokio::test]
async fn a_run_that_did_not_finish_is_reported_as_failed() {
    #[derive(Debug, PartialEq)]
    enum Outcome {
        Finished,
        Stuck,
    }
    impl std::fmt::Display for Outcome {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{self:?} after a while")
        }
    }
    for (result, status, code, detail) in [
        (Ok(Outcome::Finished), "COMPLETED", Value::Null, Value::Null),
        (
            Ok(Outcome::Stuck),
            "FAILED",
            json!("RunNotFinished"),
            json!("Stuck after a while"),
        ),
        (
            Err(std::io::Error::other("broken")),
            "FAILED",
            json!("Error"),
            json!("broken"),
        ),
    ] {
        let (url, asked) = once("200 OK").await;
        let callback = CompletionCallback::new(&url).unwrap();
        let finished = |outcome: &Outcome| *outcome == Outcome::Finished;
        callback.report_run(&result, finished).await.unwrap();
        let body = body(&asked.await.unwrap());
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["error"]["code"], code, "{body}");
        assert_eq!(body["error"]["detail"], detail, "{body}");
    }
}

/// Returns the report of work that is done with a callback, and the result of the work.
async fn around<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    work: impl FnOnce(CompletionReport) -> F,
) -> (Value, Result<T, E>) {
    let (url, asked) = once("200 OK").await;
    let callback = CompletionCallback::new(&url).unwrap().run_id("r");
    let result = CompletionCallback::around(callback, work).await;
    (body(&asked.await.unwrap()), result)
}

#[tokio::test]
async fn the_end_of_work_is_reported_with_its_result_conversation_and_cost() {
    let id = ConversationId::random();
    let work = async |report: CompletionReport| {
        report.conversation(id);
        report.cost(0.5);
        Ok::<_, std::io::Error>(7)
    };
    let (body, result) = around(work).await;
    let expected = json!({"status": "COMPLETED", "run_id": "r", "cost": 0.5,
        "conversation_id": id.to_string()});
    assert_eq!((body, result.unwrap()), (expected, 7));

    let (body, result) = around(async |_| Err::<(), _>(Refused("why"))).await;
    assert_eq!(result.unwrap_err().0, "why");
    assert_eq!(body["status"], "FAILED");
    let error = |body: &Value| format!("{}: {}", body["error"]["code"], body["error"]["detail"]);
    assert_eq!(error(&body), r#""Refused": "why""#);
    let boxed = async |_| Err::<(), Box<dyn std::error::Error>>("why".into());
    let (body, _) = around(boxed).await;
    assert_eq!(error(&body), r#""Error": "why""#);
}

/// Dropping the work blocks its thread, so the receiver of the report needs another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_is_cancelled_or_panics_is_reported() {
    for (panics, code) in [(false, "Cancelled"), (true, "Panicked")] {
        let (url, asked) = once("200 OK").await;
        let callback = CompletionCallback::new(&url).unwrap();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let work = tokio::spawn(CompletionCallback::around(callback, async move |report| {
            report.cost(0.5);
            begun.send(()).unwrap();
            assert!(!panics, "as requested");
            std::future::pending::<Result<(), std::io::Error>>().await
        }));
        begins.await.unwrap();
        if !panics {
            work.abort();
        }
        let body = body(&asked.await.unwrap());
        assert_eq!(work.await.unwrap_err().is_panic(), panics);
        assert_eq!(
            (&body["status"], &body["error"]["code"], &body["cost"]),
            (&json!("FAILED"), &json!(code), &json!(0.5))
        );
    }
}

#[tokio::test]
async fn work_does_not_depend_on_its_callback() {
    let work = async |report: CompletionReport| {
        report.cost(0.5);
        Ok::<_, std::io::Error>(7)
    };
    let none = CompletionCallback::around(None, work).await;
    assert_eq!(none.unwrap(), 7);
    // Nothing listens there.
    let callback = CompletionCallback::new("http://127.0.0.1:1/").unwrap();
    let unsent = CompletionCallback::around(callback, work).await;
    assert_eq!(unsent.unwrap(), 7);
}
