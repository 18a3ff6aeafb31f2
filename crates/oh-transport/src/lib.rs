//! HTTP and WebSocket client for an OpenHands agent server, behind traits that tests can replace.
//!
//! A [`Client`] represents one server and is cheap to clone. It sends typed
//! [`Call`](oh_protocol::Call)s and opens [`Socket`]s. The client retries only what a call allows,
//! and keeps the session key out of URLs, logs and errors. Building a client reads proxy and
//! observability variables; see [`ClientBuilder`].
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
//!
//! `https` requires the `tls` feature (enabled by default), which uses rustls and the platform's
//! certificates.
//!
//! # Error handling
//!
//! [`ErrorKind::Connect`] means that the server has not seen the request.
//! [`ErrorKind::Interrupted`] and [`ErrorKind::Timeout`] mean that the server may have acted on it.
//! [`Error::never_sent`] answers this question for every kind and covers all attempts. Each
//! [`Call`](oh_protocol::Call) declares whether it may be repeated, and the client retries where
//! that is safe. An [`Error`] contains the server's explanation ([`detail`](Error::detail),
//! [`validation`](Error::validation), [`error_id`](Error::error_id)) with secrets hidden.
//!
//! # Custom transports
//!
//! [`Network`] sends requests and opens sockets. Wrap it to sign or record requests, or share one
//! network among several clients. [`AuthProvider`] supplies session keys that rotate.
//!
//! Both transport traits are small. The following example is a complete in-memory server.
//! `oh-testkit` provides one that verifies the requests it gets (`Mock`), and one that behaves like
//! a real server (`FakeServer`).
//!
//! ```
//! use bytes::Bytes;
//! use http::{HeaderMap, Request, Response, StatusCode};
//! use oh_transport::{
//!     Body, Client, HttpTransport, Message, Result, Socket, SocketTransport, async_trait,
//! };
//! use url::Url;
//!
//! #[derive(Debug, Clone)]
//! struct InMemory;
//!
//! #[async_trait]
//! impl HttpTransport for InMemory {
//!     async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
//!         let (status, json) = match request.uri().path() {
//!             "/server_info" => (StatusCode::OK, r#"{"version": "1.58.2"}"#),
//!             _ => (StatusCode::NOT_FOUND, r#"{"detail": "Not Found"}"#),
//!         };
//!         let mut answer = Response::new(Body::from(Bytes::from_static(json.as_bytes())));
//!         *answer.status_mut() = status;
//!         Ok(answer)
//!     }
//! }
//!
//! #[async_trait]
//! impl SocketTransport for InMemory {
//!     async fn connect(&self, _url: &Url, _headers: &HeaderMap) -> Result<Socket> {
//!         let (socket, mut peer) = Socket::pair(16);
//!         tokio::spawn(async move {
//!             // The first message authenticates the client. Every later one is sent back.
//!             let _auth = peer.recv().await;
//!             while let Some(Message::Text(text)) = peer.recv().await {
//!                 if peer.text(text).await.is_err() {
//!                     break;
//!                 }
//!             }
//!         });
//!         Ok(socket)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let client = Client::builder("http://in.memory")
//!     .http_transport(InMemory)
//!     .socket_transport(InMemory)
//!     .build()?;
//! assert_eq!(client.server_info().await?.version, "1.58.2");
//!
//! let mut socket = client.socket("/sockets/echo").await?;
//! socket.send(Message::Text("hello".into())).await?;
//! assert_eq!(socket.recv().await?, Message::Text("hello".into()));
//! # Ok(()) }
//! ```

mod attempt;
mod auth;
#[doc(hidden)]
pub mod automation;
mod backoff;
mod builder;
mod call;
mod capability;
mod client;
mod environment;
mod error;
#[doc(hidden)]
pub mod errors;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod lease;
mod liveness;
mod net;
mod network;
mod origin;
mod request_future;
mod workspace;
mod ws;

// In signatures of this crate.
#[doc(hidden)]
pub use self::http::retry_after;
pub use self::http::{Body, HttpTransport};
/// The attribute macro that implementations of [`HttpTransport`], [`SocketTransport`] and
/// [`AuthProvider`] need.
pub use async_trait::async_trait;
pub use attempt::Attempt;
pub use auth::AuthProvider;
pub use backoff::Backoff;
pub use builder::ClientBuilder;
pub use call::CallFuture;
pub use capability::Capability;
pub use client::Client;
pub use error::{Error, ErrorKind, Result, ValidationEntry};
pub use lease::{LeaseError, ServerLease, ServerSource};
pub use liveness::Liveness;
pub use network::{Network, NetworkBuilder};
pub use request_future::RequestFuture;
#[doc(no_inline)]
pub use secrecy;
pub use workspace::WorkspaceHandle;
pub use ws::{Message, Socket, SocketPeer, SocketTransport};
