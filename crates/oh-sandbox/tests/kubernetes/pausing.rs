//! Suspended and resumed sandboxes.

use std::time::Duration;

use oh_protocol::calls::conversations::Count;
use oh_sandbox::{ErrorKind, Status, secrecy::ExposeSecret};
use oh_testkit::kubernetes::FakeCluster;

use crate::{builder, empty};

#[tokio::test]
async fn a_resumed_server_has_the_same_url_and_key_in_another_pod() {
    let fake = FakeCluster::start().await.unwrap();
    let server = builder(&fake).await.start().await.unwrap();
    let key = server.session_api_key().expose_secret().to_owned();
    for fault in [false, true] {
        server.pause().await.unwrap();
        assert_eq!(server.status().current(), Status::Paused);
        assert_eq!((fake.claims().len(), fake.running_pods()), (1, 0));
        if fault {
            fake.reject("patch", "sandboxes", 429, "later", 1);
            fake.reject("watch", "sandboxes", 410, "expired", 1);
        }
        server.resume().await.unwrap();
        assert_eq!(server.status().current(), Status::Ready);
        assert_eq!(fake.running_pods(), 1);
        // The new server accepts the key, because it was activated again.
        server.client().call(Count::default()).await.unwrap();
        assert_eq!(server.session_api_key().expose_secret(), key);
        assert_eq!(server.failure(), None);
    }
    server.pause().await.unwrap();
    server.shutdown(Duration::ZERO).await.unwrap();
    empty(&fake).await;
}

#[tokio::test]
async fn a_pause_that_the_cluster_forbids_leaves_the_server_ready() {
    let fake = FakeCluster::start().await.unwrap();
    let server = builder(&fake).await.start().await.unwrap();
    fake.reject("patch", "sandboxes", 403, "cannot patch resource", 1);
    let error = server.pause().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClusterDenied, "{error}");
    assert_eq!(server.status().current(), Status::Ready);
    server.client().call(Count::default()).await.unwrap();
}
