//! Fakes of the control planes that start sandboxes. They speak HTTP on the loopback interface.
//! Each sandbox that they start is a server that the test supplies.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use oh_testkit::{FakeServer, hosted::FakeRuntimeApi};
//!
//! let server = FakeServer::start().await?;
//! let api = FakeRuntimeApi::start().await?;
//! api.supply(server.url(), server.session_api_key());
//! // Start a runtime at `api.url()` with `api.api_key()` …
//! assert!(api.running().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cloud;
mod plane;
mod runtime_api;

pub use cloud::{FakeCloud, FakeSandbox};
pub use runtime_api::{FakeRuntime, FakeRuntimeApi};
