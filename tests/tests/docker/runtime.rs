//! A local server that runs each conversation in a separate container.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use openhands::{
    conversation::ErrorKind,
    prelude::*,
    process::{ConversationContainers, LocalServerBuilder},
    protocol::{
        calls::conversations::RuntimeStatus,
        config::{Container, ConversationRuntime},
    },
    testkit::{Script, ScriptedModel, Step},
    transport::Client,
};
use openhands_tests::containers::{docker, eventually, image};
use serde_json::json;

use super::owners::{Owner, role};

/// Label of the containers that a server creates for its conversations.
const OWNER: &str = "label=ai.openhands.runtime-owner";

/// Returns a builder for a server whose conversations run in containers.
fn builder(home: &tempfile::TempDir) -> LocalServerBuilder {
    let containers = ConversationContainers::new().image(image()).memory(1 << 30);
    openhands_tests::server(home).conversation_containers(containers)
}

/// Returns the ids of the containers in which directories below `state` are mounted.
pub(super) fn containers(state: &Path) -> Vec<String> {
    let all = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", OWNER]);
    let format = "{{range .Mounts}}{{.Source}}\n{{end}}";
    let of_state = |id: &&str| {
        let inspect = ["inspect", "--format", format, id];
        // A container of another test may have ended since.
        let mounts = Command::new("docker").args(inspect).output().unwrap();
        let mounts = String::from_utf8(mounts.stdout).unwrap();
        mounts
            .lines()
            .any(|mount| Path::new(mount).starts_with(state))
    };
    all.lines().filter(of_state).map(str::to_owned).collect()
}

/// Waits until the engine has removed the containers, which begins when they have stopped.
pub(super) fn removed(state: &Path) {
    eventually("no container", || containers(state).is_empty());
}

/// Makes a scripted model, which listens on loopback, reachable for containers.
pub(super) async fn reachable(model: &ScriptedModel) -> SocketAddr {
    let gateway = "{{(index .IPAM.Config 0).Gateway}}";
    let gateway = docker(&["network", "inspect", "bridge", "--format", gateway]);
    let listener = tokio::net::TcpListener::bind((gateway, 0)).await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), model.address());
    tokio::spawn(async move {
        while let Ok((mut incoming, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut outgoing = tokio::net::TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut incoming, &mut outgoing).await
            });
        }
    });
    address
}

fn agent(model: SocketAddr) -> Agent {
    let llm = Llm::new("openai/scripted")
        .api_key("none")
        .base_url(format!("http://{model}/v1"));
    Agent::default_preset(llm.num_retries(0)).cli_mode(true)
}

fn terminal(command: &str) -> Step {
    Step::call("terminal", json!({ "command": command }))
}

#[tokio::test]
async fn a_conversation_lives_in_a_separate_container() {
    let script = Script::new()
        .step(terminal("hostname > made.txt"))
        .step(Step::finish("Made."))
        .step(terminal("cat made.txt"))
        .step(Step::finish("Read."));
    let model = ScriptedModel::start(script).await.unwrap();
    let address = reachable(&model).await;
    let home = openhands_tests::home();
    let server = builder(&home).start().await.unwrap();
    let state = server.state_dir().canonicalize().unwrap();
    let conversation = Conversation::builder(&server, agent(address))
        .container(Container::new().memory("700m"))
        .start()
        .await
        .unwrap();
    let id = conversation.id();
    let [container] = containers(&state).try_into().unwrap();
    let memory = ["inspect", "--format", "{{.HostConfig.Memory}}", &container];
    assert_eq!(docker(&memory), (700 << 20).to_string());
    let runtime = conversation.runtime();
    let info = runtime.info().await.unwrap();
    assert_eq!(info.runtime_status, RuntimeStatus::Available);

    // The agent works in the container, on files of this machine.
    conversation.send("Go.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    let made = std::fs::read_to_string(server.workspace_dir().join("made.txt")).unwrap();
    assert!(container.starts_with(made.trim()), "{made} {container}");
    let within = server.workspace("/workspace").in_conversation(id);
    let read = within.execute("hostname; cat /workspace/made.txt").await;
    assert_eq!(read.unwrap().stdout(), format!("{made}{made}"));

    // With its key, a client can use the container directly.
    let key = runtime.session_api_key().await.unwrap();
    let port = docker(&["port", &container, "8000/tcp"]);
    let direct = Client::builder(format!("http://{port}")).session_api_key(key.clone());
    direct.build().unwrap().check().await.unwrap();
    let stranger = Client::builder(format!("http://{port}"));
    let stranger = stranger.session_api_key(server.session_api_key().clone());
    let refused = stranger.build().unwrap().check().await.unwrap_err();
    assert!(refused.is_auth(), "{refused}");

    // Without the container, the events can be read.
    conversation.close().await.unwrap();
    runtime.release().await.unwrap();
    runtime.release().await.unwrap();
    removed(&state);
    let info = runtime.info().await.unwrap();
    assert_eq!(info.runtime_status, RuntimeStatus::Missing);
    assert!(info.can_resume);
    let count = conversation.log().search().count().await.unwrap();
    assert!(count > 4, "{count}");
    assert_eq!(containers(&state), [""; 0]);

    // A new container continues with the same files and the same key.
    let info = runtime.reprovision().await.unwrap();
    assert_eq!(info.runtime_status, RuntimeStatus::Available);
    let [again] = containers(&state).try_into().unwrap();
    assert_ne!(again, container);
    use openhands::sandbox::secrecy::ExposeSecret;
    let same = runtime.session_api_key().await.unwrap();
    assert_eq!(same.expose_secret(), key.expose_secret());
    let conversation = Conversation::attach(server.client(), id).await.unwrap();
    conversation.send("Go on.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();

    conversation.delete().await.unwrap();
    removed(&state);
    let error = runtime.info().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
    let report = server.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(report.success(), "{report}");
    assert!(!state.exists());
}

#[tokio::test]
async fn only_conversations_that_ask_for_a_container_get_one() {
    let model = ScriptedModel::start(Script::new()).await.unwrap();
    let address = reachable(&model).await;
    let home = openhands_tests::home();
    let containers_on_request = ConversationContainers::new().image(image()).on_request();
    let server = openhands_tests::server(&home)
        .conversation_containers(containers_on_request)
        .start()
        .await
        .unwrap();
    let state = server.state_dir().canonicalize().unwrap();
    let local = Conversation::builder(&server, agent(address)).start();
    let local = local.await.unwrap();
    assert_eq!(containers(&state), [""; 0]);
    let error = local.runtime().session_api_key().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let error = local.runtime().release().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let contained = Conversation::builder(&server, agent(address))
        .runtime(ConversationRuntime::Docker)
        .start()
        .await
        .unwrap();
    assert_eq!(containers(&state).len(), 1);
    let error = contained
        .secrets()
        .bind("CODEX_AUTH_JSON", "http://h", [("A", "b")]);
    let error = error.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    // The server itself is killed at the end.
    drop(server);
    assert_eq!(containers(&state), [""; 0]);
    assert!(!state.exists());
}

/// Acts as an owner of a server with this state, which has a container if `way` is `kept`, and
/// creates one otherwise.
fn act(way: &str, state: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let home = openhands_tests::home();
        let server = builder(&home).state_dir(state).orphan_grace(Duration::ZERO);
        let server = server.start().await.unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let start = tokio::spawn(Conversation::builder(&server, agent(nowhere)).start());
        if way == "kept" {
            start.await.unwrap().unwrap();
        }
        println!("OWNS");
        std::future::pending::<()>().await;
    });
}

/// Kills an owner, `after` milliseconds after it has started what `way` says.
fn killed(test: &str, way: &str, after: &[u64]) {
    if let Some(role) = role() {
        let (way, state) = role.split_once(' ').unwrap();
        return act(way, state);
    }
    for after in after {
        let place = openhands_tests::home();
        let state = place.path().canonicalize().unwrap();
        let owner = Owner::start(test, &format!("{way} {}", state.display())).prints("OWNS");
        std::thread::sleep(Duration::from_millis(*after));
        if way == "kept" {
            assert_eq!(containers(&state).len(), 1);
        }
        owner.kill();
        assert_eq!(containers(&state), [""; 0], "{after} ms");
    }
}

#[test]
fn a_killed_owner_leaves_no_conversation_container() {
    let test = "runtime::a_killed_owner_leaves_no_conversation_container";
    killed(test, "kept", &[0]);
}

#[test]
fn an_owner_killed_while_a_conversation_starts_leaves_no_container() {
    let test = "runtime::an_owner_killed_while_a_conversation_starts_leaves_no_container";
    killed(test, "begun", &[700]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_reported() {
    let model = ScriptedModel::start(Script::new()).await.unwrap();
    let home = openhands_tests::home();
    let missing = ConversationContainers::new().image("127.0.0.1:1/no-such-image:1");
    let server = openhands_tests::server(&home)
        .conversation_containers(missing)
        .start()
        .await
        .unwrap();
    let start = Conversation::builder(&server, agent(model.address())).start();
    let error = start.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    // The log may be read after the response.
    eventually("the reason in the log", || {
        server.log_tail().join("\n").contains("no-such-image")
    });
}
