//! A server in a pod of a Kubernetes cluster, claimed from a warm pool of agent-sandbox.
//!
//! Run it with `cargo run -p openhands-examples --example kubernetes`. `OPENHANDS_WARM_POOL`
//! selects a warm pool of the cluster in the kubeconfig, and `OPENHANDS_INIT_KEY` is the key in its
//! template: see `docs/kubernetes.md`. Without them, a fake cluster takes the place of a real one.
//! Its pods are servers on this machine.

use std::{env, fs, time::Duration};

use openhands::{
    prelude::*,
    process::LocalServerBuilder,
    sandbox::{Cluster, KubernetesServer},
    testkit::kubernetes::{FakeCluster, Pod},
};
use openhands_examples::Result;

#[tokio::main]
async fn main() -> Result {
    example(LocalServer::builder()).await
}

/// Runs the example. The servers of the fake pods are of this builder.
pub async fn example(servers: LocalServerBuilder) -> Result {
    // 1. Choose the cluster. Share it between all servers of a program.
    let fake = match env::var_os("OPENHANDS_WARM_POOL") {
        None => {
            let pods = move || pod(servers.clone());
            Some(FakeCluster::builder().pods(pods).start().await?)
        }
        Some(_) => None,
    };
    let (cluster, pool, init_key) = match &fake {
        None => (
            Cluster::connect().await?,
            env::var("OPENHANDS_WARM_POOL")?,
            env::var("OPENHANDS_INIT_KEY")?,
        ),
        Some(fake) => {
            println!("FAKE CLUSTER: set OPENHANDS_WARM_POOL to use a real one");
            let directory = tempfile::tempdir()?;
            let kubeconfig = directory.path().join("config");
            fs::write(&kubeconfig, fake.kubeconfig())?;
            let cluster = Cluster::from_kubeconfig(&kubeconfig).await?;
            (
                cluster,
                "agents".to_owned(),
                FakeCluster::INIT_KEY.to_owned(),
            )
        }
    };

    // 2. Claim a sandbox. Its dormant server gets its key and its variables now. If this program is
    //    killed, the cluster deletes the claim after the lease.
    let server = KubernetesServer::builder()
        .cluster(cluster)
        .warm_pool(pool)
        .init_key(init_key)
        .env("TEAM", "ada")
        .lease(Duration::from_secs(120))
        .workspace_dir("/tmp")
        .start()
        .await?;
    println!("claim {} has {}", server.id(), server.sandbox());
    println!("server: {} at {}", server.info().version, server.url());

    // 3. Use the server like any other, also for conversations.
    let output = server.execute("echo \"The pod works for $TEAM.\"").await?;
    println!("{}", output.stdout().trim());

    // 4. Delete the claim. The cluster ends the sandbox and its pod.
    let ended = server.shutdown(Duration::from_secs(10)).await?;
    println!("server: {ended}");
    if fake.is_some_and(|fake| !fake.claims().is_empty() || fake.running_pods() > 0) {
        return Err("the claim or its pod is left".into());
    }
    if !output.stdout().contains("ada") {
        return Err("the server does not have the variable".into());
    }
    Ok(())
}

/// Starts the server of a pod of the fake cluster, as the template in `docs/kubernetes.md` does.
async fn pod(server: LocalServerBuilder) -> Pod {
    let builder = server.deferred_init(true).secret_key(FakeCluster::INIT_KEY);
    let server = builder.start().await.expect("a server on this machine");
    let address = server.url().socket_addrs(|| None).expect("an address");
    Pod::at(address[0]).owning(server)
}
