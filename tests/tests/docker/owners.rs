//! Processes that own containers: this program, started again for one test.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use openhands::{process::WarmPool, sandbox::DockerServerBuilder, testkit::Chance};
use openhands_tests::containers::{RUN_VARIABLE, eventually, output, run};

use super::images::stand_in_image;

pub(crate) const ROLE: &str = "OH_TEST_OWNER";

/// Returns the role of this process, if it is an owner.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// An owner. Killed when this value is dropped.
pub(crate) struct Owner(Child);

impl Owner {
    /// Runs a test again, as an owner with this role.
    pub(crate) fn start(test: &str, role: &str) -> Self {
        stand_in_image();
        Self::start_on(&std::env::var("DOCKER_HOST").unwrap(), test, role)
    }

    /// Runs a test again, as an owner on the engine at this address.
    pub(crate) fn start_on(engine: &str, test: &str, role: &str) -> Self {
        Self::start_with(&[("DOCKER_HOST", engine)], test, role)
    }

    /// Runs a test again, as an owner with these variables, and without `DOCKER_HOST` otherwise.
    pub(crate) fn start_with(variables: &[(&str, &str)], test: &str, role: &str) -> Self {
        // A job in the background of a shell ignores SIGINT, and its children inherit that.
        let child = Command::new("env")
            .arg("--default-signal=INT")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .env_remove("DOCKER_HOST")
            .envs(variables.iter().copied())
            .env(ROLE, role)
            .env(RUN_VARIABLE, run())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        Self(child.unwrap())
    }

    /// Waits until the owner prints this word.
    pub(crate) fn prints(mut self, word: &str) -> Self {
        let mut lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let found = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains(word));
        assert!(found, "the owner never printed {word}");
        // Keep reading: a closed pipe would end the owner.
        thread::spawn(move || lines.count());
        self
    }

    /// Sends a signal, such as `-INT`.
    pub(crate) fn signal(&self, signal: &str) {
        output(Command::new("kill").args([signal, &self.0.id().to_string()]));
    }

    /// Waits for the end. Returns whether the owner succeeded.
    pub(crate) fn wait(mut self) -> bool {
        self.0.wait().unwrap().success()
    }

    /// Kills the owner, and waits until its keepers have ended too. They end when the engine has
    /// removed the containers, also those that it was creating.
    pub(crate) fn kill(self) {
        let keepers = self.kill_only();
        eventually("the end of the keepers", || !keepers.run());
    }

    /// Kills the owner only.
    pub(crate) fn kill_only(mut self) -> Keepers {
        let keepers = Keepers(children(self.0.id()));
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        keepers
    }
}

/// The processes that an owner has started.
pub(crate) struct Keepers(Vec<u32>);

impl Keepers {
    /// Returns whether one of them runs.
    pub(crate) fn run(&self) -> bool {
        self.0.iter().any(|pid| runs(*pid))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ended = (self.0.kill(), self.0.wait());
    }
}

/// Returns the processes that this one has started, directly or not.
fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let lists = tasks
        .into_iter()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let mut all: Vec<u32> = lists
        .flat_map(|list| {
            let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
            pids.collect::<Vec<u32>>()
        })
        .collect();
    for child in all.clone() {
        all.extend(children(child));
    }
    all
}

fn runs(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // A process that has ended, but that its parent has not noticed, is a zombie.
    status
        .rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}

/// Acts as an owner that ends in the given way.
pub(crate) fn act(builder: DockerServerBuilder, way: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        println!("BEGINS");
        let server = builder.start().await.unwrap();
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

/// Acts as an owner of a pool that ends in the given way, while one server is in use, and the pool
/// has a spare or is starting one.
pub(crate) fn act_with_pool(builder: DockerServerBuilder, way: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        println!("BEGINS");
        let pool = WarmPool::start(2, builder);
        let server = pool.acquire().await.unwrap();
        if way != "refilling" {
            while pool.ready() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        println!("OWNS {}", server.id());
        match way {
            "panic" => panic!("as requested"),
            _ => std::future::pending::<()>().await,
        }
    });
}

/// Returns a source of random moments. Prints its seed, which `OH_SEED` sets.
pub(crate) fn chance() -> Chance {
    let given = std::env::var("OH_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    println!("OH_SEED={seed}");
    Chance::new(seed)
}
