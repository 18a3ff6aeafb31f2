//! Sandboxes that a hosted service starts, through the service's control plane.

pub(crate) mod builder;
pub(crate) mod cloud;
pub(crate) mod lease;
pub(crate) mod owned;
pub(crate) mod plane;
pub(crate) mod ready;
pub(crate) mod runtime_api;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod verify;
pub(crate) mod watch;
