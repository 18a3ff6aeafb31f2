//! Plays every scenario on both servers and compares what was written down.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use openhands::{
    testkit::{
        FakeServer, Script, ScriptedModel, Step,
        fake::{CommandOutput, Observation, Repository, Verdict},
    },
    transport::Client,
};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::{branches, changes, disk, frames, places, raw, runs, scenarios, side::Side};

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
        "hooked" => Script::new()
            .step(Step::call("terminal", json!({"command": "true"})))
            .step(Step::call("think", json!({"thought": "hm"})))
            .finish("Done."),
        "too many iterations" => {
            Script::new().repeat(2, |s| s.call("think", json!({"thought": "hm"})))
        }
        "approved by a message" => {
            Script::new().call("terminal", json!({"command": "true"})).finish("Done.")
        }
        "paused" => Script::new()
            .step(Step::call("think", json!({"thought": "hm"})).delay(Duration::from_secs(3)))
            .finish("Done."),
        "streamed" => Script::new().text("Once upon a time there was a server, and it streamed."),
        "interrupted tool" => Script::new()
            .call("terminal", json!({"command": "sleep 300"}))
            .text("Well then."),
        "silent tool" => Script::new()
            .call("terminal", json!({"command": "sleep 8"}))
            .finish("Done."),
        "goal" => Script::new()
            .text("Begun.")
            .text(r#"{"score": 0.5, "complete": false, "missing": "the rest"}"#)
            .text("Done.")
            .text(r#"{"score": 1.0, "complete": true, "missing": ""}"#),
        "condensed" => Script::new().text("They counted."),
        "responses" => Script::new().repeat(2, |s| {
            s.step(
                Step::call("terminal", json!({"command": "true"}))
                    .and_call("think", json!({"thought": "hm"}))
                    .say("Both at once.")
                    .usage(50, 10)
                    .cached_tokens(20)
                    .cost(0.01),
            )
            .text("Done.")
        }),
        "side by side" => Script::new()
            .each_conversation()
            .step(Step::call("think", json!({"thought": "hm"})).delay(Duration::from_millis(300)))
            .step(Step::call("terminal", json!({"command": "true"})))
            .finish("Mine."),
        "forks" => Script::new().text("All done.").text("Helped."),
        "changes" => Script::new().text("Quite well."),
        "said by socket" => Script::new().text("One.").text("Two."),
        _ => Script::new(),
    }
}

/// What agents do, in the order in which it is played.
const RUNS: [&str; 20] = [
    "refusals",
    "sockets refused",
    "the main job",
    "cursors and pages",
    "steering",
    "interrupting",
    "approval",
    "failures",
    "commands",
    "hooked",
    "too many iterations",
    "approved by a message",
    "paused",
    "interrupted tool",
    "silent tool",
    "goal",
    "condensed",
    "streamed",
    "responses",
    "side by side",
];

/// What else a server is asked. The last two hold many sockets and idle connections.
const REST: [&str; 11] = [
    "proxied",
    "listing",
    "forks",
    "changes",
    "stored",
    "files",
    "git",
    "first frames",
    "said by socket",
    "limits",
    "connections",
];

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
        "hooked" => runs::hooked(side).await,
        "too many iterations" => runs::too_many_iterations(side).await,
        "approved by a message" => runs::approved_by_a_message(side).await,
        "paused" => runs::paused(side).await,
        "interrupted tool" => runs::interrupted_tool(side).await,
        "silent tool" => runs::silent_tool(side).await,
        "goal" => runs::goal(side).await,
        "condensed" => runs::condensed(side).await,
        "streamed" => runs::streamed(side).await,
        "responses" => places::responses(side).await,
        "side by side" => places::side_by_side(side).await,
        "proxied" => places::proxied(side).await,
        "listing" => branches::listing(side).await,
        "forks" => branches::forks(side).await,
        "changes" => changes::changes(side).await,
        "stored" => changes::stored(side).await,
        "files" => disk::files(side).await,
        "git" => disk::git(side).await,
        "first frames" => frames::first_frames(side).await,
        "said by socket" => frames::said_by_socket(side).await,
        "limits" => frames::limits(side).await,
        "connections" => frames::connections(side).await,
        other => panic!("no scenario {other}"),
    }
}

async fn on_the_fake(name: &str) -> String {
    let denied = AtomicBool::new(false);
    let server = FakeServer::builder()
        .script(script(name, "/project"))
        .hooks(move |hook| match hook.command.as_str() {
            "true" => Verdict::allow(),
            "exit 7" => Verdict::fail(7, ""),
            "echo no terminal >&2; exit 2" => Verdict::deny("no terminal\n"),
            command if command.contains("forbidden") => match hook.message.contains("forbidden") {
                true => Verdict::deny(""),
                false => Verdict::allow(),
            },
            _ => match denied.swap(true, Ordering::SeqCst) {
                true => Verdict::allow(),
                false => Verdict::deny("  File \"test_broken.py\"\nSyntaxError: invalid syntax\n"),
            },
        })
        .tool("terminal", |arguments| {
            let line = arguments["command"].as_str().unwrap_or_default();
            let seconds = line
                .strip_prefix("sleep ")
                .map_or(0, |s| s.parse().unwrap());
            let after = Duration::from_secs(seconds);
            Observation::text("").field("exit_code", 0).after(after)
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
        key: server.session_api_key().to_owned(),
        work: "/project".to_owned(),
        llm: json!({"model": ScriptedModel::MODEL, "api_key": "k"}),
        seen: String::new(),
    };
    if name == "git" {
        server.set_repository("/project", repository());
        server.write_file("/project/kept.txt", "kept\n").unwrap();
    }
    play(name, &mut side).await;
    server.verify().unwrap();
    side.seen
}

/// What [`make_repository`] makes, told to the fake server.
fn repository() -> Repository {
    let first = [
        ("ADDED", "changed.txt"),
        ("ADDED", "gone.txt"),
        ("ADDED", "kept.txt"),
    ];
    Repository::new()
        .commit("a".repeat(40), "First", "Ada", first)
        .commit(
            "b".repeat(40),
            "Second",
            "Ada",
            [("UPDATED", "changed.txt")],
        )
        .updated("changed.txt", "two\n", "three\n")
        .added("new.txt", "new\n")
        .deleted("gone.txt", "gone\n")
}

fn make_repository(work: &str) {
    let script = "set -e; git init -q -b main .; git config user.name Ada; \
        git config user.email ada@example.com; \
        echo kept > kept.txt; echo one > changed.txt; echo gone > gone.txt; \
        git add .; git commit -q -m First; echo two > changed.txt; git commit -q -a -m Second; \
        echo three > changed.txt; echo new > new.txt; rm gone.txt";
    std::fs::create_dir_all(work).unwrap();
    let made = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(work)
        .status();
    assert!(made.unwrap().success());
}

async fn on_the_real(name: &str, client: &Client, url: &str, key: &str) -> String {
    let work = tempfile::tempdir().unwrap();
    let work = work.path().join("work").to_str().unwrap().to_owned();
    let model = ScriptedModel::start(script(name, &work)).await.unwrap();
    let mut side = Side {
        client: client.clone(),
        url: url.to_owned(),
        key: key.to_owned(),
        work,
        llm: model.llm(),
        seen: String::new(),
    };
    if name == "git" {
        make_repository(&side.work);
    }
    play(name, &mut side).await;
    if name == "responses" {
        let requests = model.requests();
        let asked = requests
            .iter()
            .map(|request| (request.path(), request.is_stream()));
        let asked: Vec<_> = asked.collect();
        let (plain, streamed) = (("/v1/responses", false), ("/v1/responses", true));
        assert_eq!(asked, [plain, plain, streamed, streamed]);
    }
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
async fn the_fake_server_agrees_with_the_real_one_on_runs() {
    agree(&RUNS).await;
}

#[tokio::test]
async fn the_fake_server_agrees_with_the_real_one_on_the_rest() {
    agree(&REST).await;
}

/// Plays scenarios on both servers. `SCENARIO` in the environment picks one of them.
async fn agree(scenarios: &[&str]) {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let url = server.url().to_string();
    let key = server.session_api_key().expose_secret().to_owned();
    let mut report = String::new();
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    for name in scenarios
        .iter()
        .filter(|name| wanted.is_empty() || wanted == **name)
    {
        let fake = on_the_fake(name).await;
        let real = on_the_real(name, server.client(), url.trim_end_matches('/'), &key).await;
        let differences = differences(&fake, &real);
        if !differences.is_empty() {
            write!(report, "\n{name}:{differences}").unwrap();
        }
    }
    assert!(report.is_empty(), "the two servers disagree:{report}");
    let described = raw::ask(&url, "GET", "/openapi.json", "", b"").await;
    let fake = FakeServer::start().await.unwrap();
    let side = Side {
        client: Client::builder(fake.url()).build().unwrap(),
        url: fake.url(),
        key: fake.session_api_key().to_owned(),
        work: String::new(),
        llm: json!({}),
        seen: String::new(),
    };
    let described = serde_json::from_slice(&described.body).unwrap();
    let unknown = places::routes(&side, &fake.create().id().to_string(), &described).await;
    assert!(
        unknown.is_empty(),
        "the fake does not know the real server's routes:{unknown}"
    );

    server.shutdown(Duration::from_secs(10)).await.unwrap();
}

/// Both servers are killed while a tool is at work, and come back with what they had.
#[tokio::test]
async fn the_fake_server_dies_and_comes_back_as_the_real_one_does() {
    let script = |_: &str| {
        Script::new()
            .call("terminal", json!({"command": "sleep 300"}))
            .text("Well then.")
    };
    let always = json!({"policy": {"kind": "AlwaysConfirm"}});
    let fake = FakeServer::builder()
        .script(script(""))
        .tool("terminal", |_| {
            Observation::text("").after(Duration::from_secs(300))
        })
        .start()
        .await
        .unwrap();
    let client = Client::builder(fake.url()).session_api_key(fake.session_api_key());
    let mut on_the_fake = Side {
        client: client.build().unwrap(),
        url: fake.url(),
        key: fake.session_api_key().to_owned(),
        work: "/project".to_owned(),
        llm: json!({"model": ScriptedModel::MODEL, "api_key": "k"}),
        seen: String::new(),
    };
    let home = openhands_tests::home();
    let policy = openhands::process::RestartPolicy::on_failure(3);
    let server = openhands_tests::server(&home)
        .restart(policy)
        .start()
        .await
        .unwrap();
    let model = ScriptedModel::start(script("")).await.unwrap();
    let mut on_the_real = Side {
        client: server.client().clone(),
        url: server.url().to_string().trim_end_matches('/').to_owned(),
        key: server.session_api_key().expose_secret().to_owned(),
        work: home.path().join("work").to_str().unwrap().to_owned(),
        llm: model.llm(),
        seen: String::new(),
    };
    let mut ids = Vec::new();
    for side in [&mut on_the_fake, &mut on_the_real] {
        let quiet = side.create(serde_json::Value::Null).await;
        let path = format!("/api/conversations/{quiet}/confirmation_policy");
        side.check("POST", &path, always.clone()).await;
        ids.push((quiet, places::before_a_kill(side).await));
    }
    fake.kill();
    let pid = server.pid();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert!(
        tokio::net::TcpStream::connect(fake.address())
            .await
            .is_err()
    );
    fake.come_back();
    let mut status = server.status();
    let ready = |status: &openhands::process::Status| {
        *status == openhands::process::Status::Ready && server.pid() != pid
    };
    let back = status.wait_for(ready);
    tokio::time::timeout(Duration::from_secs(120), back)
        .await
        .unwrap()
        .unwrap();
    let sides = [&mut on_the_fake, &mut on_the_real];
    for (side, (quiet, busy)) in sides.into_iter().zip(&ids) {
        places::policies(side, quiet).await;
        places::after_a_kill(side, busy).await;
    }
    let differences = differences(&on_the_fake.seen, &on_the_real.seen);
    assert!(
        differences.is_empty(),
        "the two servers disagree:{differences}"
    );
    fake.verify().unwrap();
    server.shutdown(Duration::from_secs(10)).await.unwrap();
}
