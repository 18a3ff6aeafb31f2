//! All unusual surroundings of a server at the same time: planted modules, locales, signals,
//! limits, proxies, a slow shell, full or read-only disks. The server works, imports none of the
//! planted modules, and leaves nothing behind.
//!
//! The test runs itself again in new namespaces, with a private /tmp, where every leftover process
//! is visible.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use openhands::{
    Agent, Conversation, LocalServer, WorkspaceExt,
    process::{Environment, ErrorKind, LocalServerBuilder, Provisioner, RestartPolicy, Status},
    protocol::config::Llm,
    testkit::{Script, ScriptedModel},
    workspace,
};
use serde_json::json;
use tokio::time::timeout;

const ROLE: &str = "OH_TEST_SURROUNDINGS";
const TEST: &str = "surroundings::a_server_works_in_hostile_surroundings_and_leaves_nothing";
const LONG: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(30);
/// Private directory in /tmp for the test.
const PLACE: &str = "/tmp/place";

/// Locale variables of the owner, one of each kind that occurs in practice.
const LOCALES: [(&str, &str); 12] = [
    ("LC_ALL", "tr_TR.UTF-8"),
    ("LANG", "C"),
    ("LC_CTYPE", "POSIX"),
    ("LC_TIME", "de_DE.ISO-8859-1"),
    ("LC_NUMERIC", "xx_YY.UTF-8"),
    ("LC_COLLATE", "ja_JP.EUC-JP"),
    ("LC_MONETARY", "zh_CN.GBK"),
    ("LC_MESSAGES", "../../etc/passwd"),
    ("LC_PAPER", ""),
    ("LC_NAME", "UTF-8"),
    ("LC_ADDRESS", "en_US.utf8@euro"),
    ("LANGUAGE", "ru:xx:"),
];

/// Variables of the owner that Python, pip and uv would use.
const VARIABLES: [(&str, &str); 12] = [
    ("PYTHONPATH", "/tmp/place/planted"),
    ("PYTHONHOME", "/nowhere"),
    ("PYTHONSTARTUP", "/tmp/place/planted/queue.py"),
    ("PYTHONUSERBASE", "/tmp/place/planted"),
    ("PYTHONIOENCODING", "latin-1"),
    ("PYTHONOPTIMIZE", "2"),
    ("PYTHONPLATLIBDIR", "planted"),
    ("VIRTUAL_ENV", "/nowhere"),
    ("PIP_INDEX_URL", "http://127.0.0.1:9/simple"),
    ("PIP_TARGET", "/tmp/place/planted"),
    ("UV_INDEX_URL", "http://127.0.0.1:9/simple"),
    ("UV_PYTHON", "/nowhere"),
];

/// Process state that the owner passes on besides its environment.
const STATE: &str = "
import os, resource, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
for number in (1, 2, 3, 10, 12, 13, 15, 17):
    signal.signal(number, signal.SIG_IGN)
os.umask(0)
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 4096))
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
os.dup2(0, 50, inheritable=True)
os.chdir('/tmp/place/planted')
os.execv(sys.argv[1], sys.argv[1:])
";

/// Creates the disks, runs the command in its arguments and stays its parent.
const DISKS: &str = "set -e
mount -t tmpfs -o size=512m,mode=1777 tmpfs /tmp
mkdir -p /tmp/place/full /tmp/place/fixed /tmp/place/planted
mount -t tmpfs -o size=64k tmpfs /tmp/place/full
mount -t tmpfs tmpfs /tmp/place/fixed
cd /tmp/place/fixed && git init -q . && mount -o remount,ro /tmp/place/fixed
cat /dev/zero >/tmp/place/full/file 2>/dev/null || true
cd / && \"$@\"";

#[test]
fn a_server_works_in_hostile_surroundings_and_leaves_nothing() {
    if let Ok(python) = std::env::var(ROLE) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime.unwrap().block_on(inside(Path::new(&python)));
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let environment = runtime.block_on(Provisioner::new().provision()).unwrap();
    let dead = "http://127.0.0.1:9";
    let recorder = TcpListener::bind("127.0.0.1:0").unwrap();
    recorder.set_nonblocking(true).unwrap();
    let recording = format!("http://{}", recorder.local_addr().unwrap());
    let mut command = Command::new("unshare");
    // Root does not need a user namespace for this.
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["sh", "-c", DISKS, "sh"])
        .arg(environment.python())
        .args(["-I", "-c", STATE])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", TEST])
        .env(ROLE, environment.python())
        .env("HOME", format!("{PLACE}/home"))
        .env("TMPDIR", temporary())
        .env("PATH", format!(":.:bin:{}", std::env::var("PATH").unwrap()))
        .env("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        .envs(LOCALES.into_iter().chain(VARIABLES))
        .envs(["HTTP_PROXY", "https_proxy", "ALL_PROXY"].map(|name| (name, dead)))
        .envs(["http_proxy", "HTTPS_PROXY", "all_proxy"].map(|name| (name, &recording)))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .stdin(Stdio::null());
    let output = command.output().expect("`unshare` of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{complaint}\nWhere `unshare` is not permitted, run this test as root, or allow \
         namespaces to users: sysctl kernel.unprivileged_userns_clone=1 \
         kernel.apparmor_restrict_unprivileged_userns=0"
    );
    // No request went to a proxy: neither the model nor the server is behind one.
    let asked = recorder.accept();
    assert!(asked.is_err(), "the recording proxy was asked: {asked:?}");
}

/// Returns a TMPDIR that is too long for the path of a socket.
fn temporary() -> PathBuf {
    Path::new(PLACE).join("t".repeat(60)).join("m".repeat(60))
}

async fn inside(python: &Path) {
    let place = Path::new(PLACE);
    let (home, slow_home) = (place.join("home"), place.join("slow-home"));
    let (state, workspace) = (place.join("state"), place.join("workspace"));
    let marker = place.join("imported");
    for directory in [&slow_home, &temporary()] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(slow_home.join(".bashrc"), "sleep 1\n").unwrap();
    for directory in [
        place.join("planted"),
        workspace.clone(),
        home.join(".local/lib/python3.13/site-packages"),
        slow_home.join(".local/lib/python3.13/site-packages"),
        state.join("home/.local/lib/python3.13/site-packages"),
        state.join("workspace"),
        state.clone(),
    ] {
        plant(&directory, &marker);
    }
    let root = python.parent().and_then(Path::parent).unwrap();
    let environment = Environment::at(root).await.unwrap();
    let builder = LocalServer::builder()
        .environment(environment)
        .inherit_all_env();
    let before = everything();
    disks_refuse_the_state(&builder).await;
    assert_eq!(new_since(&before, &[]), Vec::<PathBuf>::new());
    let kept = builder.clone().state_dir(&state).workspace_dir(&workspace);
    let activated = builder
        .env("HOME", &slow_home)
        .workspace_dir(place.join("fixed"));
    // In sequence, each of the two would leave a CPU idle.
    tokio::join!(
        a_server_is_started_twice(kept, &workspace),
        a_server_is_activated(activated)
    );
    assert!(!marker.exists(), "{}", fs::read_to_string(&marker).unwrap());
    let changed = [state.as_path(), workspace.as_path(), slow_home.as_path()];
    assert_eq!(new_since(&before, &changed), Vec::<PathBuf>::new());
    for path in everything() {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        assert!(!kind.is_socket(), "{}", path.display());
    }
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut left: Vec<u32> = numbers.collect();
    // The shell that created the disks waits for this process.
    left.retain(|pid| ![1, std::process::id()].contains(pid));
    assert_eq!(left, [0; 0], "processes are left");
}

/// Creates modules and settings that leave a marker when they are read.
fn plant(directory: &Path, marker: &Path) {
    let code = format!("open({marker:?}, 'a').write(__file__ + '\\n')\n");
    fs::create_dir_all(directory.join("openhands/agent_server")).unwrap();
    for name in [
        "queue.py",
        "json.py",
        "uvicorn.py",
        "sitecustomize.py",
        "usercustomize.py",
        "openhands/__init__.py",
        "openhands/agent_server/__init__.py",
        "openhands/agent_server/__main__.py",
    ] {
        fs::write(directory.join(name), &code).unwrap();
    }
    let line = format!("import os; open({marker:?}, 'a').write('pth\\n')\n");
    fs::write(directory.join("evil.pth"), line).unwrap();
    fs::write(directory.join("pyvenv.cfg"), "home = /nowhere\n").unwrap();
    fs::write(directory.join(".env"), "OH_PLANTED=yes\n").unwrap();
}

fn everything() -> BTreeSet<PathBuf> {
    let (mut found, mut todo) = (BTreeSet::new(), vec![PathBuf::from("/tmp")]);
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

/// Returns the new paths since `before`, except those that a server was asked to keep.
fn new_since(before: &BTreeSet<PathBuf>, kept: &[&Path]) -> Vec<PathBuf> {
    let mut new: Vec<_> = everything().difference(before).cloned().collect();
    new.retain(|path| !kept.iter().any(|kept| path.starts_with(kept)));
    new
}

/// Asserts that the start fails at once with a reason.
async fn disks_refuse_the_state(builder: &LocalServerBuilder) {
    for (disk, kind, reason) in [
        ("full", ErrorKind::NoSpace, "No space left on device"),
        ("fixed", ErrorKind::Io, "Read-only file system"),
    ] {
        let state = Path::new(PLACE).join(disk).join("state");
        let error = builder.clone().state_dir(&state).start().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains(disk), "{text}");
        // The state is kept as far as it was created.
        let _never_made = fs::remove_dir_all(state);
    }
}

/// Checks a persistent state, a first start and a restart, with a working agent.
async fn a_server_is_started_twice(builder: LocalServerBuilder, directory: &Path) {
    let policy = RestartPolicy::on_failure(1).delays(Duration::from_millis(1), LONG);
    let server = builder.restart(policy).start().await.unwrap();
    let command = "(env; echo umask=$(umask) files=$(ulimit -n) core=$(ulimit -c); \
        grep Sig /proc/self/status) >seen; printf 'äöü € %s' \"$(printf ok)\"";
    let script = Script::new()
        .call("terminal", json!({ "command": command }))
        .finish("Worked.");
    let model = ScriptedModel::start(script).await.unwrap();
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1);
    let agent = Agent::default_preset(llm).cli_mode(true);
    let workspace = server.workspace(server.workspace_dir());
    let conversation = Conversation::builder(&workspace, agent);
    let conversation = conversation.start().await.unwrap();
    conversation.send("Wörk.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();
    let events = conversation.events();
    assert!(
        events
            .iter()
            .any(|event| event.as_json().contains("äöü € ok"))
    );
    nothing_of_the_owner_is_seen(&fs::read_to_string(directory.join("seen")).unwrap());
    conversation.close().await.unwrap();

    let mut status = server.status();
    let mut kill = Command::new("kill");
    kill.args(["-9", &server.pid().to_string()]);
    assert!(kill.status().unwrap().success());
    status.changed().await;
    let ready = status.wait_for(|status| *status == Status::Ready);
    timeout(LONG, ready).await.unwrap().unwrap();
    let output = workspace.execute("printf 'äöü €'").await.unwrap();
    assert_eq!(output.stdout(), "äöü €");
    ends(server).await;
}

/// Asserts that the agent's shell sees nothing of the owner's surroundings.
fn nothing_of_the_owner_is_seen(seen: &str) {
    let value = |name: &str| {
        let mut lines = seen.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    for name in LOCALES.map(|(name, _)| name) {
        let utf_8 = value(name).is_none_or(|value| value == "C.UTF-8");
        assert!(utf_8, "{name}: {seen}");
    }
    for name in VARIABLES.map(|(name, _)| name) {
        assert_eq!(value(name), None, "{name}: {seen}");
    }
    assert_eq!(value("OH_PLANTED"), None);
    let mut path = value("PATH").unwrap().split(':');
    assert!(path.all(|entry| entry.starts_with('/')), "{seen}");
    for name in ["NO_PROXY", "no_proxy"] {
        assert!(value(name).unwrap().contains("127.0.0.1"), "{seen}");
    }
    assert!(seen.contains("umask=0002 files=4096 core=0"), "{seen}");
    assert!(seen.contains("SigBlk:\t0000000000000000"), "{seen}");
}

/// Checks a server that was dormant, with a slow shell in its home and a read-only workspace.
async fn a_server_is_activated(builder: LocalServerBuilder) {
    let server = builder.deferred_init(true).start().await.unwrap();
    assert!(server.shell_start().unwrap() >= Duration::from_secs(1));
    server.activate().await.unwrap();
    let workspace = server.workspace(server.workspace_dir());
    let output = workspace.execute("touch here").await.unwrap();
    assert_eq!(output.exit_code(), Some(1));
    assert!(output.stderr().contains("Read-only"), "{output:?}");
    // Git reports that the repository belongs to another user, not that there is none.
    let error = workspace.git().changes().await.unwrap_err();
    assert_eq!(error.kind(), workspace::ErrorKind::Git, "{error}");
    assert!(error.to_string().contains("dubious ownership"), "{error}");
    for (disk, file) in [("full", "b"), ("fixed", "here")] {
        let path = Path::new(PLACE).join(disk).join(file);
        let content = "x".repeat(1 << 20);
        let error = workspace.write(path.to_str().unwrap(), content).await;
        error.expect_err(disk);
    }
    // The server writes an upload directly to its destination, so a partial file remains.
    fs::remove_file(Path::new(PLACE).join("full/b")).unwrap();
    let output = workspace.execute("echo still here").await.unwrap();
    assert_eq!(output.stdout().trim(), "still here");
    ends(server).await;
}

/// Asserts an orderly shutdown, although the owner has the signals blocked and ignored.
async fn ends(server: LocalServer) {
    let report = server.shutdown(GRACE).await.unwrap();
    assert!(report.success() && !report.killed, "{report}");
    assert_eq!(report.signal, Some(15));
}
