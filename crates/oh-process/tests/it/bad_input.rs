//! Invalid settings and misbehaving servers: each case returns a clear error and leaves nothing
//! behind.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use super::common::{StandIn, again, python, site_packages, venv};
use oh_process::{
    ConversationContainers, Environment, ErrorKind, LocalServer, Provisioner, Status,
    TemplateServer,
};

#[tokio::test]
async fn an_old_or_missing_interpreter_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("python3");
    let facts = r#"{"version": [3, 11, 7], "executable": "/old", "venv": true, "server": null, "missing": []}"#;
    fs::write(&old, format!("#!/bin/sh\necho '{facts}'\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&old, mode).unwrap();
    let provisioner = Provisioner::new().cache_dir(directory.path().join("cache"));
    for python in [old.clone(), "/no/such/python".into()] {
        let error = provisioner
            .clone()
            .python(&python)
            .provision()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoInterpreter);
        assert!(
            error.to_string().contains(python.to_str().unwrap()),
            "{error}"
        );
    }
    let error = Environment::at(&old).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadEnvironment);
    assert!(error.to_string().contains("3.12"), "{error}");
}

#[tokio::test]
async fn an_error_names_the_missing_package_of_an_environment() {
    let directory = tempfile::tempdir().unwrap();
    venv(&python().await, directory.path(), &["agent-server", "sdk"]);
    let error = Environment::at(directory.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadEnvironment);
    assert!(
        error.to_string().contains("lacks openhands-tools"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unwritable_directory_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let inside = file.path().join("cache");
    let error = Provisioner::new()
        .cache_dir(&inside)
        .provision()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error.to_string().contains(inside.to_str().unwrap()),
        "{error}"
    );

    let stand_in = StandIn::new().await;
    for builder in [
        stand_in.builder("").state_dir(&inside),
        stand_in.builder("").workspace_dir(&inside),
    ] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}

#[tokio::test]
async fn pitfall_24_a_port_that_is_taken_is_named_before_anything_starts() {
    let stand_in = StandIn::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = stand_in.builder("").port(port).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    assert!(error.log_tail().is_empty());
}

#[tokio::test]
async fn pitfall_24_a_server_that_takes_any_key_is_not_ours() {
    let stand_in = StandIn::new().await;
    let error = stand_in.builder("open").start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("rejects the session key"), "{source}");
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_host_that_is_not_local_is_rejected() {
    let stand_in = StandIn::new().await;
    for host in ["0.0.0.0", "192.0.2.1", "example.org"] {
        let error = stand_in.builder("").host(host).start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(host), "{error}");
    }
}

#[tokio::test]
async fn a_variable_with_a_nul_is_rejected() {
    let stand_in = StandIn::new().await;
    let error = stand_in
        .builder("")
        .env("A", "b\0c")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("variable A"), "{error}");
}

#[tokio::test]
async fn a_dormant_server_with_conversations_in_containers_is_rejected() {
    let stand_in = StandIn::new().await;
    let dormant = stand_in.builder("").deferred_init(true);
    let error = dormant
        .conversation_containers(ConversationContainers::new())
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("dormant server"), "{error}");
}

#[tokio::test]
async fn a_dormant_server_with_a_connection_file_is_rejected() {
    let stand_in = StandIn::new().await;
    let path = stand_in.directory.path().join("server.json");
    let dormant = stand_in.builder("").deferred_init(true);
    let error = dormant.connection_file(&path).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("dormant server"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_server_that_dies_before_its_version_is_known_is_reported_with_its_exit() {
    let stand_in = StandIn::new().await;
    let error = stand_in
        .builder("dies-at-version")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Died, "{error:?}");
    assert_eq!(error.exit().and_then(|exit| exit.code), Some(7));
    assert_eq!(error.log_tail(), ["about to die"]);
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn settings_with_a_method_are_rejected_in_every_other_form() {
    let stand_in = StandIn::new().await;
    let place = tempfile::tempdir().unwrap();
    let colon = place.path().join("a:b");
    fs::create_dir(&colon).unwrap();
    let builder = || stand_in.builder("");
    for builder in [
        builder().arg("--host").arg("0.0.0.0"),
        builder().arg("--hos=0.0.0.0"),
        builder().arg("--port=1"),
        builder().inherit_env("SESSION_API_KEY"),
        builder().inherit_env("OH_SESSION_API_KEYS_3"),
        builder().inherit_env("DEBUG_LLM"),
        builder().secret_env("OH_WEBHOOKS", "[]"),
        builder().env("OH_WEBHOOKS_0_BASE_URL", "http://127.0.0.1:1"),
        builder().env("OPENHANDS_AGENT_SERVER_CONFIG_PATH", "/dev/null"),
        builder().env("LC_ALL", "C"),
        builder().python_path(colon),
        builder().python_path(place.path().join("missing")),
    ] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

/// Takes a port that is reserved for a server, as another user of this machine could. Accepts any
/// key that is sent second.
fn stranger(port: u16) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            None,
        )
        .unwrap();
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        let address = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port);
        rustix::net::bind(&socket, &address).unwrap();
        rustix::net::listen(&socket, 16).unwrap();
        let listener = TcpListener::from(socket);
        let (mut seen, mut keys) = (String::new(), 0);
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap_or_default();
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if request.starts_with("END") {
                break;
            }
            let asks = request.contains("x-session-api-key");
            keys += usize::from(asks);
            let status = if asks && keys == 1 { 401 } else { 200 };
            seen.push_str(&request);
            let answer =
                format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: 1\r\n\r\n0");
            let _sent = stream.write_all(answer.as_bytes());
        }
        seen
    })
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stranger_on_the_port_never_receives_the_key() {
    let stand_in = StandIn::new().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let stranger = stranger(port);
    // Bound with the same option as the stranger's socket, but not listening.
    let error = stand_in
        .builder("silent")
        .port(port)
        .session_api_key("the-key-that-is-ours")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken, "{error:?}");
    let mut end = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    end.write_all(b"END").unwrap();
    let seen = stranger.join().unwrap();
    assert!(!seen.contains("x-session-api-key"), "{seen}");
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_server_that_never_becomes_ready_is_stopped_at_its_deadline() {
    let stand_in = StandIn::new().await;
    let builder = stand_in
        .builder("silent")
        .ready_within(Duration::from_millis(300));
    let error = builder.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn an_early_end_is_reported_with_exit_and_last_lines() {
    let stand_in = StandIn::new().await;
    let error = stand_in.builder("exit:5").start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Died);
    assert_eq!(error.exit().and_then(|exit| exit.code), Some(5));
    assert_eq!(error.log_tail(), ["about to fail"]);
    assert!(error.to_string().contains("exit status 5"), "{error}");
}

#[tokio::test]
async fn a_server_that_forks_and_exits_has_ended_and_its_child_with_it() {
    let stand_in = StandIn::new().await;
    // The child may answer before the exit is observed; the exit is observed right afterwards.
    match stand_in.builder("forks").start().await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Died),
        Ok(server) => {
            let ended = |status: &Status| matches!(status, Status::Exited(_));
            let mut status = server.status();
            let seen = tokio::time::timeout(Duration::from_secs(20), status.wait_for(ended)).await;
            assert!(seen.is_ok_and(|seen| seen.is_some()));
        }
    }
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn closed_pipes_floods_and_invalid_text_are_harmless() {
    let stand_in = StandIn::new().await;
    for mode in ["closes", "flood", "invalid"] {
        let server = stand_in.builder(mode).start().await.unwrap();
        let tail = server.log_tail();
        match mode {
            "flood" => assert!(tail.len() <= 200),
            "invalid" => assert_eq!(tail, ["caf\u{fffd} \u{fffd}"]),
            _ => assert!(tail.is_empty(), "{tail:?}"),
        }
        let report = server.shutdown(Duration::from_secs(20)).await.unwrap();
        assert!(report.success(), "{mode}: {report:?}");
        assert_eq!(stand_in.processes(), Vec::<u32>::new());
    }
}

#[tokio::test]
async fn a_too_old_version_is_rejected() {
    let stand_in = StandIn::new().await;
    let error = stand_in
        .builder("")
        .env("STAND_IN_VERSION", "1.39.9")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_names_the_versions(&error, "1.39.9");
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
}

fn assert_names_the_versions(error: &oh_process::Error, version: &str) {
    let message = format!(
        "server {version} is not supported: the oldest supported version is 1.40.0; use a newer \
         version, such as 1.58.2"
    );
    assert_eq!(error.to_string().lines().next(), Some(&*message));
}

/// Without ctypes an interpreter passes the check of an environment, but cannot run the keeper.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_keeper_that_cannot_run_is_reported_with_the_reason() {
    let stand_in = StandIn::new().await;
    let bin = stand_in.directory.path().join("venv/bin");
    let (python, whole) = (bin.join("python3"), bin.join("whole"));
    std::os::unix::fs::symlink(python.canonicalize().unwrap(), &whole).unwrap();
    fs::remove_file(&python).unwrap();
    let whole = whole.display();
    let script = format!(
        "#!/bin/sh\n\
         [ \"$2\" = -S ] || exec {whole} \"$@\"\n\
         exec {whole} -I -S -c \"import sys\n\
         sys.modules['_ctypes'] = sys.modules['ctypes'] = None\n\
         $4\"\n"
    );
    fs::write(&python, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&python, mode).unwrap();
    let error = stand_in.builder("").start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Spawn);
    let message = format!(
        "cannot start {}: the keeper process did not start: ModuleNotFoundError: import of ctypes \
         halted; None in sys.modules",
        python.display()
    );
    assert_eq!(error.to_string(), message);
    assert_eq!(stand_in.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_failed_check_of_an_interpreter_is_reported_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let python = directory.path().join("python3");
    let reason = "ModuleNotFoundError: No module named '_ctypes'";
    let script = format!(
        "#!/bin/sh\ncat >&2 <<'.'\nTraceback (most recent call last):\n  File \"x\", line 1\n\
         {reason}\n.\nexit 1\n"
    );
    fs::write(&python, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&python, mode).unwrap();
    let provisioner = Provisioner::new().cache_dir(directory.path().join("cache"));
    let provisioned = provisioner.python(&python).provision().await;
    for error in [provisioned, Environment::at(&python).await].map(Result::unwrap_err) {
        let message = error.to_string();
        assert!(message.contains(&format!("fails: {reason}")), "{message}");
        assert!(message.contains(python.to_str().unwrap()), "{message}");
    }
}

/// The installed version is checked first, so no process is started and no directory created.
#[tokio::test]
async fn an_environment_with_an_unsupported_server_starts_nothing() {
    for version in ["1.39.9", "1.39.0rc1", "1.39"] {
        let mut stand_in = StandIn::new().await;
        let root = stand_in.directory.path().join("venv");
        let info = site_packages(&root).join("openhands_agent_server-1.58.2.dist-info/METADATA");
        let metadata = fs::read_to_string(&info).unwrap();
        fs::write(&info, metadata.replace("1.58.2", version)).unwrap();
        stand_in.environment = Environment::at(&root).await.unwrap();
        assert_eq!(stand_in.environment.server_version(), version);

        let state = stand_in.directory.path().join("state");
        let started = stand_in.builder("").state_dir(&state).start().await;
        let template = TemplateServer::builder().environment(stand_in.environment.clone());
        for error in [started.err(), template.start().await.err()] {
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert_names_the_versions(&error, version);
        }
        assert!(!state.exists());
        assert_eq!(stand_in.processes(), Vec::<u32>::new());
    }
}

#[tokio::test]
async fn an_unsupported_version_is_not_installed() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    let provisioner = Provisioner::new().cache_dir(&cache).version("1.39.9");
    let error = provisioner.provision().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_names_the_versions(&error, "1.39.9");
    let server = LocalServer::builder().provisioner(provisioner);
    let error = server.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(!cache.exists());
}

/// Starts a package index without packages.
fn empty_index() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/simple", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 4096];
            let _request = stream.read(&mut buffer);
            let _answer = stream.write_all(
                b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            );
        }
    });
    url
}

/// Creates an interpreter that runs pip with another index, as pip's configuration could.
async fn with_index(directory: &std::path::Path, url: &str) -> std::path::PathBuf {
    let config = directory.join("pip.conf");
    fs::write(
        &config,
        format!("[global]\nindex-url = {url}\nno-index = false\nretries = 0\n"),
    )
    .unwrap();
    config
}

#[test]
fn an_unknown_version_and_an_unreachable_index_have_different_errors() {
    // pip reads its own variables, so this test runs itself again with other variables.
    const ROLE: &str = "OH_TEST_INDEX";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if std::env::var_os(ROLE).is_some() {
        let cache = std::env::var("OH_TEST_CACHE").unwrap();
        let provisioner = Provisioner::new()
            .cache_dir(&cache)
            .use_uv(false)
            .version("1.999.0");
        let error = runtime.block_on(provisioner.provision()).unwrap_err();
        let left: Vec<_> = fs::read_dir(&cache)
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        println!("KIND {:?} LEFT {left:?}", error.kind());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}/simple", closed.local_addr().unwrap());
    drop(closed);
    for (url, kind) in [
        (empty_index(), "UnknownVersion"),
        (nowhere, "IndexUnreachable"),
    ] {
        let config = runtime.block_on(with_index(directory.path(), &url));
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg(again(
                module_path!(),
                "an_unknown_version_and_an_unreachable_index_have_different_errors",
            ))
            .env(ROLE, "1")
            .env("OH_TEST_CACHE", directory.path().join("cache"))
            .env("PIP_CONFIG_FILE", config)
            .env("PIP_RETRIES", "0")
            .env_remove("PIP_FIND_LINKS")
            .env_remove("PIP_INDEX_URL")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let wanted = format!("KIND {kind} LEFT [\"server-1.999.0.lock\"]");
        assert!(
            said.contains(&wanted),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
