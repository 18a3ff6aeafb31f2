//! [`FakeCluster`], through which a test controls a fake cluster.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    FakeServer, Result,
    http::Listening,
    kubernetes::{
        api::Api,
        controller,
        pod::{Factory, Pod},
        refusal::Refusal,
        store::Key,
        world::{Failure, Rejection, TOKEN, World},
    },
};

/// How often the cluster looks for claims whose shutdown time has passed.
const EXPIRING: Duration = Duration::from_millis(50);

/// A fake cluster on a free loopback port. Dropping it ends the API server and all pods.
#[derive(Debug)]
pub struct FakeCluster {
    world: Arc<World>,
    listening: Listening,
}

/// Builds a [`FakeCluster`].
#[derive(Debug)]
#[must_use]
pub struct FakeClusterBuilder {
    pods: Factory,
    namespace: String,
    warm_pool: String,
    version: Option<String>,
}

impl FakeCluster {
    /// The secret key that activates the default pods.
    pub const INIT_KEY: &str = "fake-init-key-of-the-template";

    /// Starts a cluster with default settings.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be opened.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Returns a builder. By default, each pod is a dormant [`FakeServer`] with
    /// [`INIT_KEY`](Self::INIT_KEY), and the cluster has namespace `default` with warm pool
    /// `agents`.
    pub fn builder() -> FakeClusterBuilder {
        FakeClusterBuilder {
            pods: Factory::new(dormant),
            namespace: "default".to_owned(),
            warm_pool: "agents".to_owned(),
            version: Some("v1beta1".to_owned()),
        }
    }

    /// Returns a kubeconfig for this cluster, whose context is `fake-cluster`.
    pub fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.listening.address());
        let name = "fake-cluster";
        let context = json!({"cluster": name, "user": name, "namespace": self.world.namespace});
        // JSON is valid YAML.
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": server}}],
            "contexts": [{"name": name, "context": context}],
            "users": [{"name": name, "user": {"token": TOKEN}}],
        });
        config.to_string()
    }

    /// Returns the claims.
    pub fn claims(&self) -> Vec<Value> {
        self.world
            .store
            .list("sandboxclaims", &self.world.namespace)
            .0
    }

    /// Returns the number of pods that run.
    pub fn running_pods(&self) -> usize {
        self.world.state().running.len()
    }

    /// Returns the number of requests of each verb and resource, such as `create sandboxclaims`.
    pub fn request_counts(&self) -> BTreeMap<String, usize> {
        self.world.state().requests.clone()
    }

    /// Waits until the condition holds. It is evaluated after each change of an object.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.world.store.changed();
        while !holds(self) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Lets the next claim fail with this reason and message, instead of giving it a sandbox.
    pub fn fail_next(&self, reason: impl Into<String>, message: impl Into<String>) {
        let failure = Failure::Condition(reason.into(), message.into());
        self.world.state().failures.push_back(failure);
    }

    /// Gives the next claim a pod whose container waits, such as for `ImagePullBackOff`.
    pub fn stall_next(&self, reason: impl Into<String>, message: impl Into<String>) {
        let failure = Failure::Waiting(reason.into(), message.into());
        self.world.state().failures.push_back(failure);
    }

    /// Rejects the next `times` requests with this verb (`create`, `get`, `watch`, `patch`,
    /// `delete`, `portforward`, `log`) for this resource (`sandboxclaims`, `sandboxes`, `pods`).
    pub fn reject(
        &self,
        verb: impl Into<String>,
        resource: impl Into<String>,
        status: u16,
        message: impl Into<String>,
        times: usize,
    ) {
        let rejection = Rejection {
            verb: verb.into(),
            plural: resource.into(),
            refusal: Refusal::of_code(status, message.into()),
            left: times,
        };
        self.world.state().rejections.push(rejection);
    }

    /// Breaks all watches, and all streams of output, in the middle of their responses.
    pub fn cut_watches(&self) {
        self.world.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Forgets all changes, so that a watch from an older version ends with 410.
    pub fn forget_changes(&self) {
        self.world.store.forget();
    }

    /// Moves the clock of the cluster ahead, and ends the claims whose shutdown time has passed.
    pub fn advance(&self, by: Duration) {
        self.world.clock.advance(by);
        controller::expire(&self.world);
    }

    /// Moves the clock of the cluster back.
    pub fn skew_back(&self, by: Duration) {
        self.world.clock.set_back(by);
    }

    /// Writes a line to the output of a claim's pod. Returns `false` if the claim has no pod.
    pub fn write_log(&self, claim: &str, line: impl Into<String>) -> bool {
        let Some(pod) = controller::pod_of(&self.world, &self.key(claim)) else {
            return false;
        };
        let line = (self.world.clock.now(), line.into());
        let mut state = self.world.state();
        state.logs.entry(pod).or_default().push(line);
        drop(state);
        self.world.written.send_modify(|lines| *lines += 1);
        true
    }

    /// Ends the pod of a claim, as an eviction does.
    pub fn evict(&self, claim: &str, message: &str) {
        controller::evict(&self.world, &self.key(claim), message);
    }

    /// Deletes a claim, as another client does.
    pub fn delete(&self, claim: &str) {
        let key = self.key(claim);
        let _missing = self.world.store.delete(&key);
        controller::end_sandbox(&self.world, &key);
    }

    /// Stops the API server. Its objects and pods stay.
    pub fn stop(&self) {
        self.world.state().is_down = true;
        self.listening.refuse();
    }

    /// Starts the API server again. Returns `false` if the port was lost.
    pub fn come_back(&self) -> bool {
        self.world.state().is_down = false;
        self.listening.accept()
    }

    fn key(&self, claim: &str) -> Key {
        Key::new("sandboxclaims", &self.world.namespace, claim)
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.world.end();
    }
}

async fn dormant() -> Pod {
    let server = FakeServer::builder()
        .deferred_init(FakeCluster::INIT_KEY)
        .start()
        .await;
    match server {
        Ok(server) => Pod::at(server.address()).owning(server),
        // The pod refuses all connections.
        Err(_) => Pod::at(([127, 0, 0, 1], 1).into()),
    }
}

impl FakeClusterBuilder {
    /// Sets what starts the server of a pod.
    pub fn pods<F>(mut self, start: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Pod> + Send + 'static,
    {
        self.pods = Factory::new(start);
        self
    }

    /// Sets the version in which the cluster serves agent-sandbox. Default `v1beta1`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Starts a cluster without agent-sandbox.
    pub fn without_agent_sandbox(mut self) -> Self {
        self.version = None;
        self
    }

    /// Starts the cluster.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be opened.
    pub async fn start(self) -> Result<FakeCluster> {
        let world = World::new(self.pods, self.namespace, self.warm_pool, self.version);
        let world = Arc::new(world);
        let listening = Listening::start(Api(Arc::clone(&world))).await?;
        let expiring = Arc::clone(&world);
        world.spawn(async move {
            loop {
                controller::expire(&expiring);
                tokio::time::sleep(EXPIRING).await;
            }
        });
        Ok(FakeCluster { world, listening })
    }
}
