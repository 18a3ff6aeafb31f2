//! Templates in containers, and the servers that are forked from them.

use std::time::Duration;

use openhands::{
    prelude::*,
    sandbox::{DockerTemplate, ErrorKind, Sandbox, Status, secrecy::ExposeSecret},
};
use openhands_tests::containers::{builder, containers, docker, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_a_template_have_their_own_keys_variables_and_ports() {
    let tag = "template";
    let template = DockerTemplate::start(2, builder(tag)).await.unwrap();
    assert_eq!(containers(tag), [template.id()]);
    let fork = template.server().env("PROJECT", "value-of-one");
    let one = fork
        .session_api_key("the-callers-own-key-1")
        .secret_key("the-callers-secret-1")
        .await
        .unwrap();
    let two = template.server().workspace_dir("/tmp").await.unwrap();
    // Both were forked from the template: no other process has imported the modules.
    let processes = docker(&["top", template.id(), "-eo", "pid,ppid,args"]);
    println!("{processes}");

    let shown = one.execute("echo $PROJECT; id -u").await.unwrap();
    assert_eq!(shown.stdout(), "value-of-one\n10001\n");
    let shown = two.execute("echo is:$PROJECT; pwd").await.unwrap();
    assert_eq!(shown.stdout(), "is:\n/tmp\n");
    for (server, key) in [(&one, two.session_api_key()), (&two, one.session_api_key())] {
        assert!(server.url().as_str().starts_with("http://127.0.0.1:"));
        server.client().check().await.unwrap();
        let wrong = Client::builder(server.url().as_str()).session_api_key(key.clone());
        let error = wrong.build().unwrap().check().await.unwrap_err();
        assert!(error.is_auth(), "{error}");
    }
    // Neither what the engine shows nor its log contains the keys.
    let shown = docker(&["inspect", template.id()]) + &docker(&["logs", template.id()]);
    for secret in [
        "the-callers",
        "value-of-one",
        two.session_api_key().expose_secret(),
    ] {
        assert!(!shown.contains(secret));
    }
    assert!(!one.log_tail().is_empty() && !two.log_tail().is_empty());

    // All ports are in use, until one server has ended with all that it started.
    let error = template.server().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let started = one
        .execute("setsid sleep 4321 >/dev/null 2>&1 & echo started")
        .await;
    assert!(started.unwrap().success());
    let running = || docker(&["top", template.id(), "-eo", "pid,args"]).contains("sleep 4321");
    eventually("the command", running);
    let sandbox: Box<dyn Sandbox> = Box::new(one);
    let error = sandbox.pause().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let report = sandbox.shutdown(Duration::from_secs(20)).await.unwrap();
    assert!(report.success(), "{report}");
    assert!(!running());
    let three = template.server().await.unwrap();
    three.client().check().await.unwrap();
    two.client().check().await.unwrap();

    let error = template.server().env("LITELLM_LOG", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    // The container lasts as long as one of its servers.
    drop(template);
    drop(two);
    assert_eq!(containers(tag).len(), 1);
    three.client().check().await.unwrap();
    drop(three);
    assert_eq!(containers(tag), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_template_is_replaced_and_servers_end_with_their_container() {
    let tag = "template-ends";
    let template = DockerTemplate::start(2, builder(tag)).await.unwrap();
    let one = template.server().await.unwrap();
    let ended = one
        .execute("pkill -f '[t]emplate of agent servers'; echo")
        .await;
    ended.unwrap();
    one.client().check().await.unwrap();
    let two = template.server().await.unwrap();
    two.client().check().await.unwrap();
    let mut status = one.status();
    docker(&["kill", template.id()]);
    let last = status
        .wait_for(|status| matches!(status, Status::Exited(_)))
        .await;
    assert!(last.is_some());
    let report = two.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.signal, Some(9));
    let error = template.server().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Died, "{error}");
    template.shutdown(Duration::ZERO).await.unwrap();
    assert_eq!(containers(tag), [""; 0]);
}
