//! Bad input and failed claims, with the reason of the cluster.

use std::time::Duration;

use oh_sandbox::{ClaimReason, Cluster, ErrorKind, KubernetesServer};
use oh_testkit::{
    FakeServer,
    kubernetes::{FakeCluster, Pod},
};

use crate::{builder, connected, empty};

#[tokio::test]
async fn each_terminal_reason_is_a_named_failure_and_leaves_no_claim() {
    let fake = FakeCluster::start().await.unwrap();
    let builder = builder(&fake).await;
    for (name, reason) in [
        ("TemplateNotFound", ClaimReason::TemplateNotFound),
        ("InvalidMetadata", ClaimReason::InvalidMetadata),
        (
            "EnvVarsInjectionRejected",
            ClaimReason::EnvVarsInjectionRejected,
        ),
        (
            "VolumeClaimTemplatesError",
            ClaimReason::VolumeClaimTemplatesError,
        ),
        ("ClaimExpired", ClaimReason::ClaimExpired),
        ("SandboxExpired", ClaimReason::SandboxExpired),
        ("InvalidConfiguration", ClaimReason::InvalidConfiguration),
        ("PodFailed", ClaimReason::PodFailed),
        ("PodSucceeded", ClaimReason::PodSucceeded),
    ] {
        fake.fail_next(name, "the cluster's own words");
        let error = builder.clone().start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Claim, "{error}");
        assert_eq!(error.claim_failure().unwrap().reason, reason);
        assert!(
            error.to_string().contains("the cluster's own words"),
            "{error}"
        );
    }
    let error = builder.warm_pool("other").start().await.unwrap_err();
    assert_eq!(
        error.claim_failure().unwrap().reason,
        ClaimReason::WarmPoolNotFound
    );
    empty(&fake).await;
}

#[tokio::test]
async fn rejected_requests_have_the_words_of_the_cluster_and_a_remedy() {
    let fake = FakeCluster::start().await.unwrap();
    let builder = builder(&fake).await;
    let quota = "sandboxclaims is forbidden: exceeded quota: claims";
    for (status, message, kind, remedy) in [
        (
            401,
            "Unauthorized",
            ErrorKind::ClusterDenied,
            "log in again",
        ),
        (
            403,
            "cannot create resource",
            ErrorKind::ClusterDenied,
            "docs/kubernetes.md",
        ),
        (403, quota, ErrorKind::Quota, "higher quota"),
        (
            422,
            "metadata.labels: Invalid value",
            ErrorKind::InvalidInput,
            "metadata.labels",
        ),
    ] {
        fake.reject("create", "sandboxclaims", status, message, 1);
        let error = builder.clone().start().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let shown = error.to_string();
        assert!(shown.contains(message) && shown.contains(remedy), "{shown}");
    }
    // Claims that exist are deleted if a later verb is forbidden.
    for (verb, resource) in [("watch", "sandboxclaims"), ("get", "sandboxes")] {
        fake.reject(verb, resource, 403, "no", 1);
        let error = builder.clone().start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ClusterDenied, "{error}");
    }
    // The sandbox has vanished between two requests.
    fake.reject("get", "sandboxes", 404, "sandboxes \"x\" not found", 1);
    let error = builder.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("\"x\" not found"), "{error}");
    empty(&fake).await;
}

/// Chooses a context in a child process, because the kubeconfig is named by a variable.
#[tokio::test]
async fn child_process_with_a_kubeconfig() {
    let Ok(context) = std::env::var("OH_TEST_CONTEXT") else {
        return;
    };
    let builder = KubernetesServer::builder().context(context).warm_pool("x");
    println!("> {}", builder.start().await.unwrap_err());
}

#[tokio::test]
async fn a_wrong_context_of_the_kubeconfig_is_named() {
    let fake = FakeCluster::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(&path, fake.kubeconfig()).unwrap();
    let shown = |context: &'static str| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args([
            "--exact",
            "errors::child_process_with_a_kubeconfig",
            "--nocapture",
        ]);
        child
            .env("OH_TEST_CONTEXT", context)
            .env("KUBECONFIG", &path);
        async move {
            let output = tokio::task::spawn_blocking(move || child.output().unwrap());
            String::from_utf8(output.await.unwrap().stdout).unwrap()
        }
    };
    let wrong = shown("production").await;
    assert!(
        wrong.contains("cannot use context \"production\""),
        "{wrong}"
    );
    assert!(wrong.contains("check the kubeconfig"), "{wrong}");
    // The other context reaches the cluster, which has no such warm pool.
    let right = shown("fake-cluster").await;
    assert!(right.contains("WarmPoolNotFound"), "{right}");
}

#[tokio::test]
async fn a_missing_namespace_context_cluster_or_version_is_named() {
    let fake = FakeCluster::start().await.unwrap();
    let error = builder(&fake)
        .await
        .namespace("elsewhere")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("elsewhere"), "{error}");

    let error = Cluster::from_kubeconfig("/no/such/file").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoCluster, "{error}");
    assert!(error.to_string().contains("/no/such/file"), "{error}");

    let fake = FakeCluster::builder()
        .version("v1alpha1")
        .start()
        .await
        .unwrap();
    let error = builder(&fake).await.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let shown = error.to_string();
    assert!(
        shown.contains("version v1alpha1") && shown.contains("upgrade"),
        "{shown}"
    );

    let fake = FakeCluster::builder()
        .without_agent_sandbox()
        .start()
        .await
        .unwrap();
    let error = builder(&fake).await.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("install"), "{error}");

    let cluster = connected(&fake).await;
    drop(fake);
    let gone = KubernetesServer::builder()
        .cluster(cluster)
        .warm_pool("agents")
        .ready_within(Duration::from_millis(200));
    let error = gone.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoCluster, "{error}");
}

#[tokio::test]
async fn a_pod_that_is_never_ready_is_explained_by_its_container() {
    let fake = FakeCluster::start().await.unwrap();
    let builder = builder(&fake)
        .await
        .ready_within(Duration::from_millis(500));
    for (reason, kind) in [
        ("ImagePullBackOff", ErrorKind::PullFailed),
        ("ContainerCreating", ErrorKind::NotReady),
    ] {
        fake.stall_next(reason, "why it waits");
        let error = builder.clone().start().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let shown = error.to_string();
        assert!(
            shown.contains(reason) && shown.contains("why it waits"),
            "{shown}"
        );
    }
    empty(&fake).await;
}

#[tokio::test]
async fn an_init_key_that_does_not_fit_the_server_is_explained() {
    let fake = FakeCluster::start().await.unwrap();
    let builder_ = builder(&fake).await;
    let error = builder_
        .init_key("a-wrong-init-key")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let plain = KubernetesServer::builder()
        .cluster(connected(&fake).await)
        .warm_pool("agents");
    let error = plain.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("init_key"), "{error}");
    empty(&fake).await;

    let active = || async {
        let server = FakeServer::start().await.unwrap();
        Pod::at(server.address()).owning(server)
    };
    let fake = FakeCluster::builder().pods(active).start().await.unwrap();
    let error = builder(&fake).await.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
    assert!(error.to_string().contains("OH_DEFERRED_INIT"), "{error}");
    empty(&fake).await;
}
