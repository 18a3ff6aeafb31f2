//! Pools of dormant containers.

use std::time::{Duration, Instant};

use openhands::{
    prelude::*,
    process::WarmPool,
    protocol::calls::server::GetServerInfo,
    sandbox::{DockerServer, ErrorKind, Sandbox, secrecy::ExposeSecret},
};
use openhands_tests::containers::{builder, containers, docker, is_podman};
use tokio::net::TcpListener;

use super::images::stand_in;

/// Waits until the pool has this number of spares.
async fn filled(pool: &WarmPool<DockerServer>, spares: usize) {
    let begun = Instant::now();
    while pool.ready() != spares {
        assert!(
            begun.elapsed() < Duration::from_secs(180),
            "never {spares} spares: {:?}",
            pool.last_error()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the containers, in the order of their ids.
fn sorted(mut containers: Vec<String>) -> Vec<String> {
    containers.sort();
    containers
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_a_pool_are_spares_with_their_own_keys() {
    let tag = "pool";
    let pool = WarmPool::start(2, builder(tag));
    filled(&pool, 2).await;
    let spares = sorted(containers(tag));
    assert_eq!(spares.len(), 2);

    let acquire = pool.acquire().env("PROJECT", "value-of-one");
    let one = acquire
        .session_api_key("the-callers-own-key-1")
        .secret_key("the-callers-secret-1")
        .conversations_dir("/workspace/mine")
        .await
        .unwrap();
    let two = pool.acquire().await.unwrap();
    let acquired = sorted(vec![one.id().to_owned(), two.id().to_owned()]);
    assert_eq!(acquired, spares);
    // The next spares would take the time of the processors.
    pool.shutdown().await;
    assert_eq!(sorted(containers(tag)), spares);

    let shown = one.execute("echo $PROJECT").await.unwrap();
    assert_eq!(shown.stdout().trim(), "value-of-one");
    let shown = two.execute("echo is:$PROJECT").await.unwrap();
    assert_eq!(shown.stdout().trim(), "is:");
    // Each server accepts its own key and no other.
    assert_eq!(
        one.session_api_key().expose_secret(),
        "the-callers-own-key-1"
    );
    for (server, key) in [(&one, two.session_api_key()), (&two, one.session_api_key())] {
        server.client().check().await.unwrap();
        let wrong = Client::builder(server.url().as_str()).session_api_key(key.clone());
        let error = wrong.build().unwrap().check().await.unwrap_err();
        assert!(error.is_auth(), "{error}");
    }
    // What was handed in is in nothing that the engine shows.
    let shown = docker(&["inspect", one.id()]);
    assert!(shown.contains("OH_DEFERRED_INIT"), "{shown}");
    assert!(!shown.contains("the-callers") && !shown.contains("value-of-one"));

    // Used like any other sandbox.
    let sandbox: Box<dyn Sandbox> = Box::new(one);
    sandbox.pause().await.unwrap();
    sandbox.resume().await.unwrap();
    let shown = sandbox.execute("echo back").await.unwrap();
    assert_eq!(shown.stdout().trim(), "back");
    let report = sandbox.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(report.success(), "{report}");
    drop(two);
    assert_eq!(containers(tag), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn spares_that_were_acquired_are_replaced_and_outlive_their_pool() {
    let tag = "pool-refilled";
    let pool = WarmPool::start(2, stand_in(tag));
    filled(&pool, 2).await;
    let spares = sorted(containers(tag));
    let (one, two) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let acquired = sorted(vec![one.id().to_owned(), two.id().to_owned()]);
    assert_eq!(acquired, spares);
    filled(&pool, 2).await;
    assert_eq!(containers(tag).len(), 4);
    pool.shutdown().await;
    assert_eq!(sorted(containers(tag)), acquired);
    for server in [&one, &two] {
        server
            .client()
            .call(&GetServerInfo::default())
            .await
            .unwrap();
    }
    drop((one, two));
    assert_eq!(containers(tag), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_that_dies_is_replaced_and_never_returned() {
    let tag = "pool-dead";
    let pool = WarmPool::start(1, stand_in(tag));
    filled(&pool, 1).await;
    let [dead] = containers(tag).try_into().unwrap();
    docker(&["kill", &dead]);
    // The pool may not have noticed yet.
    let server = pool.acquire().await.unwrap();
    assert_ne!(server.id(), dead);
    server.client().check().await.unwrap();
    // Without an acquisition.
    filled(&pool, 1).await;
    let spare = |ids: Vec<String>| ids.into_iter().find(|id| id != server.id() && *id != dead);
    let second = spare(containers(tag)).unwrap();
    docker(&["kill", &second]);
    let begun = Instant::now();
    loop {
        let now = spare(containers(tag)).filter(|id| *id != second);
        if pool.ready() == 1 && now.is_some() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(180), "never replaced");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(pool);
    assert_eq!(containers(tag), [server.id()]);
    server.shutdown(Duration::ZERO).await.unwrap();
    assert_eq!(containers(tag), [""; 0]);
}

/// A container that leaves its network runs on, but another program can get its port.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_at_the_port_of_a_spare_receives_nothing() {
    let tag = "pool-port";
    let pool = WarmPool::start(1, stand_in(tag));
    filled(&pool, 1).await;
    let [moved] = containers(tag).try_into().unwrap();
    let address = docker(&["port", &moved, "8000/tcp"]);
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}";
    let network = docker(&["inspect", "--format", networks, &moved]);
    docker(&["network", "disconnect", &network, &moved]);
    let stranger = TcpListener::bind(&address).await;
    if is_podman() {
        // Podman holds the port until the container is removed.
        assert_eq!(stranger.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        return;
    }
    let stranger = stranger.unwrap();
    assert_eq!(pool.ready(), 1, "the spare has ended");
    let acquire = pool.acquire().session_api_key("the-callers-own-key");
    let server = tokio::select! {
        server = acquire.into_future() => server.unwrap(),
        _ = stranger.accept() => panic!("another program would receive the keys"),
    };
    assert_ne!(server.id(), moved);
    pool.shutdown().await;
    server.shutdown(Duration::ZERO).await.unwrap();
    assert_eq!(containers(tag), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_cannot_be_filled_reports_the_reason() {
    let tag = "pool-fails";
    let pool = WarmPool::start(1, builder(tag).image("no-such-image:1"));
    let error = pool.acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoImage, "{error}");
    assert_eq!(pool.last_error().unwrap().kind(), ErrorKind::NoImage);
    assert_eq!(pool.ready(), 0);
    pool.shutdown().await;
    assert_eq!(containers(tag), [""; 0]);
}
