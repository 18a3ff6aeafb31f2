//! The kits over real sockets, one binary: it links once and shares its client.

mod model;
mod support;
