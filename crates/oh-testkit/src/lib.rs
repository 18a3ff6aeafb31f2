//! Test kit for programs that drive coding agents. Tests need no Python and no network, and take
//! milliseconds.
//!
//! | Kit | Replaces | Use it to test |
//! |-|-|-|
//! | [`Mock`] | a transport | which requests are sent, and how responses are handled |
//! | [`FakeServer`] | an agent server, including its agent | a whole program |
//! | [`Fault`], [`Proxy`] | a faulty server or network | that faults do not lose data |
//! | `hosted` (a feature) | a hosted Runtime API | that sandboxes are started, watched and ended |
//! | `kubernetes` (a feature) | a Kubernetes API server | that sandboxes are claimed and ended |
//! | [`ScriptedModel`] | a language model | an agent on a real server, with repeatable answers |
//!
//! Use the simplest kit in which the test can fail. A conformance suite runs against both the fake
//! server and the real one, and both must pass it.
//!
//! # Recipe: mock
//!
//! Requests are expected in order; sockets are channels. No port is opened.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use oh_protocol::{ConversationId, calls::conversations::Run};
//! use oh_testkit::Mock;
//! use serde_json::json;
//!
//! let id = ConversationId::random();
//! let mock = Mock::new();
//! mock.expect("POST", format!("/api/conversations/{id}/run"))
//!     .answer(409, json!({"detail": "already running"}));
//!
//! let refused = mock.client().call(Run::new(id)).await.unwrap_err();
//! assert_eq!(refused.kind(), oh_transport::ErrorKind::Conflict);
//! mock.verify()?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Recipe: fake
//!
//! An agent server on the loopback interface whose agent plays a [`Script`]. Tools and hooks are
//! closures.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use oh_testkit::{FakeServer, Script, fake::Observation};
//! use oh_transport::Message;
//! use serde_json::json;
//!
//! let server = FakeServer::builder()
//!     .script(Script::new().call("terminal", json!({"command": "make"})).finish("Built."))
//!     .tool("terminal", |_| Observation::text("ok").field("exit_code", 0))
//!     .start()
//!     .await?;
//! let client = server.client()?;
//! let conversation = server.create();
//! let mut socket = client.socket(format!("/sockets/session/{}", conversation.id())).await?;
//!
//! conversation.say("Build it.");
//! loop {
//!     let Message::Text(frame) = socket.recv().await? else { continue };
//!     let frame: serde_json::Value = serde_json::from_slice(&frame)?;
//!     // The snapshot with the whole state ends the run.
//!     if frame["event"]["value"]["execution_status"] == "finished" {
//!         break;
//!     }
//! }
//! assert!(conversation.events().iter().any(|event| event.kind() == "ObservationEvent"));
//! server.verify()?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Recipe: faults
//!
//! A [`Fault`] affects messages; a [`Link`] of a [`Proxy`] affects bytes. Both can be combined, and
//! both are repeatable with the same seed. A proxy can apply both in front of a real server.
//!
//! Faults of messages are set with [`FakeServer::inject`] or [`Proxy::inject`], and faults of bytes
//! with [`Proxy::links`]. All other methods take effect immediately. Faults and how to cause them:
//!
//! - Cut connections: [`Fault::cut`] after n events, [`Link::cut_after`] after n bytes,
//!   [`FakeServer::cut_sockets`] and [`Proxy::cut`] immediately.
//! - Torn or oversized frames: [`Fault::tear`], [`Fault::oversized`], [`Link::cut_after`].
//! - Stalls and half-open links: [`Fault::stall`], [`Link::stall_after`],
//!   [`FakeServer::silence_sockets`], [`Proxy::silence`], [`Proxy::hold`].
//! - Requests that hang: [`Fault::hang`] before and [`Fault::hold_answer`] after the request is
//!   executed.
//! - Rejected sockets while requests work: [`Fault::refuse_upgrade`].
//! - A paused sandbox: [`FakeServer::freeze`], [`thaw`](FakeServer::thaw).
//! - A truncated or recreated log: [`FakeConversation::rewind`],
//!   [`recreate`](FakeConversation::recreate), [`delete`](FakeConversation::delete).
//! - Behaviour of older servers:
//!   [`updates_before_messages`](fake::FakeServerBuilder::updates_before_messages),
//!   [`runs_wait_for_tools`](fake::FakeServerBuilder::runs_wait_for_tools).
//! - Slow or delayed data: [`Fault::drip`], [`Fault::delay`], [`Link::drip`].
//! - Duplicates, gaps and wrong order: [`Fault::duplicate`], [`Fault::gap`], [`Fault::swap`],
//!   [`FakeConversation::lose`].
//! - Close codes: [`Fault::close`], [`FakeServer::close_sockets`].
//! - Bursts of error statuses, with or without `Retry-After`: [`Fault::status`],
//!   [`Fault::retry_after`], [`Fault::times`].
//! - HTML pages of a gateway: [`Fault::html`].
//! - Wrong content length and lost responses: [`Fault::wrong_length`], [`Fault::lost_answer`].
//! - A gateway that gave up waiting for the server: [`Fault::replaced_answer`].
//! - Restarts with or without state: [`FakeServer::kill`], [`shut_down`](FakeServer::shut_down),
//!   [`come_back`](FakeServer::come_back), [`come_back_empty`](FakeServer::come_back_empty).
//! - Clock skew: [`FakeServer::skew_ahead`], [`skew_back`](FakeServer::skew_back).
//! - Refused connections: [`FakeServer::refuse`], [`Proxy::refuse`].
//! - Leases and wedged runs: [`FakeConversation::lease_away`], [`wedge`](FakeConversation::wedge).
//!
//! A fault with a name ([`Fault::named`]) can be lifted without lifting others. [`Fault::on`] and
//! [`Fault::method`] limit a fault to some requests. A [`Gate`] holds the model or a tool until the
//! test opens it. [`FakeServer::requests_to`] and [`FakeServer::executed`] return the requests
//! received and the actions executed; for a real server, use [`Proxy::requests_to`].
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use std::time::Duration;
//!
//! use oh_testkit::{Chance, FakeServer, Fault, Link, Proxy};
//! use oh_transport::Client;
//!
//! let server = FakeServer::builder().open().seed(7).start().await?;
//! // Two rejections with `Retry-After`, one lost response, and a socket that is cut at random.
//! server.inject(Fault::status(503).retry_after(Duration::ZERO).on("/ready").times(2));
//! server.inject(Fault::lost_answer().on("/run").times(1));
//! server.inject(Fault::cut().one_in(20));
//!
//! let proxy = Proxy::start(server.address()).await?;
//! let mut chance = Chance::new(7);
//! proxy.links(move |connection| match connection {
//!     0 => Link::new(),
//!     _ => Link::new().cut_after(chance.pick(1_000..=100_000)),
//! });
//! let client = Client::builder(proxy.url()).build()?;
//! assert_eq!(client.server_info().await?.version.to_string(), "1.58.2");
//! server.kill();
//! server.come_back(); // With its data; `come_back_empty` loses it.
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chance;
mod error;
pub mod fake;
mod fault;
mod gate;
#[cfg(feature = "hosted")]
pub mod hosted;
mod http;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod messages;
pub mod mock;
pub mod model;
mod proxy;
mod seen;

pub use chance::Chance;
pub use error::{Error, ErrorKind, Result};
pub use fake::{FakeConversation, FakeServer};
pub use fault::Fault;
pub use gate::Gate;
pub use mock::Mock;
pub use model::{Script, ScriptedModel, Step};
pub use proxy::{Link, Proxy};
