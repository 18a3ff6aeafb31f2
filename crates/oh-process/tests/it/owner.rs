//! The owner ends in ways that run no code. Nothing of its server is left.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

use super::common::{StandIn, again, eventually, processes};
use oh_process::{
    AttachedServer, Environment, LocalServer, LocalServerBuilder, RestartPolicy, Status,
};

const ROLE: &str = "OH_TEST_OWNER";
/// In the owner's directory, which is not that of its keeper.
const CONNECTION: &str = "server.json";

/// Child process: starts a server, prints its ids, and ends in the given way.
fn owner(way: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let stand_in = StandIn::new().await;
        let builder = stand_in.builder("daemon").connection_file(CONNECTION);
        let server = builder.start().await.unwrap();
        println!(
            "OWNS {} {} {}",
            stand_in.tag,
            server.pid(),
            server.state_dir().display()
        );
        // Destructors would clean up, but none of these ways runs them.
        match way {
            "exit" => std::process::exit(3),
            "abort" => std::process::abort(),
            "panic" => panic!("as requested"),
            _ => std::future::pending::<()>().await,
        }
    });
}

/// Runs this test again as an owner, waits for its server, and ends it in one way.
async fn leaves_nothing(test: &str, way: &str) {
    // The stand-in belongs to the test, so it stays when the owner ends.
    let place = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &again(module_path!(), test)])
        .env(ROLE, way)
        .env("TMPDIR", place.path())
        .current_dir(place.path())
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
            let other = AttachedServer::from_file(place.path().join(CONNECTION)).unwrap();
            other.await.unwrap();
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9));
        }
        _ => {
            assert!(!child.wait().unwrap().success());
        }
    }
    eventually("all processes gone", || processes(tag).is_empty()).await;
    eventually("the state directory gone", || !Path::new(state).exists()).await;
    let connection = || place.path().join(CONNECTION).exists();
    eventually("the connection file gone", || !connection()).await;
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

/// Starts owners of servers that all run from this process's stand-in.
struct Owners {
    stand_in: StandIn,
    /// The owners' temporary directory.
    scratch: std::path::PathBuf,
}

const VENV: &str = "OH_TEST_VENV";
const TAG: &str = "OH_TEST_TAG";
const STATE: &str = "OH_TEST_STATE";

impl Owners {
    async fn new(scratch: &str) -> Self {
        let stand_in = StandIn::new().await;
        let scratch = stand_in.directory.path().join(scratch);
        std::fs::create_dir(&scratch).unwrap();
        Self { stand_in, scratch }
    }

    fn state(&self) -> std::path::PathBuf {
        self.stand_in.directory.path().join("state")
    }

    /// Runs this test again as an owner. Returns its process and the line that it prints when it
    /// has reached the state of its role.
    fn start(&self, test: &str, role: &str) -> (std::process::Child, String) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &again(module_path!(), test)])
            .env(ROLE, role)
            .env(VENV, self.stand_in.directory.path().join("venv"))
            .env(TAG, &self.stand_in.tag)
            .env(STATE, self.state())
            .env("TMPDIR", &self.scratch)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains("HERE"))
            .expect("an owner");
        // Keep reading: a closed pipe would end the owner.
        std::thread::spawn(move || lines.count());
        (child, line)
    }

    /// Returns the processes and directories left by all owners and their servers. The owners
    /// themselves have the tag as well, and must be gone.
    fn left(&self) -> (Vec<u32>, Vec<std::ffi::OsString>) {
        let entries = std::fs::read_dir(&self.scratch).unwrap().flatten();
        (
            self.stand_in.processes(),
            entries.map(|entry| entry.file_name()).collect(),
        )
    }

    async fn none_left(&self, what: &str) {
        eventually(what, || {
            let (processes, files) = self.left();
            processes.is_empty() && files.is_empty()
        })
        .await;
    }
}

/// Acts as an owner if this process is the child.
async fn plays(mode: &str, change: impl FnOnce(LocalServerBuilder) -> LocalServerBuilder) -> bool {
    let Ok(role) = std::env::var(ROLE) else {
        return false;
    };
    let environment = Environment::at(std::env::var(VENV).unwrap()).await.unwrap();
    let builder = LocalServer::builder()
        .environment(environment)
        .env("STAND_IN", mode)
        .env("TAG", std::env::var(TAG).unwrap());
    if role == "early" {
        println!("HERE");
    }
    let server = change(builder).start().await.unwrap();
    if role == "exited" || role == "restarting" {
        super::common::kill(server.pid());
        let ended = |status: &Status| !matches!(status, Status::Ready);
        server.status().wait_for(ended).await.unwrap();
    }
    if role != "early" {
        println!("HERE {}", server.pid());
    }
    std::future::pending::<()>().await;
    true
}

fn end(mut child: std::process::Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn an_owner_killed_in_the_first_milliseconds_leaves_nothing() {
    if plays("daemon", |builder| builder).await {
        return;
    }
    let owners = Owners::new("scratch").await;
    let test = "an_owner_killed_in_the_first_milliseconds_leaves_nothing";
    for after in (0..60).step_by(3) {
        let (child, _) = owners.start(test, "early");
        // Spread over the start: nothing may be left at any moment.
        std::thread::sleep(std::time::Duration::from_millis(after));
        end(child);
        owners.none_left(&format!("gone after {after} ms")).await;
    }
}

#[tokio::test]
async fn a_long_temporary_directory_leaves_nothing_elsewhere() {
    if plays("daemon", |builder| builder).await {
        return;
    }
    let owners = Owners::new(&"long".repeat(25)).await;
    let test = "a_long_temporary_directory_leaves_nothing_elsewhere";
    let (child, line) = owners.start(test, "kill");
    let pid = line.rsplit(' ').next().unwrap();
    let environ = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let mut variables = environ.split('\0');
    let tmux = variables
        .find_map(|one| one.strip_prefix("TMUX_TMPDIR="))
        .unwrap();
    let tmux = Path::new(tmux);
    assert!(tmux.is_dir() && !tmux.starts_with(&owners.scratch));
    end(child);
    owners.none_left("the owner's").await;
    eventually("the short directory gone", || !tmux.exists()).await;
}

#[tokio::test]
async fn an_owner_killed_after_its_server_leaves_nothing() {
    let again = RestartPolicy::on_failure(1).delays(
        std::time::Duration::from_secs(600),
        std::time::Duration::from_secs(600),
    );
    let policy = |builder: LocalServerBuilder| match std::env::var(ROLE).as_deref() {
        Ok("restarting") => builder.restart(again),
        _ => builder,
    };
    if plays("", policy).await {
        return;
    }
    let owners = Owners::new("scratch").await;
    let test = "an_owner_killed_after_its_server_leaves_nothing";
    for role in ["exited", "restarting"] {
        let (child, _) = owners.start(test, role);
        assert_ne!(owners.left().1, Vec::<std::ffi::OsString>::new());
        end(child);
        owners.none_left(role).await;
    }
}

#[tokio::test]
async fn a_server_with_kept_state_shuts_down_cleanly_after_its_owner_was_killed() {
    let said = std::env::var_os(STATE).map(|state| Path::new(&state).with_file_name("said"));
    let mode = format!("graceful:{}", said.unwrap_or_default().display());
    if plays(&mode, |builder| {
        builder.state_dir(std::env::var_os(STATE).unwrap())
    })
    .await
    {
        return;
    }
    let owners = Owners::new("scratch").await;
    let test = "a_server_with_kept_state_shuts_down_cleanly_after_its_owner_was_killed";
    let (child, _) = owners.start(test, "kill");
    end(child);
    owners.none_left("the orderly end").await;
    let said = owners.state().with_file_name("said");
    assert_eq!(std::fs::read_to_string(said).unwrap(), "paused");
    assert!(owners.state().join("conversations").is_dir());
}

#[tokio::test]
async fn a_state_directory_stays_locked_until_the_last_process_is_gone() {
    let grace = std::time::Duration::from_millis(700);
    let change = |builder: LocalServerBuilder| {
        let state = std::env::var_os(STATE).unwrap();
        builder.state_dir(state).orphan_grace(grace)
    };
    if plays("stubborn", change).await {
        return;
    }
    let owners = Owners::new("scratch").await;
    let test = "a_state_directory_stays_locked_until_the_last_process_is_gone";
    let (child, line) = owners.start(test, "kill");
    let server = line.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    let lock = std::fs::File::open(owners.state().join("lock")).unwrap();
    assert!(lock.try_lock().is_err());
    end(child);
    let mut refused = 0;
    eventually("free", || {
        let free = lock.try_lock().is_ok();
        // Checked after the lock: a free lock means that no process is left.
        let alive = owners.stand_in.processes().contains(&server);
        assert!(!(free && alive), "free while its server still runs");
        refused += u32::from(!free && alive);
        free
    })
    .await;
    assert!(refused > 0, "the server outlived its owner for a while");
}

/// Returns a field of `/proc/PID/stat` behind the name: 0 is the state, 1 the parent.
fn stat(pid: u32, field: usize) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit(')').next().unwrap();
    rest.split_whitespace().nth(field).unwrap().to_owned()
}

/// The runtime's only thread for blocking work is busy, so a sweep that runs there has to wait. A
/// sweep on the thread that runs the tasks would not wait, but block all other tasks.
#[test]
fn a_sweep_does_not_run_on_the_thread_that_runs_tasks() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let stand_in = StandIn::new().await;
        let server = stand_in.builder("").start().await.unwrap();
        let keeper: u32 = stat(server.pid(), 1).parse().unwrap();
        let environ = std::fs::read_to_string(format!("/proc/{keeper}/environ")).unwrap();
        let mark = |variable: &str| variable.starts_with("OPENHANDS_RS_OWNED=");
        let mark = environ.split('\0').find(|v| mark(v)).unwrap();
        // A process that only the sweep kills.
        let (name, value) = mark.split_once('=').unwrap();
        let mut marked = Command::new("sleep")
            .arg("600")
            .env(name, value)
            .spawn()
            .unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (busy, is_busy) = tokio::sync::oneshot::channel();
        let blocker = tokio::task::spawn_blocking(move || {
            busy.send(()).unwrap();
            released.recv().unwrap();
        });
        is_busy.await.unwrap();

        let mut status = server.status();
        super::common::kill(keeper);
        eventually("the keeper's end", || stat(keeper, 0) == "Z").await;
        // The end of a later connection is reported after the end of the keeper's.
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        drop(theirs);
        ours.readable().await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let ended = matches!(server.status().current(), Status::Exited(_));
        let killed = marked.try_wait().unwrap();
        release.send(()).unwrap();
        blocker.await.unwrap();
        status
            .wait_for(|status| matches!(status, Status::Exited(_)))
            .await
            .unwrap();
        assert_eq!(marked.wait().unwrap().signal(), Some(9));
        assert!(!ended && killed.is_none(), "the sweep did not wait");
        drop(server);
        assert_eq!(stand_in.processes(), Vec::<u32>::new());
    });
}

/// As with a server in a `static` that several tests share, each with a separate runtime.
#[test]
fn a_server_outlives_the_runtime_that_started_it() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let (stand_in, server) = first.block_on(async {
        let stand_in = StandIn::new().await;
        let server = stand_in.builder("").start().await.unwrap();
        assert!(server.client().is_alive().await);
        (stand_in, server)
    });
    drop(first);
    let second = runtime();
    assert!(second.block_on(server.client().is_alive()));
    drop(server);
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_killed_keeper_ends_its_server() {
    let stand_in = StandIn::new().await;
    let server = stand_in.builder("daemon").start().await.unwrap();
    let mut status = server.status();
    super::common::kill(stat(server.pid(), 1).parse().unwrap());
    status
        .wait_for(|status| matches!(status, Status::Exited(_)))
        .await
        .unwrap();
    // A process that cleared its environment cannot be found by the sweep; everything else is gone.
    stand_in.end_forgetful();
}
