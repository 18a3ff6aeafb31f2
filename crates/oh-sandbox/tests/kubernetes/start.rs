//! From a claim to a verified server, and its end.

use std::time::Duration;

use oh_protocol::calls::conversations::Count;
use oh_sandbox::{ErrorKind, KubernetesServer, Sandbox, Status, secrecy::ExposeSecret};
use oh_testkit::{
    FakeServer,
    kubernetes::{FakeCluster, Pod},
};
use oh_transport::Client;

use crate::{builder, connected, empty};

#[tokio::test]
async fn a_claimed_pod_gets_its_own_key_and_shutdown_deletes_the_claim() {
    let fake = FakeCluster::start().await.unwrap();
    let builder = builder(&fake)
        .await
        .env("GITHUB_TOKEN", "canary-of-a-variable")
        .label("team", "one")
        .pod_label("example.com/task", "two")
        .workspace_dir("/project");
    let server = builder.start().await.unwrap();

    let claim = &fake.claims()[0];
    assert_eq!(claim["metadata"]["name"], server.id());
    assert_eq!(claim["metadata"]["labels"]["team"], "one");
    let pod = &claim["spec"]["additionalPodMetadata"];
    assert_eq!(pod["labels"]["example.com/task"], "two");
    assert_eq!(claim["spec"]["lifecycle"]["shutdownPolicy"], "Delete");
    assert_eq!(claim["status"]["sandbox"]["name"], server.sandbox());
    assert!(!server.is_open());

    // The key is the server's own, and is not stored in the cluster.
    let key = server.session_api_key().expose_secret().to_owned();
    assert!(!claim.to_string().contains(&key) && !claim.to_string().contains("canary"));
    server.client().server_info().await.unwrap();
    let stranger = Client::builder(server.url().as_str()).build().unwrap();
    let denied = stranger.call(Count::default()).await;
    assert_eq!(
        denied.unwrap_err().status().map(|status| status.as_u16()),
        Some(401)
    );

    let sandbox: Box<dyn Sandbox> = Box::new(server);
    assert_eq!(sandbox.working_dir(), "/project");
    let status = sandbox.status();
    let url = sandbox.client().base_url().clone();
    assert_eq!(status.current(), Status::Ready);
    let report = sandbox.shutdown(Duration::ZERO).await.unwrap();
    assert!(report.success(), "{report}");
    assert_eq!(status.current(), Status::Exited(report));
    empty(&fake).await;
    // The forwarded port is closed.
    let gone = Client::builder(url.as_str()).build().unwrap();
    assert!(gone.server_info().await.is_err());
}

#[tokio::test]
async fn a_dropped_server_deletes_its_claim() {
    let fake = FakeCluster::start().await.unwrap();
    let server = builder(&fake).await.start().await.unwrap();
    assert_eq!(fake.running_pods(), 1);
    drop(server);
    empty(&fake).await;
}

#[tokio::test]
async fn a_dropped_start_deletes_its_claim() {
    let fake = FakeCluster::start().await.unwrap();
    fake.stall_next("ContainerCreating", "");
    let builder = builder(&fake).await;
    let starting = tokio::spawn(builder.start());
    fake.until(|fake| fake.claims().len() == 1).await;
    starting.abort();
    assert!(starting.await.unwrap_err().is_cancelled());
    empty(&fake).await;
}

#[tokio::test]
async fn a_pod_can_be_reached_at_its_own_address() {
    let pod = FakeServer::builder()
        .deferred_init(FakeCluster::INIT_KEY)
        .start()
        .await
        .unwrap();
    let address = pod.address();
    let fake = FakeCluster::builder().pods(move || async move { Pod::at(address) });
    let fake = fake.start().await.unwrap();
    let builder = builder(&fake).await.direct(true).port(address.port());
    let server = builder.start().await.unwrap();
    assert_eq!(server.url().port(), Some(address.port()));
    assert_eq!(fake.request_counts().get("portforward pods"), None);
    server.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn an_open_server_is_reported_and_a_guarded_one_needs_its_key() {
    let open = || async {
        let server = FakeServer::builder().open().start().await.unwrap();
        Pod::at(server.address()).owning(server)
    };
    let fake = FakeCluster::builder().pods(open).start().await.unwrap();
    let plain = KubernetesServer::builder()
        .cluster(connected(&fake).await)
        .warm_pool("agents")
        .ready_within(Duration::from_secs(20));
    let server = plain.clone().start().await.unwrap();
    assert!(server.is_open());
    drop(server);
    // A key is not sent to a server that accepts any.
    let error = plain
        .session_api_key("a-key-that-is-long-enough")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
    empty(&fake).await;

    let guarded = || async {
        let server = FakeServer::builder().session_api_key("the-key-of-the-template");
        let server = server.start().await.unwrap();
        Pod::at(server.address()).owning(server)
    };
    let fake = FakeCluster::builder().pods(guarded).start().await.unwrap();
    let plain = KubernetesServer::builder()
        .cluster(connected(&fake).await)
        .warm_pool("agents")
        .ready_within(Duration::from_secs(20));
    let error = plain.clone().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let server = plain
        .session_api_key("the-key-of-the-template")
        .start()
        .await
        .unwrap();
    assert!(!server.is_open());
    server.shutdown(Duration::ZERO).await.unwrap();
    empty(&fake).await;
}
