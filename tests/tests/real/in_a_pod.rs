//! Real servers as the pods of a fake cluster.

use std::{fs, time::Duration};

use openhands::{
    prelude::*,
    protocol::config::Llm,
    sandbox::{Cluster, KubernetesServer},
    testkit::{
        Script, ScriptedModel,
        kubernetes::{FakeCluster, Pod},
    },
};

async fn pod() -> Pod {
    let home = openhands_tests::home();
    // The first call starts the template, and blocks.
    let (builder, home) =
        tokio::task::spawn_blocking(move || (openhands_tests::server(&home), home))
            .await
            .unwrap();
    let builder = builder
        .deferred_init(true)
        .secret_key(FakeCluster::INIT_KEY);
    let server = builder.start().await.unwrap();
    let address = server.url().socket_addrs(|| None).unwrap()[0];
    Pod::at(address).owning((server, home))
}

/// Starts a conversation whose agent will run a command.
async fn runs(server: &KubernetesServer, command: &str) -> (ScriptedModel, Conversation) {
    let script = Script::new().call("terminal", serde_json::json!({ "command": command }));
    let model = ScriptedModel::start(script.finish("Done.")).await.unwrap();
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1);
    let agent = Agent::default_preset(llm).cli_mode(true);
    let conversation = Conversation::builder(server, agent).start().await.unwrap();
    conversation.send("Go.").await.unwrap();
    (model, conversation)
}

#[tokio::test]
async fn a_conversation_runs_in_a_claimed_pod_and_after_a_pause_and_ends_with_an_eviction() {
    let fake = FakeCluster::builder().pods(pod).start().await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let kubeconfig = place.path().join("config");
    fs::write(&kubeconfig, fake.kubeconfig()).unwrap();
    let server = KubernetesServer::builder()
        .cluster(Cluster::from_kubeconfig(&kubeconfig).await.unwrap())
        .warm_pool("agents")
        .init_key(FakeCluster::INIT_KEY)
        .env("TEAM", "canary-of-the-team")
        .workspace_dir(place.path().display().to_string())
        .start()
        .await
        .unwrap();
    for round in 0..2 {
        if round == 1 {
            server.pause().await.unwrap();
            assert_eq!(fake.running_pods(), 0);
            server.resume().await.unwrap();
        }
        let output = server.execute("echo $TEAM").await.unwrap();
        assert_eq!(output.stdout().trim(), "canary-of-the-team");

        let (model, conversation) = runs(&server, "echo from-the-pod").await;
        let outcome = conversation.run().await.unwrap();
        assert!(outcome.is_finished(), "{outcome}");
        let events = conversation.events();
        let shown = |event: &Event| event.to_string().contains("from-the-pod");
        assert!(events.iter().any(shown));
        conversation.close().await.unwrap();
        model.verify().unwrap();
    }
    let (_model, conversation) = runs(&server, "sleep 600").await;
    let run = conversation.run();
    let evict = async {
        let mut events = conversation.subscribe(Cursor::Start);
        let is_action = |event: &Event| matches!(event.payload(), Payload::Action(_));
        while !is_action(&events.next().await.unwrap().unwrap()) {}
        fake.evict(server.id(), "The node was low on resource: memory");
    };
    let (outcome, ()) = tokio::join!(run, evict);
    let outcome = outcome.unwrap();
    assert_eq!(outcome.status(), RunStatus::ServerGone);
    assert!(outcome.to_string().contains("memory"), "{outcome}");
    server.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(fake.claims().is_empty());
    assert_eq!(fake.running_pods(), 0);
}
