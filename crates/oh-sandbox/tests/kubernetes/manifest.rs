//! The manifests in the guides: they refer to each other, and permit what a server of a pod needs.

use std::{fs, time::Duration};

use oh_testkit::kubernetes::FakeCluster;
use serde_json::Value;

use crate::{builder, empty};

/// Returns the objects of all manifests in the guides about clusters and fleets.
fn objects() -> Vec<Value> {
    let mut objects = Vec::new();
    for page in ["kubernetes.md", "fleet.md"] {
        let path = format!("{}/../../docs/{page}", env!("CARGO_MANIFEST_DIR"));
        let guide = fs::read_to_string(path).unwrap();
        for block in guide.split("```yaml\n").skip(1) {
            let (block, _) = block.split_once("```").unwrap();
            let parsed = block.split("\n---\n").map(serde_saphyr::from_str);
            objects.extend(parsed.map(Result::<Value, _>::unwrap));
        }
    }
    objects
}

/// Returns the only object of a kind.
fn the<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut of_kind = objects.iter().filter(|object| object["kind"] == kind);
    let found = of_kind.next().expect(kind);
    assert_eq!(of_kind.next(), None, "{kind}");
    found
}

#[test]
fn the_objects_refer_to_each_other() {
    let objects = objects();
    let namespace = &the(&objects, "Namespace")["metadata"]["name"];
    for object in objects.iter().filter(|it| it["kind"] != "Namespace") {
        assert_eq!(&object["metadata"]["namespace"], namespace, "{object}");
    }
    let name = |kind: &str| the(&objects, kind)["metadata"]["name"].clone();
    for kind in ["SandboxTemplate", "SandboxWarmPool"] {
        let version = &the(&objects, kind)["apiVersion"];
        assert_eq!(version, "extensions.agents.x-k8s.io/v1beta1", "{kind}");
    }
    let pool = &the(&objects, "SandboxWarmPool")["spec"];
    assert_eq!(pool["sandboxTemplateRef"]["name"], name("SandboxTemplate"));
    let binding = the(&objects, "RoleBinding");
    assert_eq!(binding["roleRef"]["name"], name("Role"));
    assert_eq!(binding["subjects"][0]["name"], name("ServiceAccount"));

    let template = &the(&objects, "SandboxTemplate")["spec"]["podTemplate"]["spec"];
    let variables = template["containers"][0]["env"].as_array().unwrap();
    let variable = |name: &str| variables.iter().find(|variable| variable["name"] == name);
    assert_eq!(variable("OH_DEFERRED_INIT").unwrap()["value"], "1");
    let key = &variable("OH_SECRET_KEY").unwrap()["valueFrom"]["secretKeyRef"];
    let secret = the(&objects, "Secret");
    assert_eq!(key["name"], secret["metadata"]["name"]);
    assert!(secret["stringData"][key["key"].as_str().unwrap()].is_string());
}

#[tokio::test]
async fn the_role_permits_every_request() {
    let fake = FakeCluster::start().await.unwrap();
    let builder = builder(&fake).await.lease(Duration::from_secs(3));
    let server = builder.start().await.unwrap();
    let mut logs = server.logs();
    assert!(fake.write_log(server.id(), "a line"));
    logs.next().await.unwrap();
    let renewed = |fake: &FakeCluster| fake.request_counts().contains_key("patch sandboxclaims");
    fake.until(renewed).await;
    server.pause().await.unwrap();
    server.resume().await.unwrap();
    server.shutdown(Duration::ZERO).await.unwrap();
    empty(&fake).await;

    let objects = objects();
    let rules = the(&objects, "Role")["rules"].as_array().unwrap();
    let has = |list: &Value, name: &str| list.as_array().unwrap().iter().any(|it| it == name);
    for request in fake.request_counts().keys() {
        let (verb, resource) = match request.as_str() {
            // A path that clusters show to everyone.
            "get version" => continue,
            "log pods" => ("get", "pods/log"),
            "portforward pods" => ("create", "pods/portforward"),
            request => request.split_once(' ').unwrap(),
        };
        let mut rules = rules.iter();
        let permits =
            rules.any(|rule| has(&rule["resources"], resource) && has(&rule["verbs"], verb));
        assert!(permits, "no rule permits {request:?}");
    }
}
