//! Contains what is decided before a server's process runs: settings, variables, directories and
//! keys, and the checks that the process is the right one. Does not supervise.

pub(crate) mod activation;
pub(crate) mod builder;
pub(crate) mod launch;
pub(crate) mod listener;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod settings;
pub(crate) mod shell;
pub(crate) mod startup;
pub(crate) mod state;
pub(crate) mod variables;
