//! Environments are created once by the first process, never left incomplete, and reused without
//! network access.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::common::{again, eventually, processes, python};
use oh_process::{ErrorKind, Origin, Progress, Provisioner};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const ROLE: &str = "OH_TEST_MAKER";
const NAME: &str = "server-1.58.2-py3.13.1";

/// A cache, and an interpreter with a scripted "installation".
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
        self.lines("installs")
    }

    fn cache(&self) -> PathBuf {
        self.place.path().join("cache")
    }

    /// Returns the link to the environment.
    fn environment(&self) -> PathBuf {
        self.cache().join(NAME)
    }

    /// Returns the directory of the current environment.
    fn directory(&self) -> PathBuf {
        self.environment().canonicalize().unwrap()
    }

    fn lines(&self, file: &str) -> usize {
        let log = fs::read_to_string(self.place.path().join(file));
        log.map_or(0, |text| text.lines().count())
    }

    fn provisioner(&self) -> Provisioner {
        provisioner(self.place.path())
    }

    /// Returns the entries of the cache, except locks.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cache()).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".lock")).collect();
        names.sort();
        names
    }

    /// Asserts that the cache contains one environment and nothing else.
    fn assert_only_one_environment_is_left(&self) {
        let directory = self.directory().file_name().unwrap().to_owned();
        assert_eq!(self.left(), [NAME, directory.to_str().unwrap()]);
    }

    /// Runs the test of this name in a child process, which creates the environment.
    fn process(&self, test: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &again(module_path!(), test)])
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

type Steps = Arc<Mutex<Vec<Progress>>>;

fn listening(provisioner: Provisioner) -> (Provisioner, Steps) {
    let reported = Steps::default();
    let sink = reported.clone();
    let provisioner = provisioner.on_progress(move |step| sink.lock().unwrap().push(step));
    (provisioner, reported)
}

/// Acts as the child process, if this is one.
async fn role() -> bool {
    let Ok(place) = std::env::var(ROLE) else {
        return false;
    };
    provisioner(Path::new(&place)).provision().await.unwrap();
    true
}

#[tokio::test]
async fn concurrent_provisioners_install_once() {
    if role().await {
        return;
    }
    let maker = Maker::new().await;
    let test = "concurrent_provisioners_install_once";
    // Nobody begins before all have begun to wait.
    fs::create_dir(maker.cache()).unwrap();
    let lock = fs::File::create(maker.cache().join(format!("{NAME}.lock"))).unwrap();
    lock.lock().unwrap();
    let mut others = [maker.process(test), maker.process(test)];
    let (first, reported) = listening(maker.provisioner());
    let waiting = || {
        let reported = reported.lock().unwrap();
        reported
            .iter()
            .filter(|step| **step == Progress::Waiting)
            .count()
    };
    let (one, two, ()) = tokio::join!(first.provision(), first.provision(), async {
        eventually("both wait", || waiting() == 2).await;
        drop(lock);
    });
    assert_eq!(one.unwrap().server_version(), "1.58.2");
    two.unwrap();
    for other in &mut others {
        assert!(other.wait().unwrap().success());
    }
    assert_eq!(maker.installs(), 1);
    maker.assert_only_one_environment_is_left();
}

#[tokio::test]
async fn a_cache_is_not_writable_by_others() {
    if role().await {
        return;
    }
    let maker = Maker::new().await;
    let status = Command::new("sh")
        .args(["-c", "umask 0; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &again(module_path!(), "a_cache_is_not_writable_by_others"),
        ])
        .env(ROLE, maker.place.path())
        .status();
    assert!(status.unwrap().success());
    let everyone = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o002;
    let mut todo = vec![maker.cache()];
    while let Some(path) = todo.pop() {
        assert_eq!(everyone(&path), 0, "{}", path.display());
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap().flatten();
            todo.extend(entries.map(|entry| entry.path()));
        }
    }
    assert_eq!(
        maker.cache().metadata().unwrap().permissions().mode() & 0o022,
        0
    );
}

#[tokio::test]
async fn a_warm_cache_is_used_without_installing() {
    let maker = Maker::new().await;
    let made = maker.provisioner().provision().await.unwrap();
    assert_eq!(made.origin(), Origin::Made);
    // Another installation would fail from now on.
    maker.mode("full");
    let (again, reported) = listening(maker.provisioner());
    let environment = again.provision().await.unwrap();
    assert_eq!(environment.origin(), Origin::Cached);
    assert_eq!(environment.python(), made.python());
    assert_eq!(maker.installs(), 1);
    let reused = Progress::Reused(maker.directory());
    assert!(reported.lock().unwrap().contains(&reused));
    assert_eq!(again.cached().unwrap(), [maker.environment()]);
}

#[tokio::test]
async fn a_damaged_environment_is_replaced() {
    let maker = Maker::new().await;
    // An environment of an earlier version.
    let junk = maker.environment().join("lib/junk");
    fs::create_dir_all(&junk).unwrap();
    for (installs, breaks) in [
        (1, "lib/junk"),
        (2, "bin/python3"),
        (3, "bin/installed"),
        (4, "openhands-rs.complete"),
    ] {
        if installs > 1 {
            fs::remove_file(maker.environment().join(breaks)).unwrap();
        }
        let (provisioner, reported) = listening(maker.provisioner());
        provisioner.provision().await.unwrap();
        assert_eq!(maker.installs(), installs, "{breaks}");
        assert_eq!(maker.environment().join(breaks).exists(), installs > 1);
        let reported = reported.lock().unwrap();
        let rebuilding = |step: &Progress| matches!(step, Progress::Rebuilding(_));
        assert!(reported.iter().any(rebuilding), "{reported:?}");
        maker.assert_only_one_environment_is_left();
    }
}

#[tokio::test]
async fn an_environment_that_cannot_be_checked_is_kept_and_the_reason_is_reported() {
    let maker = Maker::new().await;
    maker.provisioner().provision().await.unwrap();
    let python = maker.directory().join("bin/python3");
    let sound = fs::read(&python).unwrap();
    let unreadable = r#"{"version": [3, 13, 1], "executable": "/x", "venv": true, "server": null,
        "missing": ["sdk"], "unreadable": "[Errno 5] Input/output error: 'site-packages'"}"#;
    let answers = format!("#!/bin/sh\ncat <<'END'\n{unreadable}\nEND\n");
    let cases: [(&[u8], u32, &str); 8] = [
        (b"#!/bin/sh\nkill -9 $$\n", 0o755, "killed by signal 9"),
        (b"#!/bin/sh\nkill -SEGV $$\n", 0o755, "killed by signal 11"),
        (b"#!/bin/sh\nsleep 600\n", 0o755, "did not answer within"),
        (&sound, 0o644, "Permission denied"),
        (b"\x7fELF of another machine", 0o755, "cannot be run"),
        (b"#!/no/such/loader\n", 0o755, "cannot be run"),
        (
            b"#!/bin/sh\necho MemoryError >&2; exit 1\n",
            0o755,
            "MemoryError",
        ),
        (answers.as_bytes(), 0o755, "Input/output error"),
    ];
    let before = maker.left();
    for (content, mode, reason) in cases {
        // Replaced rather than written to: another process may be running it.
        fs::remove_file(&python).unwrap();
        fs::write(&python, content).unwrap();
        fs::set_permissions(&python, PermissionsExt::from_mode(mode)).unwrap();
        let provisioner = maker.provisioner().check_timeout(Duration::from_secs(3));
        let error = provisioner.provision().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CheckFailed, "{reason}: {error}");
        assert!(error.to_string().contains(reason), "{error}");
        let directory = maker.directory();
        assert!(error.to_string().contains(directory.to_str().unwrap()));
        assert_eq!(maker.left(), before, "{reason}");
        assert!(directory.join("bin/installed").exists());
    }
    fs::remove_file(&python).unwrap();
    fs::write(&python, sound).unwrap();
    fs::set_permissions(&python, PermissionsExt::from_mode(0o755)).unwrap();
    let environment = maker.provisioner().provision().await.unwrap();
    assert_eq!(environment.origin(), Origin::Cached);
    assert_eq!(maker.installs(), 1);
    eventually("no process", || processes(maker.tag()).is_empty()).await;
}

#[tokio::test]
async fn users_of_an_environment_keep_it_when_it_is_replaced() {
    let maker = Maker::new().await;
    let used = maker.provisioner().provision().await.unwrap();
    let old = maker.directory();
    fs::remove_file(old.join("bin/installed")).unwrap();
    let new = maker.provisioner().provision().await.unwrap();
    assert_ne!(used.python(), new.python());
    assert!(used.python().exists());
    assert_eq!(maker.left().len(), 3);
    // A clone counts as a user, and so does an environment opened by its path.
    let copy = used.clone();
    drop(used);
    fs::remove_file(maker.directory().join("bin/installed")).unwrap();
    let newest = maker.provisioner().provision().await.unwrap();
    assert!(copy.python().exists() && new.python().exists());
    drop((copy, new));
    // The next provisioner removes unused environments.
    fs::remove_file(maker.directory().join("bin/installed")).unwrap();
    drop(newest);
    maker.provisioner().provision().await.unwrap();
    maker.assert_only_one_environment_is_left();
}

#[tokio::test]
async fn the_next_provisioner_removes_only_the_remains_of_dead_ones() {
    let maker = Maker::new().await;
    let cache = maker.cache();
    let left = |name: &str| cache.join(name);
    for name in [
        "server-1.58.2-py3.13.1.env-0000dead",
        "server-1.2.3.env-0000dead",
        "server-1.2.4.env-0000beef",
        "server-of-mine",
    ] {
        fs::create_dir_all(left(name).join("lib")).unwrap();
    }
    std::os::unix::fs::symlink("server-1.2.3.env-0000dead", left("server-1.2.3.link")).unwrap();
    // An environment that another process is creating.
    let lock = fs::File::create(left("server-1.2.4.lock")).unwrap();
    lock.lock().unwrap();
    maker.provisioner().provision().await.unwrap();
    let directory = maker.directory();
    assert_eq!(
        maker.left(),
        [
            "server-1.2.4.env-0000beef",
            NAME,
            directory.file_name().unwrap().to_str().unwrap(),
            "server-of-mine"
        ]
    );
}

#[tokio::test]
async fn an_environment_whose_server_cannot_be_imported_is_not_finished() {
    let maker = Maker::new().await;
    maker.mode("bad-import");
    let error = maker.provisioner().provision().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Provision);
    assert!(error.to_string().contains("cannot be imported"), "{error}");
    assert!(error.to_string().contains("unexpected keyword argument"));
    assert_eq!(maker.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_disk_is_reported_and_no_partial_environment_is_kept() {
    let maker = Maker::new().await;
    maker.mode("full");
    let error = maker.provisioner().provision().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(
        error
            .log_tail()
            .iter()
            .any(|line| line.contains("Errno 28"))
    );
    assert_eq!(maker.left(), Vec::<String>::new());
    // With free space, the environment is created.
    maker.mode("fine");
    maker.provisioner().provision().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_provisioner_leaves_nothing_and_ends_its_installer() {
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
async fn a_killed_provisioner_leaves_nothing_and_frees_its_lock() {
    if role().await {
        return;
    }
    let maker = Maker::new().await;
    for (mode, file) in [
        ("slow-venv", "venvs"),
        ("slow", "installs"),
        ("slow-import", "imports"),
    ] {
        maker.mode(mode);
        let before = maker.lines(file);
        let mut other = maker.process("a_killed_provisioner_leaves_nothing_and_frees_its_lock");
        eventually(mode, || maker.lines(file) > before).await;
        other.kill().unwrap();
        other.wait().unwrap();
        eventually("the installer's end", || processes(maker.tag()).is_empty()).await;
        eventually("nothing half-made", || maker.left().is_empty()).await;
        assert_eq!(maker.provisioner().cached().unwrap(), Vec::<PathBuf>::new());
    }
    maker.mode("fine");
    let provisioner = maker.provisioner();
    let made = tokio::time::timeout(Duration::from_secs(60), provisioner.provision());
    assert_eq!(made.await.unwrap().unwrap().origin(), Origin::Made);
    maker.assert_only_one_environment_is_left();
}

#[tokio::test]
async fn the_lock_of_a_killed_provisioner_is_held_until_its_installer_ends() {
    if role().await {
        return;
    }
    let maker = Maker::new().await;
    maker.mode("slow");
    let test = "the_lock_of_a_killed_provisioner_is_held_until_its_installer_ends";
    let mut other = maker.process(test);
    eventually("an install", || maker.installs() == 1).await;
    // A stopped keeper can neither end the installer nor release the lock.
    let keepers: Vec<_> = processes(maker.tag())
        .into_iter()
        .filter(|pid| *pid != other.id())
        .collect();
    for pid in &keepers {
        signal(*pid, Signal::STOP);
    }
    other.kill().unwrap();
    other.wait().unwrap();
    let path = maker.cache().join(format!("{NAME}.lock"));
    let lock = fs::File::open(&path).unwrap();
    assert!(lock.try_lock().is_err(), "free while the installer lives");
    for pid in &keepers {
        signal(*pid, Signal::CONT);
    }
    eventually("a free lock", || lock.try_lock().is_ok()).await;
    assert_eq!(maker.left(), Vec::<String>::new());
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(pid, signal);
    }
}

#[tokio::test]
async fn a_provisioner_killed_at_any_moment_leaves_no_usable_remains() {
    if role().await {
        return;
    }
    let maker = Maker::new().await;
    let test = "a_provisioner_killed_at_any_moment_leaves_no_usable_remains";
    for step in 0..12 {
        let mut other = maker.process(test);
        // Each step interrupts at a different point; which point does not matter.
        tokio::time::sleep(Duration::from_millis(step * 40)).await;
        other.kill().unwrap();
        other.wait().unwrap();
        for environment in maker.provisioner().cached().unwrap() {
            assert!(environment.join("bin/installed").exists());
        }
    }
    eventually("the installers' end", || processes(maker.tag()).is_empty()).await;
    let environment = maker.provisioner().provision().await.unwrap();
    assert_eq!(environment.server_version(), "1.58.2");
    if environment.origin() == Origin::Cached {
        // One provisioner may have finished. The next one that creates an environment cleans up.
        fs::remove_file(maker.environment()).unwrap();
        drop(environment);
        maker.provisioner().provision().await.unwrap();
    }
    maker.assert_only_one_environment_is_left();
}

/// Runs this test again, alone, with only `place` on its PATH and as its HOME. Returns its output.
fn bare(test: &str, place: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &again(module_path!(), test)])
        .env_clear()
        .env(PLACE, place)
        .env("PATH", place)
        .env("HOME", place)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const PLACE: &str = "OH_TEST_BARE";

/// Writes a program into `place`.
fn program(place: &Path, name: &str, text: &str) -> PathBuf {
    let path = place.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn facts(path: &Path, version: &str) -> String {
    format!(
        r#"{{"version": {version}, "executable": "{}", "venv": true, "server": null, "missing": []}}"#,
        path.display()
    )
}

#[tokio::test]
async fn interpreters_are_checked_concurrently() {
    let test = "interpreters_are_checked_concurrently";
    if std::env::var(PLACE).is_ok() {
        let provisioner = Provisioner::new().check_timeout(Duration::from_secs(20));
        for candidate in provisioner.candidates().await {
            println!("CANDIDATE {candidate}");
        }
        return;
    }
    let place = tempfile::tempdir().unwrap();
    // Each interpreter answers only after all have been started.
    let names = [
        "python3.13",
        "python3.12",
        "python3.14",
        "python3",
        "python",
    ];
    for name in names {
        let path = place.path().join(name);
        let here = place.path().display();
        let wait = names.map(|name| format!("[ -e {here}/{name}.asked ] || done=no"));
        let text = format!(
            "#!/bin/sh\n: >$0.asked\nwhile :; do\ndone=yes\n{}\n[ $done = no ] || break\n\
             /bin/sleep 0.05\ndone\necho '{}'\n",
            wait.join("\n"),
            facts(&path, "[3, 13, 1]")
        );
        program(place.path(), name, &text);
    }
    let said = bare(test, place.path());
    assert_eq!(
        said.matches("3.13.1): suitable").count(),
        names.len(),
        "{said}"
    );
}

#[tokio::test]
async fn an_interpreter_that_cannot_run_now_is_not_reported_as_missing() {
    let test = "an_interpreter_that_cannot_run_now_is_not_reported_as_missing";
    if let Ok(place) = std::env::var(PLACE) {
        let provisioner = Provisioner::new().cache_dir(Path::new(&place).join("cache"));
        let error = provisioner.provision().await.unwrap_err();
        println!("KIND {:?} {error}", error.kind());
        return;
    }
    let place = tempfile::tempdir().unwrap();
    program(place.path(), "python3", "#!/bin/sh\nkill -9 $$\n");
    let said = bare(test, place.path());
    assert!(said.contains("KIND CheckFailed"), "{said}");
    assert!(said.contains("killed by signal 9"), "{said}");
}

#[tokio::test]
async fn rejected_interpreters_are_listed_if_none_is_suitable() {
    let test = "rejected_interpreters_are_listed_if_none_is_suitable";
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
        let facts = facts(&place.path().join(name), version);
        program(place.path(), name, &format!("#!/bin/sh\necho '{facts}'\n"));
    }
    let said = bare(test, place.path());
    assert!(said.contains("KIND NoInterpreter"), "{said}");
    for refused in ["python3.12", "python3"] {
        let path = place.path().join(refused);
        let line = format!("rejected {}", path.display());
        assert!(said.contains(&line), "{line}: {said}");
    }
    assert!(said.contains("3.11.7") && said.contains("older than 3.12"));
}

#[tokio::test]
async fn a_cache_directory_that_is_not_utf_8_is_rejected_by_name() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let place = tempfile::tempdir().unwrap();
    let cache = place.path().join(OsStr::from_bytes(b"cache-\xff"));
    let error = Provisioner::new().cache_dir(&cache).provision().await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("OPENHANDS_CACHE_DIR"), "{error}");
    assert!(!cache.exists());
}
