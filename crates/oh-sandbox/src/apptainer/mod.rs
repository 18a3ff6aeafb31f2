//! Containers of Apptainer: child processes of the command `apptainer`, without an engine.

pub(crate) mod builder;
pub(crate) mod command;
pub(crate) mod image;
pub(crate) mod place;
pub(crate) mod server;
