//! Plays every scenario on both servers and compares what was written down.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use openhands::{
    testkit::{
        FakeServer, Script, ScriptedModel, Step,
        fake::{CommandOutput, Verdict},
    },
    transport::Client,
};
use serde_json::json;

use crate::{scenarios, side::Side};

/// The script of each scenario, for a directory the agent works in.
fn script(name: &str, work: &str) -> Script {
    let file = format!("{work}/test_broken.py");
    match name {
        "the main job" => Script::new()
            .step(
                Step::call(
                    "file_editor",
                    json!({"command": "create", "path": file, "file_text": "def test(:\n    pass\n"}),
                )
                .think("A syntax error, as asked.")
                .say("Creating it.")
                .cost(0.01),
            )
            .step(Step::finish("Created.").expect("test_broken.py"))
            .step(
                Step::call(
                    "file_editor",
                    json!({"command": "str_replace", "path": file, "old_str": "test(:", "new_str": "test():"}),
                )
                .expect("[Stop hook feedback]")
                .cost(0.02),
            )
            .finish("Fixed."),
        "steering" => Script::new().text("All done."),
        "interrupting" => Script::new().step(Step::text("late").delay(Duration::from_secs(600))),
        "approval" => Script::new()
            .repeat(2, |s| s.call("terminal", json!({"command": "true"})))
            .finish("Done."),
        "failures" => Script::new()
            .fail(400, "this cannot be")
            .step(Step::call("no_such_tool", json!({})))
            .step(Step::default().and_call_raw("terminal", "{not json"))
            .step(Step::call("terminal", json!({"command": "true"})).and_call("think", json!({"thought": "hm"})))
            .finish("Done."),
        _ => Script::new(),
    }
}

async fn play(name: &str, side: &mut Side) {
    match name {
        "refusals" => scenarios::refusals(side).await,
        "sockets refused" => scenarios::sockets_refused(side).await,
        "the main job" => scenarios::the_main_job(side).await,
        "cursors and pages" => scenarios::cursors_and_pages(side).await,
        "steering" => scenarios::steering(side).await,
        "interrupting" => scenarios::interrupting(side).await,
        "approval" => scenarios::approval(side).await,
        "failures" => scenarios::failures(side).await,
        "commands" => scenarios::commands(side).await,
        other => panic!("no scenario {other}"),
    }
}

async fn on_the_fake(name: &str) -> String {
    let denied = AtomicBool::new(false);
    let server = FakeServer::builder()
        .script(script(name, "/project"))
        .hooks(move |_| match denied.swap(true, Ordering::SeqCst) {
            true => Verdict::allow(),
            false => Verdict::deny("  File \"test_broken.py\"\nSyntaxError: invalid syntax\n"),
        })
        .commands(|line| match line {
            "true" => CommandOutput::ok(""),
            "sleep 300" => CommandOutput::ok("").after(Duration::from_secs(300)),
            _ => CommandOutput::exit(3).stdout("out\n").stderr("err\n"),
        })
        .start()
        .await
        .unwrap();
    let client = Client::builder(server.url()).session_api_key(server.session_api_key());
    let mut side = Side {
        client: client.build().unwrap(),
        url: server.url(),
        work: "/project".to_owned(),
        llm: json!({"model": ScriptedModel::MODEL, "api_key": "k"}),
        seen: String::new(),
    };
    play(name, &mut side).await;
    server.verify().unwrap();
    side.seen
}

async fn on_the_real(name: &str, client: &Client, url: &str) -> String {
    let work = tempfile::tempdir().unwrap();
    let work = work.path().join("work").to_str().unwrap().to_owned();
    let model = ScriptedModel::start(script(name, &work)).await.unwrap();
    let mut side = Side {
        client: client.clone(),
        url: url.to_owned(),
        work,
        llm: model.llm(),
        seen: String::new(),
    };
    play(name, &mut side).await;
    model.verify().unwrap();
    side.seen
}

/// Both texts, line by line, where they differ.
fn differences(fake: &str, real: &str) -> String {
    let mut report = String::new();
    let (fake, real): (Vec<_>, Vec<_>) = (fake.lines().collect(), real.lines().collect());
    for at in 0..fake.len().max(real.len()) {
        let (f, r) = (
            fake.get(at).unwrap_or(&"(nothing)"),
            real.get(at).unwrap_or(&"(nothing)"),
        );
        if f != r {
            write!(report, "\n  line {at}\n    fake: {f}\n    real: {r}").unwrap();
        }
    }
    report
}

#[tokio::test]
async fn the_fake_server_agrees_with_the_real_one() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let url = server.url().to_string();
    let mut report = String::new();
    for name in [
        "refusals",
        "sockets refused",
        "the main job",
        "cursors and pages",
        "steering",
        "interrupting",
        "approval",
        "failures",
        "commands",
    ] {
        let fake = on_the_fake(name).await;
        let real = on_the_real(name, server.client(), url.trim_end_matches('/')).await;
        let differences = differences(&fake, &real);
        if !differences.is_empty() {
            write!(report, "\n{name}:{differences}").unwrap();
        }
    }
    assert!(report.is_empty(), "the two servers disagree:{report}");
    server.shutdown(Duration::from_secs(10)).await.unwrap();
}
