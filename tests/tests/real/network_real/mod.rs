//! The real server behind the networks of other people: proxies, TLS terminators, silent addresses,
//! gateways that reject, and slow links.

#![cfg(target_os = "linux")]

mod addresses;
mod environment;
mod forwarder;
mod proxies;
mod rejections;
mod relay;
mod replaced;
mod slow;
mod sockets;
mod stage;
mod tls;
