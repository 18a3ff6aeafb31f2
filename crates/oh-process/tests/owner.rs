//! The owner ends in ways that run no code: nothing of its server is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

use common::{StandIn, eventually, processes};

const ROLE: &str = "OH_TEST_OWNER";

/// In the child: starts a server, tells of it, and ends as told.
fn owner(way: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let stand_in = StandIn::new().await;
        let server = stand_in.builder("daemon").start().await.unwrap();
        println!(
            "OWNS {} {} {}",
            stand_in.tag,
            server.pid(),
            server.state_dir().display()
        );
        // Its destructors would clean up; these ways run none.
        match way {
            "exit" => std::process::exit(3),
            "abort" => std::process::abort(),
            "panic" => panic!("as told"),
            _ => std::future::pending::<()>().await,
        }
    });
}

/// Runs this very test as an owner, waits for its server, and ends it in one way.
async fn leaves_nothing(test: &str, way: &str) {
    // The stand-in is the test's, not the server's: its owner cannot take it along.
    let place = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(ROLE, way)
        .env("TMPDIR", place.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.contains("OWNS "))
        .expect("a server");
    let words: Vec<_> = line.split_once("OWNS ").unwrap().1.split(' ').collect();
    let [tag, pid, state] = words[..] else {
        panic!("{line}")
    };
    match way {
        "kill" => {
            assert!(Path::new(&format!("/proc/{pid}")).exists());
            assert!(processes(tag).len() >= 3, "server, daemon, sleeper");
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9));
        }
        _ => {
            assert!(!child.wait().unwrap().success());
        }
    }
    eventually("all processes gone", || processes(tag).is_empty()).await;
    eventually("the state directory gone", || !Path::new(state).exists()).await;
}

macro_rules! ways {
    ($($test:ident: $way:literal),* $(,)?) => {$(
        #[test]
        fn $test() {
            match std::env::var(ROLE) {
                Ok(way) => owner(&way),
                Err(_) => tokio::runtime::Runtime::new()
                    .unwrap()
                    .block_on(leaves_nothing(stringify!($test), $way)),
            }
        }
    )*};
}

ways! {
    a_killed_owner: "kill",
    an_owner_that_exits: "exit",
    an_owner_that_aborts: "abort",
    an_owner_that_panics: "panic",
}

#[tokio::test]
async fn a_killed_keeper_takes_the_server_along() {
    let stand_in = StandIn::new().await;
    let server = stand_in.builder("daemon").start().await.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let parent: i32 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let mut status = server.status();
    let keeper = rustix::process::Pid::from_raw(parent).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
    status
        .wait_for(|status| matches!(status, oh_process::Status::Exited(_)))
        .await
        .unwrap();
    // What forgot its environment is beyond the last resort; everything else is gone.
    let left: Vec<_> = stand_in.processes();
    let forgetful = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| environ.is_empty())
    };
    assert!(left.iter().all(forgetful), "{left:?}");
    for pid in left {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}
