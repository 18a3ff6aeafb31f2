//! Scenes with a proxy that environment variables name. Each part runs in a separate process,
//! because variables can only be set safely there.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use openhands::{
    Client, Conversation, conversation,
    conversation::LinkStatus,
    protocol::{ConversationId, calls::server::GetServerInfo},
    testkit::Proxy,
    transport::{ErrorKind, Network},
    workspace::ErrorKind as OfWorkspace,
};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{
    forwarder::{Forwarder, HOST},
    stage::{Stage, TEST, converses, workspace},
};

const ROLE: &str = "OH_TEST_NETWORK";
/// Proxy settings that do not parse.
const INVALID: [&str; 4] = [
    "http://user:pa ss/@127.0.0.1:9",
    "http:/\\/127.0.0.1:9:9",
    "socks5://127.0.0.1:9",
    "http://127.0.0.1:port",
];
const NAMES: [&str; 9] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "REQUEST_METHOD",
];

/// Plays the part of the process that has the variables, if this is one.
pub(crate) async fn role() -> bool {
    let Ok(role) = std::env::var(ROLE) else {
        return false;
    };
    let mut reported = String::new();
    std::io::stdin().read_line(&mut reported).unwrap();
    let reported: Value = serde_json::from_str(&reported).unwrap();
    let text = |name: &str| reported[name].as_str().unwrap().to_owned();
    let (url, directory) = (text("url"), PathBuf::from(text("directory")));
    match role.as_str() {
        "refused" => refuses(&url, &text("key"), &directory).await,
        _ => {
            let client = Client::builder(url)
                .session_api_key(text("key"))
                .resolve(HOST, [Ipv4Addr::LOCALHOST.into()])
                .build();
            converses(&client.unwrap(), &directory, LinkStatus::Live).await;
        }
    }
    true
}

/// Runs a part with these variables.
async fn part(
    stage: &Stage,
    role: &str,
    server: (&str, SocketAddr),
    directory: &Path,
    variables: &[(&str, &str)],
) {
    let reported = json!({
        "url": format!("http://{}:{}", server.0, server.1.port()),
        "key": stage.key(),
        "directory": directory.display().to_string(),
    });
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", TEST])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for name in NAMES {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    let ran = spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        // The key is not in the process table.
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{reported}").unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    });
    let output = ran.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{variables:?}: {said}\n{complaint}"
    );
}

pub(crate) async fn a_proxy_of_the_environment_that_does_not_parse(stage: &Stage) {
    // Where a direct connection would arrive.
    let relay = Proxy::start(stage.server.address()).await.unwrap();
    let directory = stage.directory("invalid");
    for (value, name) in
        INVALID
            .into_iter()
            .zip(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
    {
        let server = (HOST, relay.address());
        part(stage, "refused", server, &directory, &[(name, value)]).await;
    }
    assert_eq!(relay.accepted(), 0, "a request went past the proxy");
}

/// Checks that nothing is sent, also if a program shares a network that was not checked before.
async fn refuses(url: &str, key: &str, directory: &Path) {
    let resolved = [Ipv4Addr::LOCALHOST.into()];
    let builder = || Client::builder(url).session_api_key(key);
    let error = builder().resolve(HOST, resolved).build().unwrap_err();
    let hidden = |text: String| {
        assert!(text.contains("_PROXY") || text.contains("_proxy"), "{text}");
        assert!(!text.contains("pa ss") && !text.contains(key), "{text}");
    };
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    hidden(format!("{error} {error:?}"));

    let network = Network::builder().resolve(HOST, resolved).build().unwrap();
    let client = builder()
        .http_transport(network.clone())
        .socket_transport(network)
        .build()
        .unwrap();
    let error = client.call(&GetServerInfo::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    hidden(format!("{error} {error:?}"));
    let error = client.socket("/sockets/bash-events").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let workspace = workspace(&client, directory);
    let error = workspace.execute("echo a").await.unwrap_err();
    assert_eq!(error.kind(), OfWorkspace::InvalidInput, "{error}");
    let error = workspace.write("a", "a").await.unwrap_err();
    assert_eq!(error.kind(), OfWorkspace::InvalidInput, "{error}");
    let attach = Conversation::attach(&client, ConversationId::random());
    let error = attach.await.unwrap_err();
    assert_eq!(
        error.kind(),
        conversation::ErrorKind::InvalidInput,
        "{error}"
    );
    hidden(format!("{error} {error:?}"));
}

pub(crate) async fn a_proxy_of_the_environment_and_its_exceptions(stage: &Stage) {
    let proxy = Forwarder::start(stage.server.address()).await;
    let url = proxy.url();
    let address = stage.server.address();
    let variables = [("HTTP_PROXY", url.as_str())];
    let directory = stage.directory("excepted");
    let exception = [variables[0], ("NO_PROXY", ".example,agent.test")];
    part(stage, "works", (HOST, address), &directory, &exception).await;
    // Loopback is an exception by itself.
    let directory = stage.directory("loopback");
    part(
        stage,
        "works",
        ("127.0.0.1", address),
        &directory,
        &variables,
    )
    .await;
    assert_eq!(proxy.heads(), [""; 0], "the proxy was asked");
    let directory = stage.directory("proxied");
    part(stage, "works", (HOST, address), &directory, &variables).await;
    proxy.check(address.port(), stage.key());
}
