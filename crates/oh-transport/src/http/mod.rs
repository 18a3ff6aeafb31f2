//! HTTP requests and responses as streams, built on hyper.

mod body;
mod client;
mod refusal;
mod stall;
mod transport;

pub use body::Body;
pub(crate) use client::HyperTransport;
pub use refusal::retry_after;
pub(crate) use refusal::{content, refusal};
pub(crate) use stall::{limited, watched};
pub use transport::HttpTransport;
