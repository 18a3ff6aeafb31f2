//! Starts a server's process: settings, variables, directories, keys, and the checks of the
//! server's identity.

pub(crate) mod builder;

pub(crate) mod activation;
pub(crate) mod adapted;
pub(crate) mod connection;
pub(crate) mod containers;
pub(crate) mod launch;
pub(crate) mod listener;
pub(crate) mod options;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod settings;
pub(crate) mod shell;
pub(crate) mod startup;
pub(crate) mod state;
pub(crate) mod variables;
