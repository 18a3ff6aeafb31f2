//! Pods of a Kubernetes cluster, claimed from a warm pool of `kubernetes-sigs/agent-sandbox`.

pub(crate) mod attach;
pub(crate) mod builder;
pub(crate) mod changes;
pub(crate) mod claim;
pub(crate) mod cluster;
pub(crate) mod failure;
pub(crate) mod forward;
pub(crate) mod keys;
pub(crate) mod lease;
pub(crate) mod mode;
pub(crate) mod output;
pub(crate) mod refused;
pub(crate) mod resources;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod waiting;
