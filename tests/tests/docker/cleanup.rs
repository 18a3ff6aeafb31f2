//! The owner of a container ends in every way. No container is left.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use openhands::sandbox::{Engine, OwnerState};

use super::common::{builder, containers, docker, eventually};

const ROLE: &str = "OH_TEST_OWNER";

/// Runs a test of this module again, as an owner.
fn owner(test: &str, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("cleanup::{test}")])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the owner prints this word.
fn wait_for(child: &mut Child, word: &str) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let found = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains(word));
    assert!(found, "the owner never printed {word}");
    // Keep reading: a closed pipe would end the owner.
    thread::spawn(move || lines.count());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

/// Acts as an owner that ends in the given way.
fn act(tag: &str, way: &str) {
    runtime().block_on(async {
        println!("BEGINS");
        let server = builder(tag).start().await.unwrap();
        if way == "paused" {
            server.pause().await.unwrap();
        }
        println!("OWNS");
        match way {
            "exit" => std::process::exit(3),
            "panic" => panic!("as requested"),
            _ => std::future::pending::<()>().await,
        }
    });
}

fn leaves_nothing(test: &str, way: &str) {
    if let Ok(way) = std::env::var(ROLE) {
        return act(test, &way);
    }
    let mut child = owner(test, way);
    wait_for(&mut child, "OWNS");
    if way != "exit" && way != "panic" {
        assert_eq!(containers(test).len(), 1);
        let signal = if way == "interrupt" { "-INT" } else { "-KILL" };
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
    assert!(!child.wait().unwrap().success());
    eventually("no container", || containers(test).is_empty());
}

#[test]
fn a_killed_owner() {
    leaves_nothing("a_killed_owner", "kill");
}

#[test]
fn a_killed_owner_of_a_paused_container() {
    leaves_nothing("a_killed_owner_of_a_paused_container", "paused");
}

#[test]
fn an_interrupted_owner() {
    leaves_nothing("an_interrupted_owner", "interrupt");
}

#[test]
fn an_owner_that_exits() {
    leaves_nothing("an_owner_that_exits", "exit");
}

#[test]
fn an_owner_that_panics() {
    leaves_nothing("an_owner_that_panics", "panic");
}

#[test]
fn an_owner_killed_while_it_starts() {
    let test = "an_owner_killed_while_it_starts";
    if let Ok(way) = std::env::var(ROLE) {
        return act(test, &way);
    }
    for after in [0, 50, 100, 150, 200, 250, 300, 400, 600, 1000] {
        let mut child = owner(test, "kill");
        wait_for(&mut child, "BEGINS");
        // Spread over the start: nothing may be left at any moment.
        thread::sleep(Duration::from_millis(after));
        child.kill().unwrap();
        child.wait().unwrap();
        // The engine may complete a creation after its requester has gone.
        thread::sleep(Duration::from_secs(2));
        eventually(&format!("nothing left, {after} ms"), || {
            containers(test).is_empty()
        });
    }
}

#[tokio::test]
async fn a_start_that_is_dropped_at_any_step() {
    let tag = "dropped";
    for after in [0, 20, 50, 100, 150, 200, 300, 500, 1000] {
        let start = builder(tag).start();
        let ended = tokio::time::timeout(Duration::from_millis(after), start).await;
        assert!(ended.is_err(), "no server is that fast");
        tokio::time::sleep(Duration::from_secs(1)).await;
        eventually(&format!("nothing left, {after} ms"), || {
            containers(tag).is_empty()
        });
    }
}

#[test]
fn a_container_whose_keeper_was_killed_too_is_found_by_its_labels() {
    let test = "a_container_whose_keeper_was_killed_too_is_found_by_its_labels";
    if std::env::var(ROLE).is_ok() {
        return runtime().block_on(async {
            // As after a power cut: no process of the owner is left.
            let server = builder(test).without_keeper().start().await.unwrap();
            println!("OWNS {}", server.id());
            std::future::pending::<()>().await;
        });
    }
    let mut child = owner(test, "kill");
    wait_for(&mut child, "OWNS");
    let [id] = containers(test).try_into().unwrap();
    runtime().block_on(async {
        let engine = Engine::connect().await.unwrap();
        let state = |found: Vec<openhands::sandbox::Leftover>| {
            let mine = found.into_iter().find(|left| left.id == id);
            mine.unwrap().owner
        };
        assert_eq!(
            state(engine.leftovers().await.unwrap()),
            OwnerState::Running
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(state(engine.leftovers().await.unwrap()), OwnerState::Ended);
        let pruned = engine.prune().await.unwrap();
        assert!(pruned.iter().any(|left| left.id == id));
    });
    assert_eq!(containers(test), [""; 0]);
}

#[tokio::test]
async fn a_container_that_others_remove_is_no_error_at_the_end() {
    let tag = "removed";
    let server = builder(tag).start().await.unwrap();
    docker(&["rm", "--force", server.id()]);
    server.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(containers(tag), [""; 0]);
}
