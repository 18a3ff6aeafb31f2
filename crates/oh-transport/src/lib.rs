//! HTTP and WebSocket to an OpenHands agent server, behind traits that tests can replace.
//!
//! A [`Client`] is one server: cheap to clone, it carries typed [`Call`](oh_protocol::Call)s and
//! opens [`Socket`]s. It decides what may be sent again (only what the call allows), keeps the
//! session key out of URLs, logs and errors, and knows nothing of conversations.
//!
//! ```no_run
//! # async fn run() -> Result<(), oh_transport::Error> {
//! use oh_transport::Client;
//!
//! let client = Client::builder("http://127.0.0.1:8000").session_api_key("secret").build()?;
//! let info = client.server_info().await?;
//! println!("server {}", info.version);
//! # Ok(()) }
//! ```

mod backoff;
mod body;
mod builder;
mod call;
mod capability;
mod client;
mod connect;
mod environment;
mod error;
mod head;
mod http_client;
mod proxy;
mod redact;
mod refusal;
mod socket;
mod stall;
mod websocket;
mod workspace;

pub use backoff::Backoff;
pub use body::Body;
pub use builder::ClientBuilder;
pub use call::{Attempt, CallFuture};
pub use capability::Capability;
pub use client::{Client, HttpTransport};
pub use error::{Error, ErrorKind, Result, ValidationEntry};
pub use socket::{Message, Socket, SocketPeer, SocketTransport};
pub use workspace::WorkspaceHandle;
