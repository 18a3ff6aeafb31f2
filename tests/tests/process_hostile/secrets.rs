//! Secrets reach the server, but never an agent, another process, a log or a displayed text.

use std::{
    fmt::Display,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use openhands::{
    Agent, Client, Conversation, Event, LocalServer, Workspace, WorkspaceExt,
    conversation::Secret,
    process::{
        AttachedServer, LocalServerBuilder, LogLevel, RestartPolicy, Startup, Status, WarmPool,
        Webhook,
    },
    protocol::config::{Llm, McpServer},
    testkit::{Script, ScriptedModel},
    workspace::Repository,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};
use tracing_subscriber::fmt::format::FmtSpan;

use crate::canaries::{Canaries, Seen, files, parent, process_table};

const LONG: Duration = Duration::from_secs(120);

/// Commands with which an agent searches for keys.
const LOOK: &str = "env >env; env -0 >>env; set >>env; \
    cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline >processes 2>/dev/null; \
    (tmux show-environment -g; tmux show-environment; tmux show-options -g) >tmux 2>&1; \
    echo looked";

/// Starts an endpoint for webhooks. Returns its URL and the received bytes.
async fn hook() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let got = Arc::<Mutex<Vec<u8>>>::default();
    let reported = got.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 64 * 1024];
            let length = stream.read(&mut buffer).await.unwrap_or(0);
            reported
                .lock()
                .unwrap()
                .extend_from_slice(&buffer[..length]);
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            let _gone = stream.write_all(answer).await;
        }
    });
    (url, got)
}

fn builder(canaries: &Canaries, hook: &str) -> LocalServerBuilder {
    LocalServer::builder()
        .session_api_key(canaries.of("session"))
        .session_api_key(canaries.of("session-2"))
        .secret_key(canaries.of("secret-key"))
        .previous_secret_key(canaries.of("previous-key"))
        .webhook(Webhook::new(hook).header("x-hook", canaries.of("webhook")))
        .log_level(LogLevel::Debug)
}

fn llm(model: &ScriptedModel, canaries: &Canaries) -> Llm {
    Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key(canaries.of("llm"))
        .extra_header("x-llm", canaries.of("llm-header"))
        .num_retries(1)
}

/// Returns an agent that never works, because its MCP servers do not exist.
fn connected(model: &ScriptedModel, canaries: &Canaries) -> Agent {
    let program = McpServer::stdio("true").env("TOKEN", canaries.of("mcp-env"));
    let remote = McpServer::http("http://127.0.0.1:9/mcp").header("x-mcp", canaries.of("mcp"));
    Agent::default_preset(llm(model, canaries))
        .cli_mode(true)
        .mcp_server("program", program)
        .mcp_server("remote", remote)
}

/// Lets an agent search for keys, then searches the process table while its terminal is running.
async fn an_agent_looks(server: &LocalServer, canaries: &Canaries, seen: &Seen) {
    let script = Script::new()
        .call("terminal", json!({ "command": LOOK }))
        .finish("Looked.");
    let model = ScriptedModel::start(script).await.unwrap();
    let workspace = server.workspace(server.workspace_dir());
    let idle = Conversation::builder(&workspace, connected(&model, canaries));
    seen.debug(&idle);
    let idle = idle.start().await.unwrap();
    seen.debug(&idle.state());
    idle.close().await.unwrap();
    let agent = Agent::default_preset(llm(&model, canaries)).cli_mode(true);
    let builder = Conversation::builder(&workspace, agent).secret("UNUSED", canaries.of("secret"));
    seen.debug(&builder);
    let conversation = builder.start().await.unwrap();
    let secret = Secret::text(canaries.of("late-secret"));
    seen.debug(&secret);
    conversation
        .secrets()
        .set([("LATE", secret)])
        .await
        .unwrap();
    conversation.send("Look for keys.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();
    no_process_shows_a_secret(canaries);
    the_agent_found_nothing(
        server.workspace_dir(),
        &["env", "processes", "tmux"],
        canaries,
    );
    for event in &conversation.events() {
        seen.shown(event);
        assert_eq!(canaries.within(event.as_json().as_bytes()), [""; 0]);
    }
    seen.debug(&conversation);
    seen.debug(&conversation.state());
    seen.debug(&conversation.events().iter().collect::<Vec<&Event>>());
    seen.shown(&outcome);
    fails_in_every_way(&conversation, canaries, seen).await;
    conversation.close().await.unwrap();
}

async fn fails_in_every_way(conversation: &Conversation, canaries: &Canaries, seen: &Seen) {
    let masked = conversation.secrets().set([("MASKED", "**********")]).await;
    seen.failed(&masked.unwrap_err());
    let llm = Llm::new("").api_key(canaries.of("llm"));
    seen.debug(&llm);
    seen.failed(&conversation.settings().switch_llm(llm).await.unwrap_err());
}

fn no_process_shows_a_secret(canaries: &Canaries) {
    for (path, bytes) in process_table() {
        let whose = std::fs::read(path.with_file_name("cmdline")).unwrap_or_default();
        let whose = String::from_utf8_lossy(&whose).replace('\0', " ");
        let found = canaries.within(&bytes);
        assert_eq!(found, [""; 0], "{} {whose:.200}", path.display());
    }
}

/// Checks that a secret of the agent is only in the server and in the processes that it has
/// started, and not in the keeper, a template or this process.
fn only_the_server_tells(server: &LocalServer, given: &Canaries) {
    let keeper = parent(server.pid()).unwrap();
    let mut holders = Vec::new();
    for (path, bytes) in process_table() {
        if given.within(&bytes).is_empty() {
            continue;
        }
        let holder = path.parent().unwrap().file_name().unwrap();
        let holder: u32 = holder.to_string_lossy().parse().unwrap();
        holders.push(holder);
        let mut above = parent(holder);
        // A process that has ended in the meantime belonged to the server.
        while let Some(pid) = above.filter(|pid| *pid != keeper) {
            assert!(pid > 1, "process {holder} is not the server's");
            above = parent(pid);
        }
    }
    assert!(holders.contains(&server.pid()), "{holders:?}");
    assert!(!holders.contains(&keeper), "the keeper");
}

fn the_agent_found_nothing(place: &Path, names: &[&str], canaries: &Canaries) {
    for name in names {
        let bytes = std::fs::read(place.join(name)).unwrap();
        assert!(!bytes.is_empty(), "{name}");
        assert_eq!(canaries.within(&bytes), [""; 0], "{name}");
    }
}

/// Checks that a command of the program sees at most what the agent sees.
async fn a_command_looks(server: &LocalServer, canaries: &Canaries, seen: &Seen) {
    let workspace = server.workspace(server.workspace_dir());
    let run = workspace.execute(LOOK);
    seen.debug(&run);
    let output = run.await.unwrap();
    assert_eq!(output.exit_code(), Some(0), "{output:?}");
    the_agent_found_nothing(server.workspace_dir(), &["env", "processes"], canaries);
}

/// Checks that a secret of one command reaches that command and is not displayed anywhere.
async fn a_command_has_a_secret(workspace: &Workspace, canaries: &Canaries, seen: &Seen) {
    let run = workspace
        .execute("printf %s \"$TOKEN\" | wc -c")
        .secret_env("TOKEN", canaries.of("command"));
    seen.debug(&run);
    let output = run.await.unwrap();
    let length = canaries.of("command").len().to_string();
    assert_eq!(output.stdout().trim(), length);
    seen.debug(&output);
    let repository = Repository::new("https://127.0.0.1:9/a/b").token(canaries.of("git"));
    seen.debug(&repository);
    let cloning = workspace.clone_repositories([repository]);
    seen.debug(&cloning);
    let cloned = cloning.await.unwrap();
    seen.debug(&cloned);
    seen.failed(&cloned.failed.first().unwrap().error);
}

/// Checks a client with the wrong key, through a proxy that does not exist.
async fn a_stranger_fails(server: &LocalServer, canaries: &Canaries, seen: &Seen) {
    let url = server.url().as_str();
    let wrong = Client::builder(url).session_api_key(canaries.of("wrong"));
    seen.debug(&wrong);
    seen.failed(
        &AttachedServer::attach(wrong.build().unwrap())
            .await
            .unwrap_err(),
    );
    for proxy in [
        "http://user:{}@127.0.0.1:9",
        "http://us^er:{}@127.0.0.1:9/ ",
    ] {
        let proxy = proxy.replace("{}", &canaries.of("proxy"));
        let builder = Client::builder("http://other.invalid")
            .session_api_key(canaries.of("session"))
            .header("x-other", canaries.of("header"))
            .timeout(Duration::from_millis(300))
            .proxy(proxy);
        seen.debug(&builder);
        match builder.build() {
            Ok(client) => {
                seen.debug(&client);
                seen.failed(&client.server_info().await.unwrap_err());
            }
            Err(error) => seen.failed(&error),
        }
    }
}

/// Checks that secrets on disk are encrypted with the secret key, except one that the server does
/// not treat as a secret.
fn no_file_contains_a_secret(directory: &Path, canaries: &Canaries) {
    let files = files(directory);
    assert!(files.len() > 10, "conversations and commands are kept");
    for (path, bytes) in files {
        let mut found = canaries.within(&bytes);
        found.retain(|found| !found.starts_with(&canaries.of("llm-header")));
        assert_eq!(found, [""; 0], "{}", path.display());
    }
}

// Single-threaded, so that the subscriber of this thread receives the output of every task.
#[tokio::test]
async fn no_secret_is_in_a_process_a_file_a_log_an_error_or_a_text() {
    let seen = Seen::default();
    let writer = seen.clone();
    let logging = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_span_events(FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(logging);
    let (canaries, given) = (Canaries::new(), Canaries::new());
    let place = tempfile::tempdir().unwrap();
    let policy = RestartPolicy::on_failure(1).delays(Duration::from_millis(1), LONG);
    let (hook, posted) = hook().await;
    let builder = builder(&canaries, &hook)
        .state_dir(place.path().join("state"))
        .secret_env("GIVEN", given.of("variable"))
        .restart(policy);
    seen.debug(&builder);
    let server = builder.start().await.unwrap();
    an_agent_looks(&server, &canaries, &seen).await;
    only_the_server_tells(&server, &given);
    let workspace = server.workspace(server.workspace_dir());
    a_command_has_a_secret(&workspace, &canaries, &seen).await;
    a_stranger_fails(&server, &canaries, &seen).await;
    no_file_contains_a_secret(place.path(), &canaries);

    let mut status = server.status();
    kill(server.pid());
    status.changed().await;
    let ready = status.wait_for(|status| *status == Status::Ready);
    timeout(LONG, ready).await.unwrap().unwrap();
    a_command_looks(&server, &canaries, &seen).await;
    no_process_shows_a_secret(&canaries);
    only_the_server_tells(&server, &given);
    seen.debug(&server);
    seen.debug(&workspace);
    for line in server.log_tail() {
        seen.shown(&line);
    }
    let report = server.shutdown(Duration::from_secs(30)).await.unwrap();
    seen.shown(&report as &dyn Display);
    no_file_contains_a_secret(place.path(), &canaries);
    assert!(
        !canaries.within(&posted.lock().unwrap()).is_empty(),
        "no post"
    );

    let seen = seen.bytes();
    for reported in ["TRACE", "hyper", "openhands::server", "Look for keys."] {
        let reported = reported.as_bytes();
        assert!(seen.windows(reported.len()).any(|part| part == reported));
    }
    assert_eq!(canaries.within(&seen), [""; 0]);
    assert_eq!(given.within(&seen), [""; 0]);
}

#[tokio::test]
async fn an_agent_cannot_find_the_keys_of_an_activated_server() {
    let (seen, canaries, given) = (Seen::default(), Canaries::new(), Canaries::new());
    let (hook, posted) = hook().await;
    let builder = builder(&canaries, &hook).secret_env("GIVEN", given.of("variable"));
    let pool = WarmPool::start(1, builder);
    let acquire = pool
        .acquire()
        .session_api_key(canaries.of("own-session"))
        .secret_key(canaries.of("own-secret-key"));
    seen.debug(&acquire);
    let server = timeout(LONG, acquire.into_future()).await.unwrap().unwrap();
    // While the template of the pool still runs.
    assert_eq!(server.startup(), Startup::Forked);
    only_the_server_tells(&server, &given);
    pool.shutdown().await;
    an_agent_looks(&server, &canaries, &seen).await;
    a_command_looks(&server, &canaries, &seen).await;
    server.shutdown(Duration::from_secs(30)).await.unwrap();
    assert_eq!(canaries.within(&seen.bytes()), [""; 0]);
    // A server that was dormant also sends webhooks, with the header from its start.
    assert!(!canaries.within(&posted.lock().unwrap()).is_empty());
}

fn kill(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}
