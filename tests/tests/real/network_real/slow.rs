//! Scenes with a slow link, and with one that stalls in the middle of a refusal.

use std::{
    fs,
    time::{Duration, Instant},
};

use openhands::{
    Client,
    protocol::calls::server::GetServerInfo,
    testkit::{Link, Proxy},
    transport::ErrorKind,
    workspace::ErrorKind as OfWorkspace,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    relay::Relay,
    stage::{LONG, Stage, workspace},
};

/// Returns the length of the head of the server's refusal of a request without a key.
async fn refusal_head(stage: &Stage, request: &str) -> usize {
    let mut stream = TcpStream::connect(stage.server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.len() > 1, "{answer}");
    // The connection of the test is closed after the response, that of the client is not.
    head.replace("connection: close\r\n", "").len() + 4
}

pub(crate) async fn a_refusal_that_stalls(stage: &Stage) {
    let request = "GET /api/conversations/count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let head = refusal_head(stage, request).await as u64;
    let proxy = Proxy::start(stage.server.address()).await.unwrap();
    // The head and one byte of the body arrive.
    proxy.links(move |_| Link::new().stall_after(head + 1));
    let client = Client::builder(proxy.url()).ignore_environment();
    let client = client.build().unwrap();
    let directory = stage.directory("stalls");
    let workspace = workspace(&client, &directory);
    let git = workspace.git();
    let (command, download, changes) = timeout(LONG, async {
        tokio::join!(
            workspace.execute("echo a"),
            workspace.download("a").bytes(),
            git.changes(),
        )
    })
    .await
    .unwrap();
    for error in [
        command.unwrap_err(),
        download.unwrap_err(),
        changes.unwrap_err(),
    ] {
        assert_eq!(error.kind(), OfWorkspace::Unauthorized, "{error}");
        let cause = error.transport_error().unwrap();
        assert_eq!(cause.kind(), ErrorKind::Unauthorized, "{error}");
        assert_eq!(cause.status().map(|it| it.as_u16()), Some(401), "{error}");
    }
}

pub(crate) async fn an_upload_in_one_piece(stage: &Stage) {
    const SIZE: usize = 16 * 1024 * 1024;
    let pause = Duration::from_millis(5);
    let relay = Relay::slow(stage.server.address(), 16 * 1024, pause).await;
    let client = stage.client(relay.url()).build().unwrap();
    client.call(&GetServerInfo::default()).await.unwrap();
    let directory = stage.directory("upload");
    let workspace = workspace(&client, &directory);
    let content = vec![b'x'; SIZE];
    // The whole upload takes longer than this, but always moves.
    let limit = Duration::from_secs(3);
    let begun = Instant::now();
    let upload = workspace.upload("large").idle_timeout(limit);
    let sent = timeout(LONG, upload.from_bytes(content)).await.unwrap();
    assert_eq!(sent.unwrap(), SIZE as u64);
    assert!(begun.elapsed() > limit, "the link was not slow");
    let stored = fs::metadata(directory.join("large")).unwrap();
    assert_eq!(stored.len(), SIZE as u64);
}
