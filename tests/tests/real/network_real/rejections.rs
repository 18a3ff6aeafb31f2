//! Scenes with a gateway that rejects the requests of commands, files and git, and with a server of
//! another kind.

use std::{fs, time::Duration};

use openhands::{
    Conversation, conversation,
    conversation::LinkStatus,
    protocol::{ConversationId, calls::files::ArchiveFormat, config::ConfirmationPolicy},
    testkit::{Fault, Proxy, Script, ScriptedModel, fake::UpgradeRefusal},
    transport::ErrorKind,
    workspace::{self, ErrorKind as OfWorkspace},
};
use tokio::{task::JoinSet, time::timeout};

use super::stage::{LONG, Stage, finishes, start_with, until, workspace};

const KINDS: [(u16, OfWorkspace, ErrorKind); 10] = [
    (401, OfWorkspace::Unauthorized, ErrorKind::Unauthorized),
    (403, OfWorkspace::Forbidden, ErrorKind::Forbidden),
    (404, OfWorkspace::NotFound, ErrorKind::NotFound),
    (409, OfWorkspace::Conflict, ErrorKind::Conflict),
    (418, OfWorkspace::Status, ErrorKind::Status),
    (429, OfWorkspace::RateLimited, ErrorKind::RateLimited),
    (500, OfWorkspace::Server, ErrorKind::Server),
    (502, OfWorkspace::Server, ErrorKind::Server),
    (503, OfWorkspace::Server, ErrorKind::Server),
    (504, OfWorkspace::Server, ErrorKind::Server),
];

/// Checks that a status has the same kind for each operation, from a server (JSON) and from a
/// gateway (HTML), and that nothing was done.
pub(crate) async fn rejected_requests(stage: &Stage) {
    let directory = stage.directory("rejected");
    fs::write(directory.join("file"), "content").unwrap();
    let mut asked = JoinSet::new();
    for (status, kind, theirs) in KINDS {
        for html in [false, true] {
            let proxy = Proxy::start(stage.server.address()).await.unwrap();
            let fault = match html {
                true => Fault::html(status),
                false => Fault::status(status),
            };
            proxy.inject(fault.on("/api/"));
            let client = stage.client(proxy.url()).build().unwrap();
            let workspace = workspace(&client, &directory);
            asked.spawn(async move {
                let _proxy = proxy;
                let git = workspace.git();
                // A gateway's own 404 says nothing about a file.
                let (kind, theirs) = match (status, html) {
                    (404, true) => (OfWorkspace::NotAnAgentServer, ErrorKind::NotAnAgentServer),
                    _ => (kind, theirs),
                };
                let shows = |what: &str, error: workspace::Error| {
                    let text = format!("{what}, {status}, html: {html}: {error:?}");
                    // These endpoints name what they do not find. This response does not, so the
                    // endpoint itself is missing.
                    let kind = match (kind, what) {
                        (OfWorkspace::NotFound, "upload" | "download" | "changes") => {
                            OfWorkspace::Unsupported
                        }
                        (kind, _) => kind,
                    };
                    assert_eq!(error.kind(), kind, "{text}");
                    let cause = error.transport_error().expect(&text);
                    assert_eq!(cause.kind(), theirs, "{text}");
                    assert_eq!(cause.status().map(|it| it.as_u16()), Some(status), "{text}");
                };
                let command = workspace.execute("echo a > ran");
                let upload = workspace.write("ran", "a");
                let download = workspace.download("file").bytes();
                let made = workspace.create_directory("ran");
                let (changes, repository) = (git.changes(), git.is_repository());
                let history = workspace.history().page();
                tokio::join!(
                    async { shows("command", command.await.unwrap_err()) },
                    async { shows("upload", upload.await.unwrap_err()) },
                    async { shows("download", download.await.unwrap_err()) },
                    async { shows("directory", made.await.unwrap_err()) },
                    async { shows("changes", changes.await.unwrap_err()) },
                    async { shows("repository", repository.await.unwrap_err()) },
                    async { shows("history", history.await.unwrap_err()) },
                );
            });
        }
    }
    while let Some(shown) = timeout(LONG, asked.join_next()).await.unwrap() {
        shown.unwrap();
    }
    assert!(!directory.join("ran").exists());
    // The delay that the server asks for is in the error of what must not be repeated.
    let proxy = Proxy::start(stage.server.address()).await.unwrap();
    proxy.inject(
        Fault::status(429)
            .retry_after(Duration::from_secs(7))
            .on("/api/"),
    );
    let client = stage.client(proxy.url()).build().unwrap();
    let error = workspace(&client, &directory)
        .execute("echo a")
        .await
        .unwrap_err();
    let delay = error.transport_error().unwrap().retry_after();
    assert_eq!(delay, Some(Duration::from_secs(7)));
}

/// A command that runs already outlives passing rejections. It is found again after others.
pub(crate) async fn rejections_while_a_command_runs(stage: &Stage) {
    for (status, passes) in [(429, true), (502, true), (401, false), (403, false)] {
        let directory = stage.directory(&format!("running-{status}"));
        let proxy = Proxy::start(stage.server.address()).await.unwrap();
        // Without a socket, the output is read by requests.
        proxy.inject(Fault::refuse_upgrade(UpgradeRefusal::Status(403)));
        let client = stage.client(proxy.url()).build().unwrap();
        let workspace = workspace(&client, &directory);
        let line = "touch begun; while [ ! -e go ]; do sleep 0.05; done; echo done";
        let command = workspace.execute(line).start().await.unwrap();
        until(|| directory.join("begun").exists()).await;
        proxy.inject(Fault::status(status).on("/api/bash/").named("gateway"));
        let rejected = || {
            let seen = proxy.requests();
            seen.iter().filter(|seen| seen.status == status).count() > 1
        };
        let gateway = async {
            if passes {
                until(rejected).await;
                proxy.lift("gateway");
            }
            fs::write(directory.join("go"), "").unwrap();
        };
        let (ended, ()) = timeout(LONG, async { tokio::join!(command.wait(), gateway) })
            .await
            .unwrap();
        let output = match ended {
            Ok(output) => {
                assert!(passes, "{status}");
                output
            }
            Err(error) => {
                assert!(!passes, "{status}: {error}");
                let kind = match status {
                    401 => OfWorkspace::Unauthorized,
                    _ => OfWorkspace::Forbidden,
                };
                assert_eq!(error.kind(), kind, "{error}");
                assert_eq!(error.command_id(), Some(command.id()));
                proxy.lift("gateway");
                let found = workspace.command(command.id()).await.unwrap();
                timeout(LONG, found.wait()).await.unwrap().unwrap()
            }
        };
        assert_eq!(output.stdout(), "done\n", "{status}");
    }
}

/// A login page, another service's 404 and a gateway's 404 are not the responses of an agent
/// server, for any operation.
pub(crate) async fn a_server_of_another_kind(stage: &Stage) {
    let directory = stage.directory("another");
    fs::write(directory.join("file"), "content").unwrap();
    let gateway = async |fault| {
        let proxy = Proxy::start(stage.server.address()).await.unwrap();
        proxy.inject(fault);
        proxy
    };
    let login = gateway(Fault::html(200)).await;
    let missing = gateway(Fault::html(404)).await;
    // The server of a language model, which responds in JSON.
    let model = ScriptedModel::start(Script::new()).await.unwrap();
    for address in [login.address(), missing.address(), model.address()] {
        let client = stage.client(format!("http://{address}")).build().unwrap();
        assert!(!client.is_alive().await);
        let error = client.server_info().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
        let workspace = workspace(&client, &directory);
        let local = directory.join("downloaded");
        let archive = workspace.archive(".", ArchiveFormat::GitDelta);
        for (what, error) in [
            ("info", workspace.server_info().await.map(drop)),
            ("command", workspace.execute("echo a > ran").await.map(drop)),
            ("upload", workspace.write("ran", "a").await),
            ("directory", workspace.create_directory("ran").await),
            ("bytes", workspace.download("file").bytes().await.map(drop)),
            (
                "file",
                workspace.download("file").to_path(&local).await.map(drop),
            ),
            ("archive", archive.download().bytes().await.map(drop)),
            ("changes", workspace.git().changes().await.map(drop)),
            ("diff", workspace.git().diff("file").await.map(drop)),
            (
                "repository",
                workspace.git().is_repository().await.map(drop),
            ),
            ("history", workspace.history().page().await.map(drop)),
            ("clear", workspace.clear_history().await.map(drop)),
        ] {
            let error = error.expect_err(what);
            let kind = error.kind();
            assert_eq!(kind, OfWorkspace::NotAnAgentServer, "{what}: {error}");
        }
        let attached = Conversation::attach(&client, ConversationId::random());
        let error = timeout(LONG, attached).await.unwrap().unwrap_err();
        let kind = conversation::ErrorKind::NotAnAgentServer;
        assert_eq!(error.kind(), kind, "{error}");
    }
    let left: Vec<_> = fs::read_dir(&directory).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// An open conversation outlives a gateway whose session has expired. Nothing counts as done that
/// the login page responded to.
pub(crate) async fn a_login_page_before_a_conversation(stage: &Stage) {
    let proxy = Proxy::start(stage.server.address()).await.unwrap();
    proxy.record();
    let client = stage.client(proxy.url()).build().unwrap();
    let directory = stage.directory("login");
    // Longer than a busy machine needs for a response.
    let limit = Duration::from_secs(10);
    let (conversation, model) = start_with(&client, &directory, |builder| {
        let short = Duration::from_millis(50);
        builder
            .ambiguous_after(limit)
            .reconnect_after(short, 10 * short)
    })
    .await;
    until(|| conversation.link().status() == LinkStatus::Live).await;
    proxy.inject(Fault::html(200).named("login"));
    // The connections of the socket are not affected.
    conversation.send("Lost.").await.unwrap_err();
    conversation.pause().await.unwrap_err();
    conversation.interrupt().await.unwrap_err();
    let policies = conversation.approvals();
    let set = policies.set_policy(ConfirmationPolicy::always()).await;
    let error = set.unwrap_err();
    let kind = conversation::ErrorKind::NotAnAgentServer;
    assert_eq!(error.kind(), kind, "{error}");
    proxy.lift("login");
    until(|| conversation.link().status() == LinkStatus::Live).await;
    // The client keeps a policy that it could not set, and would set it before the run.
    let policy = ConfirmationPolicy::never();
    policies.set_policy(policy).await.unwrap();
    finishes(&conversation, &model, LinkStatus::Live).await;
    let events = conversation.events();
    assert!(!events.iter().any(|event| event.as_json().contains("Lost.")));
}
