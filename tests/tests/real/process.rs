//! Servers and a pool of servers of one template: each has separate keys, terminals and directories.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use openhands::{
    Agent, Client, Conversation, WorkspaceExt,
    process::{AttachedServer, ErrorKind, RestartPolicy, Startup, Status, WarmPool},
    protocol::config::Llm,
    testkit::{Script, ScriptedModel, Step},
};
use serde_json::json;

const GRACE: Duration = Duration::from_secs(30);

/// Returns the process that has started this one.
fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit(')').next().unwrap();
    rest.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}

#[tokio::test]
async fn a_warm_server_is_usable_with_the_variables_it_was_acquired_with() {
    let home = openhands_tests::home();
    let pool = WarmPool::start(1, openhands_tests::server(&home));
    let place = tempfile::tempdir().unwrap();
    let commands = place.path().join("commands");
    let acquire = pool.acquire().env("PROJECT", "one");
    let server = acquire
        .session_api_key("a-key-of-the-callers-own")
        .bash_events_dir(&commands)
        .conversations_dir(place.path().join("conversations"))
        .await
        .unwrap();
    pool.shutdown().await;
    let with = |key: &str| {
        let client = Client::builder(server.url().as_str()).session_api_key(key);
        AttachedServer::attach(client.build().unwrap())
    };
    with("a-key-of-the-callers-own").await.unwrap();
    let error = with("another").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let workspace = server.workspace(server.workspace_dir());
    let output = workspace.execute("echo $PROJECT; env").await.unwrap();
    let said = output.stdout();
    assert!(said.starts_with("one\n"), "{said}");
    assert!(
        !said.contains("CARGO_PKG_NAME"),
        "the owner's variables are not the agent's"
    );
    let kept = fs::read_dir(&commands).unwrap().count();
    assert!(kept > 0, "commands are kept where the caller said");
    let report = server.shutdown(Duration::from_secs(30)).await.unwrap();
    assert!(report.success(), "{report}");
}

#[tokio::test]
async fn pitfall_23_two_servers_share_neither_terminals_nor_state() {
    let home = openhands_tests::home();
    let builder = openhands_tests::server(&home);
    let (one, two) = tokio::join!(builder.clone().start(), builder.start());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.state_dir(), two.state_dir());
    for server in [&one, &two] {
        let workspace = server.workspace(server.workspace_dir());
        let line = "tmux new-session -d -s mine 'sleep 600' && tmux list-sessions | wc -l";
        let output = workspace.execute(line).await.unwrap();
        assert_eq!(output.stdout().trim(), "1", "{output:?}");
    }
    one.shutdown(Duration::from_secs(30)).await.unwrap();
    let workspace = two.workspace(two.workspace_dir());
    let output = workspace.execute("tmux has-session -t mine").await.unwrap();
    assert_eq!(output.exit_code(), Some(0), "{output:?}");
    two.shutdown(Duration::from_secs(30)).await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_forked_server_runs_an_agent_with_separate_keys_and_directories() {
    let homes = [openhands_tests::home(), openhands_tests::home()];
    let builder = |home| {
        let builder = openhands_tests::server(home);
        builder.restart(RestartPolicy::on_failure(1).delays(Duration::from_millis(10), GRACE))
    };
    let begun = Instant::now();
    let (one, two) = tokio::join!(builder(&homes[0]).start(), builder(&homes[1]).start());
    let (one, two) = (one.unwrap(), two.unwrap());
    for server in [&one, &two] {
        assert_eq!(server.startup(), Startup::Forked);
        // The uptime is that of the server, not of the template.
        let uptime = Duration::from_secs_f64(server.info().uptime);
        assert!(uptime <= begun.elapsed(), "up for {uptime:?}");
    }
    let crossed =
        Client::builder(two.url().as_str()).session_api_key(one.session_api_key().clone());
    let error = AttachedServer::attach(crossed.build().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);

    let command = "echo home=$HOME mark=$OPENHANDS_RS_OWNED; pwd; echo done > made.txt";
    let script = Script::new()
        .step(Step::call("terminal", json!({ "command": command })))
        .finish("Done.");
    let model = ScriptedModel::start(script).await.unwrap();
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted");
    let agent = Agent::default_preset(llm).cli_mode(true);
    let workspace = one.workspace(one.workspace_dir().display().to_string());
    let conversation = Conversation::builder(&workspace, agent)
        .start()
        .await
        .unwrap();
    conversation.send("Make a file.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();
    let log: String = conversation
        .events()
        .iter()
        .map(|event| event.as_json().to_owned())
        .collect();
    let home = format!("home={} mark=", homes[0].path().display());
    assert!(log.contains(&home), "{log}");
    assert!(one.workspace_dir().join("made.txt").exists());
    assert!(!two.workspace_dir().join("made.txt").exists());

    // A crashed server is restarted from the same template, and the conversation still exists.
    let mut status = one.status();
    let (pid, keeper) = (one.pid(), parent(one.pid()));
    kill(pid);
    // The watch may skip a short status.
    let back = |now: &Status| *now == Status::Ready && one.pid() != pid;
    status.wait_for(back).await.unwrap();
    assert_eq!(parent(one.pid()), keeper);
    let again = Conversation::attach(one.client(), conversation.id())
        .await
        .unwrap();
    assert!(!again.events().is_empty());

    let places = [one.state_dir().to_owned(), two.state_dir().to_owned()];
    for server in [one, two] {
        let report = server.shutdown(GRACE).await.unwrap();
        assert!(report.success() && !report.killed, "{report}");
        assert_eq!(report.signal, Some(15));
    }
    assert!(places.iter().all(|place| !place.exists()));
}
