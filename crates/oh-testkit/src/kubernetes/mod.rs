//! A fake Kubernetes API server with `kubernetes-sigs/agent-sandbox`, for programs that claim
//! sandboxes.
//!
//! A [`FakeCluster`] speaks HTTP as an API server does: objects with versions, watches with
//! bookmarks and expired versions (410), field selectors, merge patches, conflicts, the status
//! subresource, the output of pods, and port-forwarding. Its pods are servers that the test gives.
//! The fake has one namespace and one warm pool, and neither TLS nor admission nor a scheduler.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use oh_testkit::kubernetes::FakeCluster;
//!
//! let cluster = FakeCluster::start().await?;
//! let directory = std::env::temp_dir();
//! let kubeconfig = cluster.kubeconfig(); // Write it to a file for the program under test.
//! assert!(kubeconfig.contains("fake-cluster"));
//! assert!(cluster.claims().is_empty());
//! # drop(directory);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod api;
mod clock;
mod cluster;
mod controller;
mod forward;
mod logs;
mod pod;
mod refusal;
mod schema;
mod store;
mod watching;
mod world;

pub use cluster::{FakeCluster, FakeClusterBuilder};
pub use pod::Pod;
