//! Containers of Docker and Podman, through the API of the engine.

pub(crate) mod address;
pub(crate) mod attach;
pub(crate) mod build;
pub(crate) mod builder;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod container;
pub(crate) mod context;
pub(crate) mod create;
pub(crate) mod dial;
pub(crate) mod discover;
pub(crate) mod ended;
pub(crate) mod engine;
#[cfg_attr(not(unix), path = "forward_unsupported.rs")]
pub(crate) mod forward;
pub(crate) mod image;
pub(crate) mod launch;
pub(crate) mod leftovers;
pub(crate) mod owner;
pub(crate) mod pool;
pub(crate) mod progress;
pub(crate) mod ready;
pub(crate) mod refused;
pub(crate) mod remover;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod ssh;
pub(crate) mod supervise;
pub(crate) mod template;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod volumes;
