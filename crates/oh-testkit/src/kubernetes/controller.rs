//! The controllers of agent-sandbox: they give sandboxes to claims, and end them.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kubernetes::{
    clock,
    store::{Key, Part},
    world::{AGENTS, Failure, World},
};

/// The annotation with the name of a sandbox's pod.
const POD_NAME: &str = "agents.x-k8s.io/pod-name";

/// Gives a sandbox of the warm pool to a new claim.
pub(crate) async fn bind(world: Arc<World>, claim: Key) {
    let Ok(object) = world.store.get(&claim) else {
        return;
    };
    if object["spec"]["warmPoolRef"]["name"] != world.warm_pool.as_str() {
        let message = format!(
            "warm pool {} not found",
            object["spec"]["warmPoolRef"]["name"]
        );
        return fail(&world, &claim, "WarmPoolNotFound", &message);
    }
    let failure = world.state().failures.pop_front();
    if let Some(Failure::Condition(reason, message)) = &failure {
        return fail(&world, &claim, reason, message);
    }
    let sandbox = Key::new(
        "sandboxes",
        &claim.namespace,
        &format!("{}-sandbox", claim.name),
    );
    let pod = Key::new(
        "pods",
        &claim.namespace,
        &format!("{}-pod", world.warm_pool_pod()),
    );
    create_sandbox(&world, &sandbox, &pod, &object);
    if let Some(Failure::Waiting(reason, message)) = failure {
        let waiting = json!([{
            "name": "server", "ready": false, "image": "", "imageID": "", "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        }]);
        let status = json!({"phase": "Pending", "containerStatuses": waiting});
        create_pod(&world, &pod, &status);
        let waits = condition(
            "Ready",
            "False",
            "DependenciesNotReady",
            "the pod is not ready",
        );
        set_status(
            &world,
            &claim,
            json!({"conditions": [waits], "sandbox": sandbox_of(&sandbox)}),
        );
        return;
    }
    let started = world.pods.start().await;
    let status = json!({"phase": "Running", "podIP": started.address.ip().to_string()});
    let mut bound = sandbox_of(&sandbox);
    bound["podIPs"] = json!([started.address.ip().to_string()]);
    world.state().running.insert(pod.clone(), started);
    create_pod(&world, &pod, &status);
    if world.store.get(&claim).is_err() {
        // Deleted meanwhile.
        return end_sandbox(&world, &claim);
    }
    let ready = condition("Ready", "True", "DependenciesReady", "");
    set_status(&world, &sandbox, json!({"conditions": [ready]}));
    set_status(
        &world,
        &claim,
        json!({"conditions": [ready], "sandbox": bound}),
    );
}

impl World {
    /// Returns a name for a new pod, which differs from that of its sandbox.
    fn warm_pool_pod(&self) -> String {
        format!("{}-{}", self.warm_pool, uuid::Uuid::new_v4().simple())
    }
}

fn sandbox_of(sandbox: &Key) -> Value {
    json!({"name": sandbox.name})
}

fn create_sandbox(world: &World, sandbox: &Key, pod: &Key, claim: &Value) {
    let version = world.version.as_deref().unwrap_or_default();
    let object = json!({
        "apiVersion": format!("{AGENTS}/{version}"),
        "kind": "Sandbox",
        "metadata": {
            "name": sandbox.name,
            "annotations": {POD_NAME: pod.name},
            "ownerReferences": [{
                "apiVersion": claim["apiVersion"], "kind": "SandboxClaim",
                "name": claim["metadata"]["name"], "uid": claim["metadata"]["uid"],
            }],
        },
        "spec": {"operatingMode": "Running"},
    });
    let _exists = world.store.create(sandbox.clone(), object);
}

fn create_pod(world: &World, pod: &Key, status: &Value) {
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod.name},
        "spec": {"containers": [{"name": "server"}]},
        "status": status,
    });
    let _exists = world.store.create(pod.clone(), object);
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": clock::text(Timestamp::now()),
    })
}

fn set_status(world: &World, key: &Key, status: Value) {
    // The object may have been deleted meanwhile.
    let _deleted = world
        .store
        .update(key, Part::Status, |object| object["status"] = status);
}

/// Carries out the operating mode of a sandbox. A resumed sandbox gets another pod.
pub(crate) async fn operate(world: Arc<World>, sandbox: Key) {
    let Ok(object) = world.store.get(&sandbox) else {
        return;
    };
    let claim = sandbox.name.trim_end_matches("-sandbox");
    let claim = Key::new("sandboxclaims", &sandbox.namespace, claim);
    let has_pod = pod_of(&world, &claim).is_some_and(|pod| world.store.get(&pod).is_ok());
    let suspended = object["spec"]["operatingMode"] == "Suspended";
    let conditions = match (suspended, has_pod) {
        (true, true) => {
            end_pod(&world, &claim);
            json!([
                condition("Suspended", "True", "PodTerminated", ""),
                condition(
                    "Ready",
                    "False",
                    "SandboxSuspended",
                    "the sandbox is suspended"
                ),
            ])
        }
        (false, false) => {
            let pod = Key::new("pods", &sandbox.namespace, &world.warm_pool_pod());
            let started = world.pods.start().await;
            let ip = started.address.ip().to_string();
            world.state().running.insert(pod.clone(), started);
            create_pod(&world, &pod, &json!({"phase": "Running", "podIP": ip}));
            let named = |object: &mut Value| {
                object["metadata"]["annotations"][POD_NAME] = json!(pod.name);
            };
            let _deleted = world.store.update(&sandbox, Part::Main, named);
            json!([condition("Ready", "True", "DependenciesReady", "")])
        }
        _ => return,
    };
    set_status(&world, &sandbox, json!({"conditions": conditions}));
    if let Ok(mut object) = world.store.get(&claim) {
        object["status"]["conditions"] = conditions;
        set_status(&world, &claim, object["status"].take());
    }
}

fn end_pod(world: &World, claim: &Key) {
    if let Some(pod) = pod_of(world, claim) {
        world.state().running.remove(&pod);
        let _gone = world.store.delete(&pod);
    }
}

/// Sets a claim's condition `Ready` to false.
pub(crate) fn fail(world: &World, claim: &Key, reason: &str, message: &str) {
    let mut status = match world.store.get(claim) {
        Ok(object) if object["status"].is_object() => object["status"].clone(),
        _ => json!({}),
    };
    status["conditions"] = json!([condition("Ready", "False", reason, message)]);
    set_status(world, claim, status);
}

/// Ends the pod of a claim, as an eviction does.
pub(crate) fn evict(world: &World, claim: &Key, message: &str) {
    end_pod(world, claim);
    let mut status = match world.store.get(claim) {
        Ok(object) => object["status"].clone(),
        Err(_) => return,
    };
    status["conditions"] = json!([
        condition("Ready", "False", "DependenciesNotReady", message),
        condition("Finished", "True", "PodFailed", message),
    ]);
    set_status(world, claim, status);
}

/// Deletes the sandbox and the pod of a claim that was deleted.
pub(crate) fn end_sandbox(world: &World, claim: &Key) {
    end_pod(world, claim);
    let sandbox = Key::new(
        "sandboxes",
        &claim.namespace,
        &format!("{}-sandbox", claim.name),
    );
    let _gone = world.store.delete(&sandbox);
}

/// Returns the pod of a claim's sandbox.
pub(crate) fn pod_of(world: &World, claim: &Key) -> Option<Key> {
    let sandbox = Key::new(
        "sandboxes",
        &claim.namespace,
        &format!("{}-sandbox", claim.name),
    );
    let found = world.store.get(&sandbox).ok()?;
    let pod = found["metadata"]["annotations"][POD_NAME].as_str()?;
    Some(Key::new("pods", &claim.namespace, pod))
}

/// Deletes the claims whose shutdown time has passed.
pub(crate) fn expire(world: &World) {
    let now = world.clock.now();
    let (claims, _) = world.store.list("sandboxclaims", &world.namespace);
    for claim in claims {
        let lifecycle = &claim["spec"]["lifecycle"];
        let time = lifecycle["shutdownTime"].as_str();
        let Some(Ok(time)) = time.map(str::parse::<Timestamp>) else {
            continue;
        };
        if time > now {
            continue;
        }
        let name = claim["metadata"]["name"].as_str().unwrap_or_default();
        let key = Key::new("sandboxclaims", &world.namespace, name);
        fail(world, &key, "ClaimExpired", "the shutdown time has passed");
        end_sandbox(world, &key);
        if lifecycle["shutdownPolicy"] == "Delete" {
            let _gone = world.store.delete(&key);
        }
    }
}
