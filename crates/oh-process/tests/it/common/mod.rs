//! A stand-in for the server in an environment that looks like a real one, and helpers that count
//! leftover processes.

#![allow(
    dead_code,
    clippy::expect_used,
    reason = "each test binary uses a part, and helpers fail as tests do"
)]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use oh_process::{
    AttachedServer, Environment, LocalServer, LocalServerBuilder, Provisioner, Startup,
    TemplateServer,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// An environment whose `openhands.agent_server` is the stand-in.
pub(crate) struct StandIn {
    pub(crate) environment: Environment,
    pub(crate) directory: TempDir,
    pub(crate) tag: String,
}

/// Returns the name by which a process that runs this program again finds a test of a module.
pub(crate) fn again(module: &str, test: &str) -> String {
    let (_, module) = module.split_once("::").expect("a module of this crate");
    format!("{module}::{test}")
}

/// Returns a suitable interpreter of this machine.
///
/// Looking for one runs every interpreter of the machine. Each test is a process, so the path is
/// kept in a file for the others.
pub(crate) async fn python() -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let kept = fs::read_to_string(&file).unwrap_or_default();
    if Path::new(&kept).is_file() {
        return kept.into();
    }
    let python = search().await;
    let mut new = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    write!(new, "{}", python.display()).expect("a file");
    new.persist(file).expect("a file");
    python
}

async fn search() -> PathBuf {
    let candidates = Provisioner::new().candidates().await;
    let fit = candidates
        .into_iter()
        .find(|candidate| candidate.rejected.is_none());
    fit.expect("Python 3.12 or newer").path
}

/// Creates a minimal virtual environment. `packages` have metadata and can be imported.
pub(crate) fn venv(python: &Path, root: &Path, packages: &[&str]) {
    let made = Command::new(python)
        .args(["-I", "-m", "venv", "--without-pip"])
        .arg(root)
        .status();
    assert!(made.expect("python").success());
    let site = site_packages(root);
    for package in packages {
        let module = site.join("openhands").join(package.replace('-', "_"));
        fs::create_dir_all(&module).expect("a package");
        fs::write(module.join("__init__.py"), "").expect("a file");
        let info = site.join(format!(
            "openhands_{}-1.58.2.dist-info",
            package.replace('-', "_")
        ));
        fs::create_dir_all(&info).expect("metadata");
        let metadata =
            format!("Metadata-Version: 2.1\nName: openhands-{package}\nVersion: 1.58.2\n");
        fs::write(info.join("METADATA"), metadata).expect("metadata");
    }
    let main = site.join("openhands/agent_server/__main__.py");
    if packages.contains(&"agent-server") {
        fs::write(main, include_str!("server.py")).expect("the stand-in");
    }
}

/// Returns the package directory of a virtual environment.
pub(crate) fn site_packages(root: &Path) -> PathBuf {
    let lib = fs::read_dir(root.join("lib"))
        .expect("lib")
        .next()
        .expect("a version");
    lib.expect("an entry").path().join("site-packages")
}

/// Sends SIGKILL to a process that may have just ended.
pub(crate) fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    let kill = |pid| kill_process(pid, Signal::KILL);
    let _may_be_gone = pid.map(kill);
}

impl StandIn {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("venv");
        venv(&python().await, &root, &["agent-server", "sdk", "tools"]);
        Self {
            environment: Environment::at(&root).await.expect("an environment"),
            directory,
            tag: uuid::Uuid::new_v4().simple().to_string(),
        }
    }

    /// Returns a builder for a stand-in with the behaviour `mode`.
    pub(crate) fn builder(&self, mode: &str) -> LocalServerBuilder {
        LocalServer::builder()
            .environment(self.environment.clone())
            .env("STAND_IN", mode)
            .env("TAG", &self.tag)
            .ready_within(Duration::from_secs(120))
    }

    /// Returns the servers and the processes that they have started: those with this stand-in's
    /// tag in their environment or arguments.
    pub(crate) fn servers(&self) -> Vec<u32> {
        processes(&self.tag)
    }

    /// Returns [`servers`](Self::servers) and the keepers that this stand-in's interpreter runs. A
    /// keeper gets no variable that could hold the tag.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = self.servers();
        let root = self.directory.path().display().to_string();
        for pid in processes(&root) {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments);
            let keeper = arguments.contains("\0-I\0-S\0-c\0") || arguments.contains("(keeper of");
            if keeper && arguments.starts_with(&root) && !found.contains(&pid) {
                found.push(pid);
            }
        }
        found
    }

    /// Ends the processes that a killed keeper could not find, because they cleared their
    /// environment. Panics if another process is left.
    pub(crate) fn end_forgetful(&self) {
        let left = self.processes();
        let forgetful = |pid: &u32| {
            // Empty, too, if the process has just ended.
            let environ = fs::read(format!("/proc/{pid}/environ"));
            environ.unwrap_or_default().is_empty()
        };
        assert!(left.iter().all(forgetful), "{left:?}");
        left.into_iter().for_each(kill);
    }
}

/// Returns the processes, except zombies, with `tag` in their environment or arguments.
pub(crate) fn processes(tag: &str) -> Vec<u32> {
    let holds = |path: PathBuf| {
        fs::read(path)
            .is_ok_and(|bytes| bytes.windows(tag.len()).any(|part| part == tag.as_bytes()))
    };
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            holds(format!("/proc/{pid}/environ").into())
                || holds(format!("/proc/{pid}/cmdline").into())
        })
        .collect()
}

/// Returns the number of direct children of this process, including zombies.
pub(crate) fn children() -> usize {
    let me = std::process::id().to_string();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| {
            let rest = stat.rsplit(')').next().unwrap_or_default();
            rest.split_whitespace().nth(1) == Some(me.as_str())
        })
        .count()
}

/// Returns the number of open descriptors of this process.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// Waits until `done` returns true. Panics if this takes unreasonably long.
pub(crate) async fn eventually(what: &str, done: impl FnMut() -> bool) {
    eventually_within(Duration::from_secs(20), what, done).await;
}

/// Waits until `done` returns true. Panics after `limit`.
pub(crate) async fn eventually_within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < limit, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Creates modules that leave a marker when they are imported.
pub(crate) fn plant(directory: &Path, marker: &Path) {
    let code = format!(
        "open({:?}, 'a').write(__file__ + '\\n')\n",
        marker.display()
    );
    fs::create_dir_all(directory.join("openhands/agent_server")).expect("planted");
    for name in [
        "queue.py",
        "uvicorn.py",
        "json.py",
        "sitecustomize.py",
        "usercustomize.py",
        "openhands/__init__.py",
        "openhands/agent_server/__init__.py",
        "openhands/agent_server/__main__.py",
    ] {
        fs::write(directory.join(name), &code).expect("planted");
    }
    fs::write(directory.join("evil.pth"), format!("import os; {code}")).expect("planted");
    fs::write(directory.join(".env"), "PLANTED=yes\n").expect("planted");
}

/// Starts a template of a stand-in.
pub(crate) async fn template(stand_in: &StandIn) -> TemplateServer {
    let template = TemplateServer::builder().environment(stand_in.environment.clone());
    template.start().await.expect("what a test needs")
}

/// Adds a module that the server's `api` imports, and therefore also the template.
pub(crate) fn telltale(stand_in: &StandIn, code: &str) -> PathBuf {
    let site = site_packages(&stand_in.directory.path().join("venv"));
    let api = "import telltale\nraise SystemError('imported')\n";
    fs::write(site.join("openhands/agent_server/api.py"), api).expect("what a test needs");
    fs::write(site.join("telltale.py"), code).expect("what a test needs");
    stand_in.directory.path().join("trigger")
}

pub(crate) fn reason(server: &LocalServer) -> String {
    match server.startup() {
        Startup::Fallback(reason) => reason,
        other => format!("none: {other}"),
    }
}

pub(crate) async fn answers(server: &LocalServer) {
    let client = server.client().clone();
    AttachedServer::attach(client)
        .await
        .expect("what a test needs");
}

pub(crate) fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("what a test needs");
    let rest = stat.rsplit(')').next().expect("what a test needs");
    rest.split_whitespace()
        .nth(1)
        .expect("what a test needs")
        .parse()
        .expect("what a test needs")
}

pub(crate) fn runs(pid: u32) -> bool {
    // Zombies that have not been reaped do not count as running.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(
        stat.rsplit(')')
            .next()
            .expect("what a test needs")
            .trim()
            .chars()
            .next(),
        None | Some('Z')
    )
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid =
        Pid::from_raw(i32::try_from(pid).expect("what a test needs")).expect("what a test needs");
    kill_process(pid, signal).expect("what a test needs");
}

pub(crate) fn seen(file: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(file).expect("what a test needs")).expect("what a test needs")
}
