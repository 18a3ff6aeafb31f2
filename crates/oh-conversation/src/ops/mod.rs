//! Operations on a conversation and on a server's conversations, in groups.

pub(crate) mod send;

pub(crate) mod agent;
pub(crate) mod approvals;
pub(crate) mod branches;
pub(crate) mod dispatch;
pub(crate) mod goals;
pub(crate) mod link;
pub(crate) mod list;
pub(crate) mod mcp;
mod pages;
pub(crate) mod runtime;
pub(crate) mod search;
pub(crate) mod secrets;
pub(crate) mod settings;
pub(crate) mod title;
mod trajectory;
