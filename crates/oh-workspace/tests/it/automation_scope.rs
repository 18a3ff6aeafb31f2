//! Work in an automation environment whose tags, conversations and end are reported by themselves.
//! The environment is that of a process, so the work is done in child processes.

use std::process::Command;

use oh_conversation::{Conversation, ConversationBuilder, RunStatus};
use oh_protocol::config::{Agent, Llm};
use oh_testkit::{FakeServer, Script, Step};
use oh_workspace::{Automation, Workspace};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const KEY: &str = "my-key-canary";

/// Does one kind of work in a child process in an automation environment. Returns the bodies of all
/// callbacks, and the lines that the work has printed.
async fn reported(work: &'static str) -> (Vec<Value>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/done?t=canary", listener.local_addr().unwrap());
    let receiving = tokio::spawn(async move {
        let mut bodies = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut request, mut buffer) = (String::new(), [0; 4096]);
            while !request.ends_with('}') && !request.ends_with("END") {
                let count = stream.read(&mut buffer).await.unwrap();
                request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
            }
            if request == "END" {
                return bodies;
            }
            assert!(request.contains(&format!("Bearer {KEY}\r\n")), "{request}");
            let body = request.split("\r\n\r\n").nth(1).unwrap();
            bodies.push(serde_json::from_str(body).unwrap());
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    let address = url["http://".len()..].split('/').next().unwrap().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([
            "--exact",
            "automation_scope::child_process_of_an_automation",
            "--nocapture",
        ]);
        let payload = r#"{"trigger":"cron","automation_id":"a","automation_name":"n"}"#;
        child
            .env("OH_TEST_WORK", work)
            .env("AUTOMATION_CALLBACK_URL", url)
            .env("AUTOMATION_CALLBACK_API_KEY", KEY)
            .env("AUTOMATION_EVENT_PAYLOAD", payload)
            .env("AUTOMATION_RUN_ID", "run-7")
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    let mut end = tokio::net::TcpStream::connect(address).await.unwrap();
    end.write_all(b"END").await.unwrap();
    let bodies = receiving.await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let logged = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{printed}{logged}");
    assert!(
        !format!("{printed}{logged}").contains("canary"),
        "{printed}{logged}"
    );
    let lines = printed.lines().filter_map(|line| line.strip_prefix("> "));
    (bodies, lines.map(str::to_owned).collect())
}

/// Returns the only callback of some work, which must be a failure with this code.
async fn failure(work: &'static str, code: &str) -> Value {
    let (bodies, printed) = reported(work).await;
    assert_eq!(bodies.len(), 1, "{bodies:?} {printed:?}");
    let body = bodies.into_iter().next().unwrap();
    assert_eq!(body["status"], "FAILED", "{body}");
    assert_eq!(body["error"]["code"], code, "{body}");
    assert_eq!(body["run_id"], "run-7", "{body}");
    body
}

async fn server(script: Script) -> (FakeServer, Workspace) {
    let server = FakeServer::builder().script(script).start().await.unwrap();
    let workspace = Workspace::new(&server.client().unwrap(), "/workspace");
    (server, workspace)
}

fn builder(workspace: &Workspace) -> ConversationBuilder {
    let agent = Agent::default_preset(Llm::new("openai/gpt-5").api_key("k")).cli_mode(true);
    Conversation::builder(workspace, agent).unchecked_tools()
}

/// Starts a conversation, runs it, and returns it and how the run ended.
async fn run(builder: ConversationBuilder) -> (Conversation, RunStatus) {
    let conversation = builder.start().await.unwrap();
    conversation.send("Go.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    (conversation, outcome.status())
}

fn script<const N: usize>(steps: [Step; N]) -> Script {
    steps.into_iter().fold(Script::new(), Script::step)
}

fn costs(dollars: f64) -> Step {
    Step::finish("Done.").cost(dollars)
}

/// The kinds of work, each in a separate process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_process_of_an_automation() {
    let Ok(work) = std::env::var("OH_TEST_WORK") else {
        return;
    };
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(std::io::stderr)
        .init();
    let automation = Automation::from_env();
    assert!(automation.is_requested());
    println!("> {automation:?}");
    match work.as_str() {
        "completed" => Box::pin(completed(automation)).await,
        "left out" => {
            let work = async {
                let (_server, workspace) = server(script([Step::fail(400, "no")])).await;
                let (conversation, status) = run(builder(&workspace).automation(false)).await;
                assert_eq!(status, RunStatus::Error);
                println!("> tags {:?}", conversation.state().get("tags"));
                Ok::<_, std::io::Error>(())
            };
            automation.run(work).await.unwrap();
        }
        "failed run" => {
            let work = async {
                let (_server, workspace) = server(script([Step::fail(400, KEY)])).await;
                let (_conversation, status) = run(builder(&workspace)).await;
                assert_eq!(status, RunStatus::Error);
                Ok::<_, std::io::Error>(())
            };
            automation.run(work).await.unwrap();
        }
        "repeated run" => {
            let work = async {
                let twice = script([Step::fail(400, "no"), costs(0.5)]);
                let (_server, workspace) = server(twice).await;
                let (conversation, status) = run(builder(&workspace)).await;
                assert_eq!(status, RunStatus::Error);
                let outcome = conversation.run().await.unwrap();
                assert!(outcome.is_finished(), "{outcome}");
                Ok::<_, std::io::Error>(())
            };
            automation.run(work).await.unwrap();
        }
        "error" => {
            let failure = std::io::Error::other(format!("no: {KEY}"));
            automation
                .run(async { Err::<(), _>(failure) })
                .await
                .unwrap_err();
        }
        "panic" | "cancelled" => {
            let (begun, begins) = tokio::sync::oneshot::channel();
            let panics = work == "panic";
            let working = tokio::spawn(automation.run(async move {
                let (_server, workspace) = server(script([costs(0.5)])).await;
                let (_conversation, _) = run(builder(&workspace)).await;
                begun.send(()).unwrap();
                assert!(!panics, "as requested");
                std::future::pending::<Result<(), std::io::Error>>().await
            }));
            begins.await.unwrap();
            if !panics {
                working.abort();
            }
            assert_eq!(working.await.unwrap_err().is_panic(), panics);
        }
        other => panic!("unknown work {other:?}"),
    }
}

async fn completed(automation: Automation) {
    let (_server, workspace) = server(script([costs(0.5), costs(0.25)])).await;
    let work = async {
        let (conversation, status) = run(builder(&workspace).tag("automationname", "mine")).await;
        assert_eq!(status, RunStatus::Finished);
        println!("> tags {}", conversation.state().get("tags").unwrap());
        // A scope inside another reports nothing.
        let inner = Automation::from_env().run(async {
            let (conversation, _) = run(builder(&workspace)).await;
            println!("> newest {}", conversation.id());
            conversation.close().await
        });
        inner.await
    };
    automation.run(work).await.unwrap();
    // Neither does a later one.
    let later = async { Err::<(), _>("later") };
    Automation::from_env().run(later).await.unwrap_err();
}

#[tokio::test]
async fn completed_work_is_reported_once_with_its_newest_conversation_and_the_sum_of_costs() {
    let (bodies, printed) = reported("completed").await;
    let newest = printed.iter().find_map(|line| line.strip_prefix("newest "));
    let expected = json!({"status": "COMPLETED", "run_id": "run-7", "cost": 0.75,
        "conversation_id": newest.unwrap()});
    assert_eq!(bodies, [expected], "{printed:?}");
    // The tag that the program has set stays.
    let tags = printed.iter().find_map(|line| line.strip_prefix("tags "));
    let tags: Value = serde_json::from_str(tags.unwrap()).unwrap();
    let expected = json!({"automationtrigger": "cron", "automationid": "a",
        "automationname": "mine", "automationrunid": "run-7"});
    assert_eq!(tags, expected);
}

#[tokio::test]
async fn a_conversation_that_is_left_out_has_no_tags_and_is_not_reported() {
    let (bodies, printed) = reported("left out").await;
    let expected = json!({"status": "COMPLETED", "run_id": "run-7"});
    assert_eq!(bodies, [expected]);
    let tags = printed.iter().find_map(|line| line.strip_prefix("tags "));
    assert!(!tags.unwrap().contains("automation"), "{printed:?}");
}

#[tokio::test]
async fn a_failed_run_is_reported_as_failed_unless_the_next_one_finishes() {
    let body = failure("failed run", "LLMBadRequestError").await;
    assert!(!body.to_string().contains("canary"), "{body}");
    assert!(body["conversation_id"].is_string(), "{body}");
    let (bodies, _) = reported("repeated run").await;
    assert_eq!(bodies.len(), 1);
    let found = (&bodies[0]["status"], &bodies[0]["cost"]);
    assert_eq!(found, (&json!("COMPLETED"), &json!(0.5)));
}

#[tokio::test]
async fn an_error_a_panic_and_a_cancellation_are_reported() {
    let body = failure("error", "Error").await;
    assert_eq!(body["error"]["detail"], "no: **********");
    for (work, code) in [("panic", "Panicked"), ("cancelled", "Cancelled")] {
        let body = failure(work, code).await;
        // The conversation ended with the work, and its cost stays.
        assert_eq!(body["cost"], 0.5, "{body}");
        assert!(body["conversation_id"].is_string(), "{body}");
    }
}
