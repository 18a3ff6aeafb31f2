//! The state of a server and its conversations.

pub(super) mod branches;
pub(super) mod builtin;
pub(super) mod client_tools;
pub(super) mod clock;
pub(super) mod commands;
pub(super) mod config;
pub(super) mod conversation;
pub(super) mod disk;
pub(super) mod door;
pub(super) mod executed;
pub(super) mod goal;
pub(super) mod listening;
pub(super) mod lock;
pub(super) mod log;
pub(super) mod logins;
pub(super) mod message;
pub(super) mod pending;
pub(super) mod policy;
pub(super) mod repository;
pub(super) mod slots;
pub(super) mod stored;
pub(super) mod subscriber;
pub(super) mod tools;
pub(super) mod world;
