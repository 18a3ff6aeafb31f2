//! The custom resources of agent-sandbox, as far as this crate uses them.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde::{Deserialize, Serialize};

/// The version of both groups that this crate supports.
pub(crate) const VERSION: &str = "v1beta1";
/// The group of claims.
pub(crate) const EXTENSIONS: &str = "extensions.agents.x-k8s.io";
/// The group of sandboxes.
pub(crate) const AGENTS: &str = "agents.x-k8s.io";
/// The annotation with the name of the pod that a sandbox has adopted.
pub(crate) const POD_NAME: &str = "agents.x-k8s.io/pod-name";

/// A request for one sandbox of a warm pool.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SandboxClaim {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: ClaimSpec,
    #[serde(default, skip_serializing)]
    pub(crate) status: ClaimStatus,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClaimSpec {
    pub(crate) warm_pool_ref: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lifecycle: Option<Lifecycle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) additional_pod_metadata: Option<PodMetadata>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Name {
    #[serde(default)]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lifecycle {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shutdown_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shutdown_policy: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct PodMetadata {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct ClaimStatus {
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
    #[serde(default)]
    pub(crate) sandbox: BoundSandbox,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BoundSandbox {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default, rename = "podIPs")]
    pub(crate) pod_ips: Vec<String>,
}

/// An observation of the controller. More lenient than the type of `k8s-openapi`, which requires
/// fields that are not used here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) message: String,
}

/// The object that owns the pod of a claim.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    pub(crate) metadata: ObjectMeta,
    #[serde(default, skip_serializing)]
    pub(crate) status: SandboxStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct SandboxStatus {
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
}

/// Implements the description of a namespaced resource.
macro_rules! resource {
    ($type:ident, $group:ident, $plural:literal) => {
        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($type).into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                VERSION.into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
resource!(SandboxClaim, EXTENSIONS, "sandboxclaims");
resource!(Sandbox, AGENTS, "sandboxes");

impl SandboxClaim {
    /// Creates a claim to send to the cluster.
    pub(crate) fn new(metadata: ObjectMeta, spec: ClaimSpec) -> Self {
        Self {
            api_version: format!("{EXTENSIONS}/{VERSION}"),
            kind: "SandboxClaim".to_owned(),
            metadata,
            spec,
            status: ClaimStatus::default(),
        }
    }

    /// Returns the name of the claim's sandbox, once it is ready.
    pub(crate) fn ready(&self) -> Option<&BoundSandbox> {
        let conditions = &self.status.conditions;
        let ready = |condition: &Condition| condition.kind == "Ready" && condition.status == "True";
        let sandbox = &self.status.sandbox;
        (conditions.iter().any(ready) && !sandbox.name.is_empty()).then_some(sandbox)
    }
}

impl Sandbox {
    /// Returns the name of the pod.
    pub(crate) fn pod(&self) -> Option<&str> {
        let annotations = self.metadata.annotations.as_ref();
        let adopted = annotations.and_then(|all| all.get(POD_NAME));
        adopted.or(self.metadata.name.as_ref()).map(String::as_str)
    }
}
