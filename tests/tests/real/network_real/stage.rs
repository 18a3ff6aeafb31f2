//! The stage of all scenes: one real server. Each scene puts another network in front of it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use openhands::{
    Agent, Client, Conversation, LocalServer, Workspace, WorkspaceExt,
    conversation::{ConversationBuilder, LinkStatus},
    protocol::config::Llm,
    testkit::{Script, ScriptedModel},
    transport::ClientBuilder,
};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    addresses, environment, proxies, rejections, replaced, slow, sockets as socket_scenes, tls,
};

/// A duration longer than any operation takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(120);
/// Maximum number of concurrent scenes.
const AT_ONCE: usize = 6;

pub(crate) struct Stage {
    pub(crate) server: LocalServer,
    places: Semaphore,
}

impl Stage {
    /// Creates a builder for a client of the server at this URL, with the server's key.
    pub(crate) fn client(&self, url: impl Into<String>) -> ClientBuilder {
        Client::builder(url)
            .session_api_key(self.server.session_api_key().clone())
            .ignore_environment()
    }

    /// Returns the session key, to search for it.
    pub(crate) fn key(&self) -> &str {
        self.server.session_api_key().expose_secret()
    }

    /// Creates a directory for a scene.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let directory = self.server.workspace_dir().join(name);
        fs::create_dir(&directory).unwrap();
        directory
    }
}

/// Returns a directory of the server as a workspace.
pub(crate) fn workspace(client: &Client, directory: &Path) -> Workspace {
    client.workspace(directory.display().to_string())
}

/// Starts a conversation whose agent will execute one command. Returns its model too.
pub(crate) async fn start(client: &Client, directory: &Path) -> (Conversation, ScriptedModel) {
    start_with(client, directory, |builder| builder).await
}

pub(crate) async fn start_with(
    client: &Client,
    directory: &Path,
    with: impl FnOnce(ConversationBuilder) -> ConversationBuilder,
) -> (Conversation, ScriptedModel) {
    let command = "echo over $((40 + 2)) networks";
    let script = Script::new()
        .call("terminal", json!({ "command": command }))
        .finish("Done.");
    let model = ScriptedModel::start(script).await.unwrap();
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1);
    let agent = Agent::default_preset(llm).cli_mode(true);
    let workspace = workspace(client, directory);
    let builder = with(Conversation::builder(&workspace, agent));
    let conversation = timeout(LONG, builder.start()).await.unwrap().unwrap();
    (conversation, model)
}

/// Runs a conversation to its end, and checks that its events have arrived.
pub(crate) async fn finishes(conversation: &Conversation, model: &ScriptedModel, link: LinkStatus) {
    conversation.send("Go.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();
    let events = conversation.events();
    let said = |words: &str| events.iter().any(|event| event.as_json().contains(words));
    let observed = || {
        let events = events.of_kind("ObservationEvent");
        events
            .map(|event| event.as_json().to_string())
            .collect::<Vec<_>>()
    };
    assert!(said("over 42 networks"), "{:?}", observed());
    until(|| conversation.link().status() == link).await;
}

/// Runs a command to its end, and checks its output.
pub(crate) async fn executes(client: &Client, directory: &Path) {
    let workspace = workspace(client, directory);
    let output = workspace.execute("echo over $((40 + 2)) networks");
    let output = timeout(LONG, output).await.unwrap().unwrap();
    assert_eq!(output.stdout(), "over 42 networks\n");
}

/// Runs a whole conversation and a command through a client: REST and sockets.
pub(crate) async fn converses(client: &Client, directory: &Path, link: LinkStatus) {
    let (conversation, model) = start(client, directory).await;
    finishes(&conversation, &model, link).await;
    executes(client, directory).await;
    timeout(LONG, conversation.close()).await.unwrap().unwrap();
}

pub(crate) async fn until(mut happens: impl FnMut() -> bool) {
    let happens = async {
        while !happens() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, happens).await.unwrap();
}

/// The name of the only test. Starting a server takes long, so all scenes share one.
pub(crate) const TEST: &str =
    "network_real::stage::conversations_work_or_fail_with_a_typed_error_over_any_network";

#[tokio::test]
async fn conversations_work_or_fail_with_a_typed_error_over_any_network() {
    if environment::role().await {
        return;
    }
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).env("OH_MAX_CONCURRENT_RUNS", "40");
    let server = server.start().await.unwrap();
    let stage = Arc::new(Stage {
        server,
        places: Semaphore::new(AT_ONCE),
    });
    let mut plays = JoinSet::new();
    let mut names = HashMap::new();
    macro_rules! play {
        ($($of:ident: $($scene:ident),+;)+) => {$($({
            let stage = stage.clone();
            let play = async move {
                let _place = stage.places.acquire().await.unwrap();
                let begun = Instant::now();
                $of::$scene(&stage).await;
                println!("{}: {:?}", stringify!($scene), begun.elapsed());
            };
            names.insert(plays.spawn(play).id(), stringify!($scene));
        })+)+};
    }
    play! {
        replaced:
            a_server_that_is_replaced_by_an_older_one;
        proxies:
            a_conversation_through_a_forwarding_proxy,
            a_conversation_through_a_proxy_without_tunnels,
            a_proxy_that_refuses;
        environment:
            a_proxy_of_the_environment_that_does_not_parse,
            a_proxy_of_the_environment_and_its_exceptions;
        addresses:
            a_silent_ipv6_address;
        tls:
            a_terminator_that_wants_a_client_certificate;
        socket_scenes:
            a_wrong_key_and_an_unknown_conversation,
            a_key_that_expires,
            a_server_without_room_for_another_socket,
            close_codes_of_a_gateway,
            subprotocols;
        rejections:
            rejected_requests,
            rejections_while_a_command_runs,
            a_server_of_another_kind,
            a_login_page_before_a_conversation;
        slow:
            a_refusal_that_stalls,
            an_upload_in_one_piece;
    }
    let mut failed = Vec::new();
    while let Some(played) = plays.join_next_with_id().await {
        let id = match &played {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        if played.is_err() {
            failed.push(names[&id]);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:#?}");
    let stage = Arc::into_inner(stage).unwrap();
    let shutdown = stage.server.shutdown(Duration::from_secs(20));
    shutdown.await.unwrap();
}
