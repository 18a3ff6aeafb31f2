//! A template in a container, and the servers that are forked from it.

pub(crate) mod container;
pub(crate) mod forked;
pub(crate) mod slots;
pub(crate) mod wire;
