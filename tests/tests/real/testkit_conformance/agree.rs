//! Plays every scenario on both servers and compares the records.

use std::{
    fmt::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use openhands::{
    process::Startup,
    testkit::{
        FakeServer, Gate, Script, ScriptedModel, Step,
        fake::{CommandOutput, Observation, Repository, Seen, Verdict},
    },
    transport::Client,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::{
    admin, agents, approvals, branches, changes, disk, every, frames, held, page, places, raw,
    runs, scenarios, served, side::Side,
};

/// Returns the script of each scenario, for a directory that the agent works in.
fn script(name: &str, work: &str, asked: &Gate) -> Script {
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
        "interrupting" => Script::new().step(Step::text("late").hold(asked)),
        "approval" => Script::new()
            .repeat(2, |s| s.call("terminal", json!({"command": "true"})))
            .finish("Done."),
        "approval by risk" => approvals::risky_calls(),
        "approval races" => approvals::raced_calls(asked),
        "failures" => Script::new()
            .fail(400, "this cannot be")
            .step(Step::call("no_such_tool", json!({})))
            .step(Step::default().and_call_raw("terminal", "{not json"))
            .step(Step::call("terminal", json!({"command": "true"})).and_call("think", json!({"thought": "hm"})))
            .finish("Done."),
        "client tools" => Script::new()
            .step(
                Step::call("deploy", json!({"branch": "main", "kind": "live", "summary": "deploys"}))
                    .and_call("deploy", json!({"kind": "live"}))
                    .and_call("deploy", json!({"branch": "main", "other": 1}))
                    .and_call_raw("deploy", "[]"),
            )
            .finish("Done."),
        "hooked" => Script::new()
            .step(Step::call("terminal", json!({"command": "true"})))
            .step(Step::call("think", json!({"thought": "hm"})))
            .finish("Done."),
        "context" => Script::new()
            .step(Step::call("think", json!({"thought": "hm"})).expect("read this"))
            .finish("Done.")
            .step(Step::text("More done.").expect("more to do"))
            .step(Step::text("Once more.").expect("read this")),
        "runs at once" => Script::new()
            .each_conversation()
            .step(Step::text("late").delay(Duration::from_secs(600))),
        "too many iterations" => {
            Script::new().repeat(2, |s| s.call("think", json!({"thought": "hm"})))
        }
        "approved by a message" => {
            Script::new().call("terminal", json!({"command": "true"})).finish("Done.")
        }
        "paused" => Script::new()
            .step(Step::call("think", json!({"thought": "hm"})).hold(asked))
            .finish("Done."),
        "streamed" => Script::new().text("Once upon a time there was a server, and it streamed."),
        "interrupted tool" => Script::new()
            .call("terminal", json!({"command": "touch begun; sleep 300"}))
            .text("Well then."),
        "silent tool" => Script::new()
            .call("terminal", json!({"command": "sleep 8"}))
            .finish("Done."),
        "goal" => Script::new()
            .step(Step::text("Begun.").hold(asked))
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

/// Scenarios about the agent's work, in the order in which they are played.
pub(crate) const RUNS: [&str; 21] = [
    "refusals",
    "sockets refused",
    "the main job",
    "cursors and pages",
    "steering",
    "interrupting",
    "failures",
    "client tools",
    "commands",
    "hooked",
    "context",
    "too many iterations",
    "paused",
    "interrupted tool",
    "silent tool",
    "goal",
    "condensed",
    "streamed",
    "responses",
    "side by side",
    "runs at once",
];

/// Scenarios about actions that need approval.
pub(crate) const APPROVALS: [&str; 4] = [
    "approval",
    "approval by risk",
    "approval races",
    "approved by a message",
];

/// Other scenarios. The last two hold many sockets and idle connections.
pub(crate) const REST: [&str; 21] = [
    "proxied",
    "listing",
    "forks",
    "changes",
    "stored",
    "models and keys",
    "agent profiles",
    "saved",
    "mcp stored",
    "subscription",
    "files",
    "git",
    "own commands",
    "pages",
    "skills",
    "itself",
    "first frames",
    "said by socket",
    "limits",
    "sockets at once",
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
        "approval by risk" => approvals::by_risk(side).await,
        "approval races" => approvals::races(side).await,
        "failures" => scenarios::failures(side).await,
        "client tools" => runs::client_tools(side).await,
        "commands" => scenarios::commands(side).await,
        "hooked" => runs::hooked(side).await,
        "context" => runs::context(side).await,
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
        "runs at once" => held::runs(side, 10).await,
        "proxied" => places::proxied(side).await,
        "listing" => branches::listing(side).await,
        "forks" => branches::forks(side).await,
        "changes" => changes::changes(side).await,
        "stored" => changes::stored(side).await,
        "subscription" => admin::subscription(side).await,
        "mcp stored" => admin::mcp_stored(side).await,
        "models and keys" => admin::models_and_keys(side).await,
        "agent profiles" => agents::profiles(side).await,
        "saved" => admin::saved(side).await,
        "files" => disk::files(side).await,
        "git" => disk::git(side).await,
        "own commands" => served::own_commands(side).await,
        "pages" => served::pages(side).await,
        "skills" => served::skills(side).await,
        "itself" => served::itself(side).await,
        "first frames" => frames::first_frames(side).await,
        "said by socket" => frames::said_by_socket(side).await,
        "limits" => frames::limits(side).await,
        "sockets at once" => held::sockets(side).await,
        "connections" => frames::connections(side).await,
        other => panic!("no scenario {other}"),
    }
}

/// Plays a scenario on the fake server. Returns its record and the requests that the server
/// received.
pub(crate) async fn on_the_fake(name: &str) -> (String, Vec<Seen>) {
    let denied = AtomicBool::new(false);
    let asked = Gate::new();
    let server = FakeServer::builder()
        .script(script(name, "/project", &asked))
        .hooks(move |hook| match hook.command.as_str() {
            "true" => Verdict::allow(),
            "exit 2" => Verdict::deny(""),
            command if command.starts_with("mkdir") => match denied.swap(true, Ordering::SeqCst) {
                true => Verdict::allow(),
                false => Verdict::deny("").context("more to do"),
            },
            command if command.starts_with("echo '{") => {
                let said = command.trim_start_matches("echo '").trim_end_matches('\'');
                let said: serde_json::Value = serde_json::from_str(said).unwrap();
                Verdict::allow().context(said["additionalContext"].as_str().unwrap())
            }
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
                .split_once("sleep ")
                .map_or(0, |(_, seconds)| seconds.parse().unwrap());
            let after = Duration::from_secs(seconds);
            Observation::text("").field("exit_code", 0).after(after)
        })
        .commands(|line| match line {
            "true" => CommandOutput::ok(""),
            "sleep 300" => CommandOutput::ok("").after(Duration::from_secs(300)),
            "echo out; sleep 300" => CommandOutput::ok("out\n").after(Duration::from_secs(300)),
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
        asked,
        seen: String::new(),
    };
    if name == "git" {
        server.set_repository("/project", repository());
        server.write_file("/project/kept.txt", "kept\n").unwrap();
    }
    if ["pages", "skills"].contains(&name) {
        for (path, content) in served::PROJECT {
            server
                .write_file(&format!("/project/{path}"), content)
                .unwrap();
        }
    }
    play(name, &mut side).await;
    server.verify().unwrap();
    (side.seen, server.requests())
}

/// Describes the repository of [`make_repository`] for the fake server.
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

async fn on_the_real(name: &str, client: &Client, key: &str, place: &Path) -> String {
    let url = client.base_url().as_str().trim_end_matches('/');
    let work = tempfile::tempdir_in(place).unwrap();
    let work = work.path().join("work").to_str().unwrap().to_owned();
    let asked = Gate::new();
    let script = script(name, &work, &asked);
    let model = ScriptedModel::start(script).await.unwrap();
    let mut side = Side {
        client: client.clone(),
        url: url.to_owned(),
        key: key.to_owned(),
        work,
        llm: model.llm(),
        asked,
        seen: String::new(),
    };
    if name == "git" {
        make_repository(&side.work);
    }
    if ["pages", "skills"].contains(&name) {
        for (path, content) in served::PROJECT {
            let path = Path::new(&side.work).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
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

/// Returns the lines that differ between the two texts.
pub(crate) fn differences(fake: &str, real: &str) -> String {
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
    agree(&RUNS, Start::Forked).await;
}

#[tokio::test]
async fn the_fake_server_agrees_with_the_real_one_on_approvals() {
    agree(&APPROVALS, Start::Forked).await;
}

#[tokio::test]
async fn the_fake_server_agrees_with_the_real_one_on_the_rest() {
    agree(&REST, Start::Cold).await;
}

/// How to start the real server. The scenarios must hold in both cases.
#[derive(Clone, Copy)]
enum Start {
    Cold,
    Forked,
}

/// Plays scenarios on both servers. The environment variable `SCENARIO` selects one of them.
async fn agree(scenarios: &[&str], start: Start) {
    let home = openhands_tests::home();
    let (builder, startup) = match start {
        Start::Cold => (openhands_tests::cold_server(&home), Startup::Cold),
        Start::Forked => (openhands_tests::server(&home), Startup::Forked),
    };
    let server = builder.start().await.unwrap();
    assert_eq!(server.startup(), startup);
    page::note(&json!({"server": server.info().version}));
    let key = server.session_api_key();
    compare(scenarios, server.client(), key, &std::env::temp_dir()).await;
    let described = raw::ask(server.url().as_str(), "GET", "/openapi.json", "", b"").await;
    let fake = FakeServer::start().await.unwrap();
    let side = Side {
        client: Client::builder(fake.url()).build().unwrap(),
        url: fake.url(),
        key: fake.session_api_key().to_owned(),
        work: String::new(),
        llm: json!({}),
        asked: Gate::new(),
        seen: String::new(),
    };
    let described = serde_json::from_slice(&described.body).unwrap();
    let stored = serde_json::from_str(places::DOCUMENT).unwrap();
    let mut changed = Vec::new();
    places::changes(&stored, &described, "", &mut changed);
    assert!(
        changed.is_empty(),
        "run `cargo xtask api --document`, because the server has changed: {changed:#?}"
    );
    let unknown = places::routes(&side, &fake.create().id().to_string(), &described).await;
    assert!(
        unknown.is_empty(),
        "the fake does not know the real server's routes:{unknown}"
    );

    server.shutdown(Duration::from_secs(10)).await.unwrap();
}

/// Plays scenarios on the fake server, and on this real one, whose agents work below `place`.
pub(crate) async fn compare(scenarios: &[&str], client: &Client, key: &SecretString, place: &Path) {
    let key = key.expose_secret();
    let mut report = String::new();
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    for name in scenarios
        .iter()
        .filter(|name| wanted.is_empty() || wanted == **name)
    {
        let (fake, requests) = on_the_fake(name).await;
        let real = on_the_real(name, client, key, place).await;
        let differences = differences(&fake, &real);
        page::note(&json!({
            "scenario": name, "observations": real.lines().count(),
            "routes": every::routes_of(&requests), "differences": differences,
        }));
        if !differences.is_empty() {
            write!(report, "\n{name}:{differences}").unwrap();
        }
    }
    assert!(report.is_empty(), "the two servers disagree:{report}");
}
