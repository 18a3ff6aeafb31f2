//! Hostile surroundings: planted modules, unusual environments and inherited process states. The
//! server starts normally, and no secret or private data leaves it.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::common::{StandIn, again, eventually, processes};
use oh_process::{Environment, LocalServer, RestartPolicy, Status, Webhook};

const GRACE: Duration = Duration::from_secs(20);
const ROLE: &str = "OH_TEST_HOSTILE";

type Json = serde_json::Value;

fn seen(file: &Path) -> Json {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[tokio::test]
async fn nothing_planted_is_imported_at_any_start() {
    let stand_in = StandIn::new().await;
    let place = stand_in.directory.path();
    let marker = place.join("imported");
    let (workspace, state) = (place.join("workspace"), place.join("state"));
    let site = state.join("home/.local/lib/python3.13/site-packages");
    for directory in [&workspace, &state, &state.join("workspace"), &site] {
        fs::create_dir_all(directory).unwrap();
        super::common::plant(directory, &marker);
    }
    let file = place.join("seen.json");
    let start = || {
        stand_in
            .builder(&format!("environment:{}", file.display()))
            .state_dir(&state)
            .workspace_dir(&workspace)
            .env("PYTHONPATH", &workspace)
            .env("PYTHONSTARTUP", workspace.join("queue.py"))
            .restart(RestartPolicy::on_failure(1).delays(Duration::from_millis(1), GRACE))
            .start()
    };
    for _ in 0..2 {
        let server = start().await.unwrap();
        fs::remove_file(&file).unwrap();
        let mut status = server.status();
        super::common::kill(server.pid());
        status.changed().await;
        status
            .wait_for(|status| *status == Status::Ready)
            .await
            .unwrap();
        let seen = seen(&file);
        let paths = seen["path"].to_string();
        for planted in [&workspace, &state] {
            assert!(
                !paths.contains(&format!("{:?}", planted.display())),
                "{paths}"
            );
        }
        assert!(!paths.contains("\"\""), "{paths}");
        assert_eq!(seen["env"]["PLANTED"], Json::Null);
        // The caller's own variables reach the agent; this crate adds no Python variables.
        assert_eq!(seen["env"]["PYTHONPATH"], workspace.to_str().unwrap());
        let env = seen["env"].as_object().unwrap();
        let python = env.keys().filter(|name| name.starts_with("PYTHON"));
        assert_eq!(python.count(), 2);
        server.shutdown(GRACE).await.unwrap();
    }
    assert!(!marker.exists(), "{}", fs::read_to_string(&marker).unwrap());
}

#[tokio::test]
async fn variables_are_not_read_from_files_above_the_libraries() {
    let stand_in = StandIn::new().await;
    let marker = stand_in.directory.path().join("read");
    let site = super::common::site_packages(&stand_in.directory.path().join("venv"));
    fs::create_dir(site.join("dotenv")).unwrap();
    let code = format!("def load_dotenv(*_, **__): open({marker:?}, 'w')\n");
    fs::write(site.join("dotenv/main.py"), code).unwrap();
    fs::write(
        site.join("dotenv/__init__.py"),
        "from .main import load_dotenv\n",
    )
    .unwrap();
    let server = stand_in.builder("dotenv").start().await.unwrap();
    assert!(!marker.exists());
    server.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn no_secret_of_the_server_is_in_its_environment_or_stays_in_its_configuration() {
    let stand_in = StandIn::new().await;
    let file = stand_in.directory.path().join("seen.json");
    let server = stand_in
        .builder(&format!("environment:{}", file.display()))
        .session_api_key("canary-session-key-1")
        .session_api_key("canary-session-key-2")
        .secret_key("canary-secret-key-xx")
        .previous_secret_key("canary-previous-key-x")
        .webhook(Webhook::new("http://127.0.0.1:1").header("authorization", "canary-header"))
        .start()
        .await
        .unwrap();
    let seen = seen(&file);
    assert!(!seen.to_string().contains("canary"), "{seen}");
    let root = server.state_dir().to_owned();
    for process in stand_in.processes() {
        for name in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{process}/{name}")).unwrap();
            assert!(
                !String::from_utf8_lossy(&bytes).contains("canary"),
                "{name}"
            );
        }
        // The descriptor with the server's configuration is empty by now.
        for descriptor in fs::read_dir(format!("/proc/{process}/fd"))
            .unwrap()
            .flatten()
        {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            if target.to_string_lossy().contains("configuration") {
                assert_eq!(fs::read_to_string(descriptor.path()).unwrap(), "{}");
            }
        }
    }
    let mut todo = vec![root];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => todo.push(entry.path()),
                kind if kind.is_file() => {
                    let text = fs::read(entry.path()).unwrap();
                    assert!(
                        !String::from_utf8_lossy(&text).contains("canary"),
                        "{entry:?}"
                    );
                }
                _ => {}
            }
        }
    }
    server.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_key_that_the_server_publishes_to_itself_reaches_no_process() {
    let stand_in = StandIn::new().await;
    let file = stand_in.directory.path().join("seen");
    let server = stand_in
        .builder(&format!("publishes:{}", file.display()))
        .session_api_key("canary-session-key-1")
        .start()
        .await
        .unwrap();
    assert!(file.with_extension("done").exists());
    let seen = fs::read_to_string(&file).unwrap();
    assert_eq!(seen.matches("PLAIN").count(), 8, "{seen}");
    assert!(!seen.contains("canary"), "{seen}");
    server.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_server_has_a_private_home_only_on_request() {
    let stand_in = StandIn::new().await;
    let file = stand_in.directory.path().join("seen.json");
    let mode = format!("environment:{}", file.display());
    let server = stand_in
        .builder(&mode)
        .inherit_all_env()
        .start()
        .await
        .unwrap();
    let own = seen(&file);
    let state = server.state_dir().to_owned();
    assert_eq!(own["env"]["HOME"], state.join("home").to_str().unwrap());
    for name in ["HISTFILE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
        assert_eq!(own["env"][name], Json::Null, "{name}");
    }
    assert_eq!(server.shell_start(), None);
    server.shutdown(GRACE).await.unwrap();
    let server = stand_in
        .builder(&mode)
        .inherit_home()
        .start()
        .await
        .unwrap();
    let theirs = seen(&file);
    assert_eq!(theirs["env"]["HOME"], std::env::var("HOME").unwrap());
    assert!(server.shell_start().is_some());
    server.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn browser_directories_in_tmp_are_removed() {
    let stand_in = StandIn::new().await;
    let made = format!("/tmp/browser-use-downloads-{}", &stand_in.tag[..8]);
    let made = Path::new(&made);
    let server = stand_in.builder("browser").start().await.unwrap();
    assert!(made.join("file").exists());
    server.shutdown(GRACE).await.unwrap();
    assert!(!made.exists());
    // The record must not be usable to remove other directories.
    let server = stand_in.builder("browser").start().await.unwrap();
    let innocent = stand_in.directory.path().join("innocent");
    fs::create_dir(&innocent).unwrap();
    let list = format!(
        "{}\n/tmp/browser-use-downloads-/../../{}\n",
        innocent.display(),
        innocent.display()
    );
    let record = server.state_dir().join("browser-directories");
    fs::write(record, format!("{}\n{list}", made.display())).unwrap();
    drop(server);
    assert!(!made.exists() && innocent.exists());
}

/// Inherited process states, and the scripts that create them.
const STATES: &[(&str, &str)] = &[
    (
        "blocked signals",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))",
    ),
    (
        "ignored signals",
        "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 10, 12, 13, 15, 17)]",
    ),
    ("open umask", "os.umask(0)"),
    ("closed umask", "os.umask(0o777)"),
    (
        "few files",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))",
    ),
    (
        "cores",
        "resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)",
    ),
    (
        "no descriptors to spare",
        "os.dup2(0, 50, inheritable=True)",
    ),
    (
        "proxies",
        "os.environ.update(HTTP_PROXY='http://127.0.0.1:9', NO_PROXY='corp')",
    ),
    (
        "bare path",
        "os.environ.update(PATH=':.:bin:' + os.environ['PATH'])",
    ),
    ("relative path", "os.environ.update(PATH='.:bin:')"),
    ("empty path", "os.environ.update(PATH='')"),
    ("no path", "del os.environ['PATH']"),
    (
        "small files",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))",
    ),
    ("empty temporary directory", "os.environ.update(TMPDIR='')"),
    ("closed streams", "os.close(0); os.close(2)"),
    (
        "Python",
        "os.environ.update(PYTHONHOME='/nowhere', PYTHONPATH='.', VIRTUAL_ENV='/v')",
    ),
    ("directory", "os.chdir('/')"),
];

/// Locale variables found in the environments of real owners.
const LOCALES: [&str; 12] = [
    "LC_ALL='C'",
    "LC_ALL='POSIX', LANG='C'",
    "LC_ALL='de_DE.ISO-8859-1'",
    "LC_ALL='xx_YY.UTF-8', LC_CTYPE='C'",
    "LC_ALL='tr_TR.UTF-8', LANGUAGE='ru:xx:'",
    "LC_ALL='', LC_CTYPE='ja_JP.EUC-JP', LC_COLLATE='zh_CN.GBK'",
    "LC_ALL='../../etc/passwd', LANG=''",
    "LC_ALL='UTF-8', LC_MESSAGES='en_US.utf8@euro'",
    "LANG='de_DE@euro', LC_TIME='de_DE.ISO-8859-1', LC_NUMERIC='xx_YY.UTF-8'",
    "LANG='C.UTF-8', LC_CTYPE='POSIX', LC_PAPER='', LC_NAME='x'",
    "LC_ALL='zh_CN.GB18030', LC_ADDRESS='ar_EG', LC_IDENTIFICATION='x'",
    "LC_ALL='\\udce4\\udcff', LANG='\\udcff'",
];

#[tokio::test]
async fn a_server_starts_and_stops_with_any_inherited_signals() {
    if let Ok(file) = std::env::var(ROLE) {
        let root = std::env::var("ENVIRONMENT").unwrap();
        let server = LocalServer::builder()
            .environment(Environment::at(root).await.unwrap())
            .env("STAND_IN", format!("environment:{file}"))
            .inherit_all_env()
            .start()
            .await
            .unwrap();
        let report = server.shutdown(GRACE).await.unwrap();
        println!(
            "REPORT {} {:?} {}",
            report.success(),
            report.signal,
            report.killed
        );
        return;
    }
    let stand_in = StandIn::new().await;
    let place = stand_in.directory.path();
    let test = "a_server_starts_and_stops_with_any_inherited_signals";
    let locales = LOCALES.map(|locale| (locale, format!("os.environ.update({locale})")));
    let locales = locales
        .iter()
        .map(|(what, script)| (*what, script.as_str()));
    let states = STATES.iter().copied().chain(locales);
    for (what, script) in states {
        let file = place.join("seen.json");
        let _none = fs::remove_file(&file);
        let script = format!(
            "import os, resource, signal, sys\n{script}\nos.execv(sys.argv[1], sys.argv[1:])"
        );
        let output = Command::new(stand_in.environment.python())
            .args(["-I", "-c", &script])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &again(module_path!(), test)])
            .env(ROLE, &file)
            .env("ENVIRONMENT", place.join("venv"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("REPORT true Some(15) false"),
            "{what}: {said} {complaint}"
        );
        let seen = seen(&file);
        let number = |name: &str| seen[name].as_u64().unwrap();
        // Signals 32 and 33 belong to the C library and cannot be blocked.
        assert_eq!(number("blocked") & !(3 << 31), 0, "{what}");
        // Python itself ignores SIGPIPE and SIGXFSZ.
        let known = 3 << 31 | 1 << 12 | 1 << 24;
        assert_eq!(number("ignored") & !known, 0, "{what}");
        assert_eq!(number("umask") & 0o702, 0o002, "{what}");
        assert_eq!(number("core"), 0, "{what}");
        assert!(number("files") >= 4096, "{what}");
        assert!(seen["oom"].as_i64().unwrap() >= 0, "{what}");
        assert!(seen["nice"].as_i64().unwrap() >= 0, "{what}");
        assert_eq!(seen["encoding"], "utf-8", "{what}");
        let env = |name: &str| seen["env"][name].as_str();
        let names = seen["env"].as_object().unwrap().keys();
        let locale = names.filter(|name| name.starts_with("LC_") || name.starts_with("LANG"));
        let locale: Vec<_> = locale.map(|name| (name.as_str(), env(name))).collect();
        let utf_8 = Some("C.UTF-8");
        assert_eq!(locale, [("LANG", utf_8), ("LC_ALL", utf_8)], "{what}");
        assert!(
            env("NO_PROXY")
                .unwrap()
                .ends_with("localhost,127.0.0.1,::1"),
            "{what}"
        );
        assert_eq!(env("NO_PROXY"), env("no_proxy"), "{what}");
        assert_eq!(env("PYTHONHOME"), None, "{what}");
        assert_eq!(env("VIRTUAL_ENV"), None, "{what}");
        let mut path = env("PATH").unwrap().split(':');
        assert!(path.all(|entry| entry.starts_with('/')), "{what}");
        // Standard streams, the configuration, and the descriptor of the listing itself.
        let descriptors = seen["descriptors"].as_array().unwrap();
        let highest = descriptors.last().unwrap().as_u64().unwrap();
        assert!(highest < 10, "{what}: {descriptors:?}");
    }
}

/// Root may read and enter everything, so this needs a user without rights.
#[tokio::test]
async fn a_normal_user_with_any_umask_starts_a_server_twice() {
    const TEST: &str = "a_normal_user_with_any_umask_starts_a_server_twice";
    if let Ok(state) = std::env::var(ROLE) {
        let root = std::env::var("ENVIRONMENT").unwrap();
        for _ in 0..2 {
            let builder = LocalServer::builder()
                .environment(Environment::at(&root).await.unwrap())
                .state_dir(&state);
            builder
                .start()
                .await
                .unwrap()
                .shutdown(GRACE)
                .await
                .unwrap();
        }
        let server = LocalServer::builder().environment(Environment::at(&root).await.unwrap());
        server.start().await.unwrap().shutdown(GRACE).await.unwrap();
        println!("STARTED");
        return;
    }
    let stand_in = StandIn::new().await;
    let place = stand_in.directory.path();
    for umask in ["0777", "0377", "0177", "0"] {
        let scratch = place.join(format!("tmp-{umask}"));
        fs::create_dir(&scratch).unwrap();
        let output = Command::new("unshare")
            .args(["--user", "--map-user=1000", "--map-group=1000"])
            .args(["sh", "-c", "umask $1; shift; exec \"$@\"", "sh", umask])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &again(module_path!(), TEST)])
            .env(ROLE, place.join(format!("state-{umask}")))
            .env("ENVIRONMENT", place.join("venv"))
            .env("TMPDIR", &scratch)
            .output()
            .expect("`unshare` of util-linux");
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("STARTED"), "{umask}: {said} {complaint}");
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "{umask}");
    }
}

/// Gives this process's network the address 192.0.2.1, and runs a program.
const ADDRESS: &str = "
import fcntl, os, socket, struct, sys
control = socket.socket()
fcntl.ioctl(control, 0x8914, struct.pack('16sh14x', b'lo', 0x41))
address = struct.pack('16sHH4s8x', b'lo:1', socket.AF_INET, 0, socket.inet_aton('192.0.2.1'))
fcntl.ioctl(control, 0x8916, address)
os.execv(sys.argv[1], sys.argv[1:])
";

#[tokio::test]
async fn a_server_on_an_address_of_this_machine_is_reached_without_the_proxy() {
    const TEST: &str = "a_server_on_an_address_of_this_machine_is_reached_without_the_proxy";
    if let Ok(root) = std::env::var(ROLE) {
        let proxy = std::net::TcpListener::bind("127.0.0.1:3128").unwrap();
        proxy.set_nonblocking(true).unwrap();
        let server = LocalServer::builder()
            .environment(Environment::at(root).await.unwrap())
            .host("192.0.2.1")
            .expose(true)
            .ready_within(Duration::from_secs(30));
        let server = server.start().await;
        println!("ASKED {}", proxy.accept().is_ok());
        let server = server.unwrap();
        println!("ALIVE {}", server.client().is_alive().await);
        server.shutdown(GRACE).await.unwrap();
        return;
    }
    let stand_in = StandIn::new().await;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(stand_in.environment.python())
        .args(["-I", "-c", ADDRESS])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &again(module_path!(), TEST)])
        .env(ROLE, stand_in.directory.path().join("venv"))
        .envs(["http_proxy", "HTTP_PROXY", "all_proxy"].map(|name| (name, "http://127.0.0.1:3128")))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .expect("`unshare` of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ASKED false"), "{said} {complaint}");
    assert!(said.contains("ALIVE true"), "{said} {complaint}");
}

#[tokio::test]
async fn a_server_ends_although_its_owner_ignores_sigchld() {
    const TEST: &str = "a_server_ends_although_its_owner_ignores_sigchld";
    if let Ok(place) = std::env::var(ROLE) {
        let server = LocalServer::builder()
            .environment(
                Environment::at(Path::new(&place).join("venv"))
                    .await
                    .unwrap(),
            )
            .env("STAND_IN", "daemon")
            .env("TAG", &place);
        let server = server.start().await.unwrap();
        let state = server.state_dir().to_owned();
        assert!(processes(&place).len() >= 3, "keeper, server, daemon");
        drop(server);
        println!("LEFT {:?} {}", processes(&place), state.exists());
        return;
    }
    let stand_in = StandIn::new().await;
    let output = Command::new(stand_in.environment.python())
        .args(["-c", "import os, signal, sys\nsignal.signal(17, signal.SIG_IGN)\nos.execv(sys.argv[1], sys.argv[1:])"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &again(module_path!(), TEST)])
        .env(ROLE, stand_in.directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("LEFT [] false"),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn the_process_table_shows_commands_and_not_programs() {
    let stand_in = StandIn::new().await;
    let server = stand_in.builder("").start().await.unwrap();
    for process in stand_in.processes() {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap();
        assert!(line.len() < 1200, "{}", String::from_utf8_lossy(&line));
    }
    server.shutdown(GRACE).await.unwrap();
    eventually("all gone", || stand_in.processes().is_empty()).await;
}
