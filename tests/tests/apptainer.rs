//! Servers in containers of Apptainer. A stand-in replaces the program: it records how it was
//! called, and runs a server of this machine instead of that in an image.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and owners print what their test reads"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use openhands::{
    prelude::*,
    process::Provisioner,
    sandbox::{ApptainerServer, ApptainerServerBuilder, ErrorKind, Sandbox, Status},
    testkit::{Script, ScriptedModel, Step},
};
use openhands_tests::containers::eventually;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// Replaces Apptainer. `PLACE`, and `SERVER` with the command of the server, come before this text.
const STAND_IN: &str = r#"
import json, os, sys
arguments = sys.argv[1:]
given = {k: v for k, v in os.environ.items() if k.startswith("APPTAINERENV_")}
with open(PLACE + "/calls", "a") as file:
    file.write(json.dumps({"pid": os.getpid(), "arguments": arguments, "given": given}) + "\n")
if arguments[0] == "pull":
    if "missing" in arguments[2]:
        sys.exit("FATAL: manifest unknown")
    open(arguments[1], "w").write("image")
    sys.exit(0)
image = next(at for at, word in enumerate(arguments) if word.endswith(".sif"))
if "broken" in arguments[image]:
    sys.exit("FATAL: no runscript")
binds = [arguments[at + 1] for at, word in enumerate(arguments) if word == "--bind"]
(config,) = [bind.split(":")[0] for bind in binds if bind.endswith(":/openhands-rs:ro")]
variables = {k.removeprefix("APPTAINERENV_"): v for k, v in given.items()}
variables["OPENHANDS_AGENT_SERVER_CONFIG_PATH"] = config + "/server.json"
variables["PATH"] = os.environ["PATH"]
variables["HOME"] = PLACE
# The container has a private /tmp.
variables["TMPDIR"] = PLACE
if "SLOW" in variables:
    import time
    time.sleep(600)
os.execve(SERVER[0], SERVER + arguments[image + 1 :], variables)
"#;

/// Runs the server as with the private /tmp of a container, in which the browser's library creates
/// a directory.
const PRIVATE: &str = r#"
import os, runpy
create = os.mkdir
def mkdir(path, *options, **named):
    name = os.fspath(path)
    if str(name).startswith("/tmp/browser-use"):
        path = os.environ["TMPDIR"] + name[len("/tmp"):]
    return create(path, *options, **named)
os.mkdir = mkdir
runpy.run_module("openhands.agent_server", run_name="__main__", alter_sys=True)
"#;

/// Returns a program that stands in for Apptainer.
fn stand_in(place: &Path, server: &[&str]) -> PathBuf {
    let program = place.join("apptainer");
    let text = format!(
        "#!/usr/bin/env python3\nPLACE = {}\nSERVER = {}\n{STAND_IN}",
        json!(place),
        json!(server)
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// Returns a builder for a server that starts in a fraction of a second.
fn builder(place: &Path) -> ApptainerServerBuilder {
    fs::write(place.join("own.sif"), "image").unwrap();
    ApptainerServer::builder()
        .executable(stand_in(place, &[env!("CARGO_BIN_EXE_container_stand_in")]))
        .sif(place.join("own.sif"))
}

/// Returns how the stand-in was called.
fn calls(place: &Path) -> Vec<Value> {
    let text = fs::read_to_string(place.join("calls")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn runs(call: &Value) -> bool {
    Path::new(&format!("/proc/{}", call["pid"])).exists()
}

/// Returns the private directory in which a container found its configuration.
fn configuration(call: &Value) -> PathBuf {
    let words = call["arguments"].as_array().unwrap().iter();
    let mut words = words.map(|word| word.as_str().unwrap());
    let mount = words.find_map(|word| word.strip_suffix(":/openhands-rs:ro"));
    mount.unwrap().into()
}

#[tokio::test]
async fn a_server_is_verified_and_ends_with_everything() {
    let home = openhands_tests::home();
    let place = home.path();
    let server = builder(place)
        .env("TOKEN", "canary-canary")
        .workspace(place)
        .gpus(true)
        .start()
        .await
        .unwrap();
    let [call] = calls(place).try_into().unwrap();
    assert_eq!(server.id(), call["pid"].to_string());
    assert_eq!(call["given"]["APPTAINERENV_TOKEN"], "canary-canary");
    // The key is in no argument and no variable, and no longer in the file.
    let key = server.session_api_key().expose_secret().to_owned();
    let config = configuration(&call);
    let file = fs::read_to_string(config.join("server.json")).unwrap();
    assert!(
        !call.to_string().contains(&key) && !file.contains(&key),
        "{call}"
    );
    assert!(!call["arguments"].to_string().contains("canary"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&config), mode(&config.join("server.json"))),
        (0o700, 0o600)
    );

    let sandbox: Box<dyn Sandbox> = Box::new(server);
    let mut status = sandbox.status();
    assert_eq!(status.current(), Status::Ready);
    let error = sandbox.pause().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let report = sandbox.shutdown(Duration::from_secs(5)).await.unwrap();
    assert!(report.success() && !report.killed, "{report}");
    let last = status
        .wait_for(|status| matches!(status, Status::Exited(_)))
        .await;
    assert!(last.is_some());
    assert!(!runs(&call));
    assert!(!config.exists());
}

#[tokio::test]
async fn an_agent_works_on_a_server_that_apptainer_runs() {
    let home = openhands_tests::home();
    let place = home.path();
    let environment = Provisioner::new().provision().await.unwrap();
    let python = environment.python().to_str().unwrap();
    let script = Script::new()
        .step(Step::call(
            "terminal",
            json!({"command": "echo hello > made.txt"}),
        ))
        .step(Step::finish("Made."));
    let model = ScriptedModel::start(script).await.unwrap();
    let server = builder(place)
        .executable(stand_in(place, &[python, "-P", "-c", PRIVATE]))
        .start()
        .await
        .unwrap();
    let llm = Llm::new("openai/scripted")
        .api_key("none")
        .base_url(model.base_url());
    let agent = Agent::default_preset(llm.num_retries(0)).cli_mode(true);
    // The stand-in mounts nothing, so there is no `/workspace`.
    let work = server.workspace(place);
    let conversation = Conversation::builder(&work, agent).start().await.unwrap();
    conversation.send("Go.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    assert_eq!(
        fs::read_to_string(place.join("made.txt")).unwrap().trim(),
        "hello"
    );
    conversation.close().await.unwrap();
    let report = server.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(report.success(), "{report}");
    let [call] = calls(place).try_into().unwrap();
    assert!(!runs(&call));
}

#[tokio::test]
async fn an_image_of_a_registry_is_downloaded_once() {
    let home = openhands_tests::home();
    let place = home.path();
    let cache = place.join("images");
    for _ in 0..2 {
        let server = builder(place).image("host/name:tag").cache_dir(&cache);
        drop(server.start().await.unwrap());
    }
    let done = calls(place);
    let verbs: Vec<_> = done
        .iter()
        .map(|call| call["arguments"][0].as_str().unwrap())
        .collect();
    assert_eq!(verbs, ["pull", "run", "run"]);
    assert_eq!(done[0]["arguments"][2], "docker://host/name:tag");
    let files = fs::read_dir(&cache)
        .unwrap()
        .map(|file| file.unwrap().file_name());
    assert_eq!(files.collect::<Vec<_>>(), ["host_name_tag.sif"]);
}

#[tokio::test]
async fn starts_that_cannot_succeed_have_a_reason_and_leave_nothing() {
    let home = openhands_tests::home();
    let place = home.path();
    let new = || builder(place).cache_dir(place.join("images"));
    fs::write(place.join("broken.sif"), "").unwrap();
    for (kind, says, builder) in [
        (
            ErrorKind::NoEngine,
            "install Apptainer",
            new().executable("no-such-apptainer"),
        ),
        (
            ErrorKind::NoImage,
            "no-such.sif",
            new().sif(place.join("no-such.sif")),
        ),
        (
            ErrorKind::PullFailed,
            "manifest unknown",
            new().image("missing:1"),
        ),
        (
            ErrorKind::Died,
            "no runscript",
            new().sif(place.join("broken.sif")),
        ),
        (
            ErrorKind::NotReady,
            "not ready",
            new()
                .env("SLOW", "yes")
                .ready_within(Duration::from_millis(300)),
        ),
    ] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let shown = format!("{error} {:?}", error.log_tail());
        assert!(shown.contains(says), "{shown}");
    }
    for call in calls(place) {
        assert!(!runs(&call), "{call}");
    }
    assert_eq!(fs::read_dir(place.join("images")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_start_that_is_dropped_leaves_nothing() {
    let home = openhands_tests::home();
    let place = home.path();
    let start = builder(place).env("SLOW", "yes").start();
    let called = async {
        while calls(place).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = start => unreachable!("it is slow"),
        () = called => {}
    }
    let [call] = calls(place).try_into().unwrap();
    assert!(!runs(&call), "{call}");
    assert!(!configuration(&call).exists());
}

#[test]
fn a_killed_owner_with_mounts_of_the_environment_leaves_nothing() {
    const PLACE: &str = "OH_TEST_PLACE";
    if let Ok(place) = std::env::var(PLACE) {
        return tokio::runtime::Runtime::new().unwrap().block_on(async {
            let _server = builder(place.as_ref()).start().await.unwrap();
            println!("OWNS");
            std::future::pending::<()>().await;
        });
    }
    let home = openhands_tests::home();
    let place = home.path();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("a_killed_owner_with_mounts_of_the_environment_leaves_nothing")
        .env(PLACE, place)
        .env("OPENHANDS_APPTAINER_EXTRA_BINDS", "/data:/data:ro, /more")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("OWNS")));
    let [call] = calls(place).try_into().unwrap();
    assert!(runs(&call));
    let arguments = call["arguments"].to_string();
    for mount in [r#""--bind","/data:/data:ro""#, r#""--bind","/more""#] {
        assert!(arguments.contains(mount), "{arguments}");
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("no process", || !runs(&call));
    eventually("no file", || !configuration(&call).exists());
}
