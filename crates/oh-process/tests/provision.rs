//! Environments made once, by whoever comes first; never half; used again without a network.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{eventually, processes, python};
use oh_process::{ErrorKind, Origin, Progress, Provisioner};
use tempfile::TempDir;

const ROLE: &str = "OH_TEST_MAKER";

/// A cache, and an interpreter that "installs" as told.
struct Maker {
    place: TempDir,
}

impl Maker {
    async fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let real = python().await;
        let script = include_str!("common/python.sh")
            .replace("PLACE", place.path().to_str().unwrap())
            .replace("REAL", real.to_str().unwrap());
        let path = place.path().join("python3");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let maker = Self { place };
        maker.mode("fine");
        maker
    }

    fn mode(&self, mode: &str) {
        fs::write(self.place.path().join("mode"), mode).unwrap();
    }

    fn installs(&self) -> usize {
        let log = fs::read_to_string(self.place.path().join("installs"));
        log.map_or(0, |text| text.lines().count())
    }

    fn cache(&self) -> PathBuf {
        self.place.path().join("cache")
    }

    fn environment(&self) -> PathBuf {
        self.cache().join("server-1.58.0-py3.13.1")
    }

    fn provisioner(&self) -> Provisioner {
        provisioner(self.place.path())
    }

    /// What is left in the cache, the lock aside.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cache()).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".lock")).collect()
    }

    /// The test of this name in a process of its own, which then makes the environment.
    fn process(&self, test: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .env(ROLE, self.place.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn tag(&self) -> &str {
        self.place.path().to_str().unwrap()
    }
}

fn provisioner(place: &Path) -> Provisioner {
    Provisioner::new()
        .use_uv(false)
        .python(place.join("python3"))
        .cache_dir(place.join("cache"))
}

type Told = Arc<Mutex<Vec<Progress>>>;

fn listening(provisioner: Provisioner) -> (Provisioner, Told) {
    let told = Told::default();
    let sink = told.clone();
    let provisioner = provisioner.on_progress(move |step| sink.lock().unwrap().push(step));
    (provisioner, told)
}

/// Plays the other process, when this is it.
async fn role() -> bool {
    let Ok(place) = std::env::var(ROLE) else {
        return false;
    };
    provisioner(Path::new(&place)).provision().await.unwrap();
    true
}

#[tokio::test]
async fn makers_in_several_processes_and_tasks_install_once() {
    if role().await {
        return;
    }
    let maker = Maker::new().await;
    let test = "makers_in_several_processes_and_tasks_install_once";
    let mut others = [maker.process(test), maker.process(test)];
    let (first, told) = listening(maker.provisioner());
    let (one, two) = tokio::join!(first.provision(), first.provision());
    assert_eq!(one.unwrap().server_version(), "1.58.0");
    two.unwrap();
    for other in &mut others {
        assert!(other.wait().unwrap().success());
    }
    assert_eq!(maker.installs(), 1);
    let told = told.lock().unwrap();
    assert!(told.contains(&Progress::Waiting), "{told:?}");
    assert_eq!(maker.left(), ["server-1.58.0-py3.13.1"]);
}

#[tokio::test]
async fn a_warm_cache_is_used_without_installing() {
    let maker = Maker::new().await;
    let made = maker.provisioner().provision().await.unwrap();
    assert_eq!(made.origin(), Origin::Made);
    // Whoever installs now fails.
    maker.mode("full");
    let (again, told) = listening(maker.provisioner());
    let environment = again.provision().await.unwrap();
    assert_eq!(environment.origin(), Origin::Cached);
    assert_eq!(environment.python(), made.python());
    assert_eq!(maker.installs(), 1);
    let reused = Progress::Reused(maker.environment());
    assert!(told.lock().unwrap().contains(&reused));
    assert_eq!(again.cached().unwrap(), [maker.environment()]);
}

#[tokio::test]
async fn what_is_half_made_or_broken_is_made_anew() {
    let maker = Maker::new().await;
    let junk = maker.environment().join("lib/junk");
    fs::create_dir_all(&junk).unwrap();
    for (installs, breaks) in [(1, "lib/junk"), (2, "bin/python3"), (3, "bin/installed")] {
        let broken = maker.environment().join(breaks);
        if installs > 1 {
            fs::remove_file(&broken).unwrap();
        }
        let (provisioner, told) = listening(maker.provisioner());
        provisioner.provision().await.unwrap();
        assert_eq!(maker.installs(), installs, "{breaks}");
        assert_eq!(broken.exists(), installs > 1);
        let told = told.lock().unwrap();
        let rebuilding = |step: &Progress| matches!(step, Progress::Rebuilding(_));
        assert!(told.iter().any(rebuilding), "{told:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_half_made_is_kept() {
    let maker = Maker::new().await;
    maker.mode("full");
    let error = maker.provisioner().provision().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(
        error
            .log_tail()
            .iter()
            .any(|line| line.contains("Errno 28"))
    );
    assert_eq!(maker.left(), Vec::<String>::new());
    // With room again, it is made.
    maker.mode("fine");
    maker.provisioner().provision().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_maker_leaves_nothing_and_ends_its_installer() {
    let maker = Maker::new().await;
    maker.mode("slow");
    let provisioner = maker.provisioner();
    tokio::select! {
        _ = provisioner.provision() => unreachable!("it sleeps"),
        () = eventually("an install", || maker.installs() == 1) => {}
    }
    assert_eq!(maker.left(), Vec::<String>::new());
    eventually("the installer's end", || processes(maker.tag()).is_empty()).await;
}

#[tokio::test]
async fn a_maker_that_is_killed_leaves_nothing_and_frees_its_lock() {
    if role().await {
        return;
    }
    let maker = Maker::new().await;
    maker.mode("slow");
    let mut other = maker.process("a_maker_that_is_killed_leaves_nothing_and_frees_its_lock");
    eventually("an install", || maker.installs() == 1).await;
    other.kill().unwrap();
    other.wait().unwrap();
    eventually("the installer's end", || processes(maker.tag()).is_empty()).await;
    eventually("nothing half-made", || maker.left().is_empty()).await;
    maker.mode("fine");
    let provisioner = maker.provisioner();
    let made = tokio::time::timeout(Duration::from_secs(60), provisioner.provision());
    assert_eq!(made.await.unwrap().unwrap().origin(), Origin::Made);
}

#[tokio::test]
async fn without_a_fit_interpreter_the_refused_are_listed() {
    const PLACE: &str = "OH_TEST_BARE";
    if let Ok(place) = std::env::var(PLACE) {
        let provisioner = Provisioner::new()
            .use_uv(false)
            .cache_dir(Path::new(&place).join("cache"));
        let error = provisioner.provision().await.unwrap_err();
        println!("KIND {:?} {error}", error.kind());
        return;
    }
    let place = tempfile::tempdir().unwrap();
    for (name, version) in [("python3.12", "[3, 11, 7]"), ("python3", "[2, 7, 18]")] {
        let path = place.path().join(name);
        let facts = format!(
            r#"{{"version": {version}, "executable": "{}", "venv": true, "server": null, "missing": []}}"#,
            path.display()
        );
        fs::write(&path, format!("#!/bin/sh\necho '{facts}'\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("without_a_fit_interpreter_the_refused_are_listed")
        .env_clear()
        .env(PLACE, place.path())
        .env("PATH", place.path())
        .env("HOME", place.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("KIND NoInterpreter"), "{said}");
    for refused in ["python3.12", "python3"] {
        let path = place.path().join(refused);
        let line = format!("refused {}", path.display());
        assert!(said.contains(&line), "{line}: {said}");
    }
    assert!(said.contains("3.11.7") && said.contains("older than 3.12"));
}
