//! Test programs that drive coding agents: without Python, without a network, in milliseconds.
//!
//! | Kit | Stands for | Take it to test |
//! |-|-|-|
//! | [`Mock`] | a transport | which requests are made, and what becomes of the answers |
//! | [`FakeServer`] | an agent server, its agent included | a whole program |
//! | [`Fault`], [`Proxy`] | bad days of server and network | that nothing is lost on them |
//! | [`ScriptedModel`] | a language model | against a real agent server, the same each time |
//!
//! Take the weakest that can fail. What the fake server says is held against the real one by a
//! suite that both must answer alike.
//!
//! # Recipe: mock
//!
//! Requests are expected in order; sockets are channels. Nothing opens a port.
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
//! let refused = mock.client().call(&Run::new(id)).await.unwrap_err();
//! assert_eq!(refused.kind(), oh_transport::ErrorKind::Conflict);
//! mock.verify()?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Recipe: fake
//!
//! An agent server on the loopback whose agent plays a [`Script`]. Tools and hooks are closures.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use oh_testkit::{FakeServer, Script, fake::Observation};
//! use oh_transport::{Client, Message};
//! use serde_json::json;
//!
//! let server = FakeServer::builder()
//!     .script(Script::new().call("terminal", json!({"command": "make"})).finish("Built."))
//!     .tool("terminal", |_| Observation::text("ok").field("exit_code", 0))
//!     .start()
//!     .await?;
//! let client = Client::builder(server.url()).session_api_key(server.session_api_key()).build()?;
//! let conversation = server.create();
//! let mut socket = client.socket(&format!("/sockets/session/{}", conversation.id())).await?;
//!
//! conversation.say("Build it.");
//! loop {
//!     let Message::Text(frame) = socket.recv().await? else { continue };
//!     let frame: serde_json::Value = serde_json::from_slice(&frame)?;
//!     // What ends a run is the state as a whole.
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
//! [`Fault`]s are about messages, a [`Link`] of a [`Proxy`] is about bytes. Both compose, and
//! both repeat with their seed. A proxy does both before a real server, too.
//!
//! | Fault | Of messages: [`FakeServer::inject`], [`Proxy::inject`] | Of bytes: [`Proxy::links`] | At once |
//! |-|-|-|-|
//! | cut | [`Fault::cut`] after n events | [`Link::cut_after`] n bytes | [`FakeServer::cut_sockets`], [`Proxy::cut`] |
//! | torn, oversized frames | [`Fault::tear`], [`Fault::oversized`] | [`Link::cut_after`] | |
//! | stall, half-open link | [`Fault::stall`] | [`Link::stall_after`] | [`FakeServer::silence_sockets`], [`Proxy::silence`], [`Proxy::hold`] |
//! | requests that hang, before or after the deed | [`Fault::hang`], [`Fault::hold_answer`] | | |
//! | refused sockets while requests work | [`Fault::refuse_upgrade`] | | |
//! | a paused sandbox | | | [`FakeServer::freeze`], [`thaw`](FakeServer::thaw) |
//! | a log that was cut, or made again | | | [`FakeConversation::rewind`], [`recreate`](FakeConversation::recreate), [`delete`](FakeConversation::delete) |
//! | ways of older servers | | | [`updates_before_messages`](fake::FakeServerBuilder::updates_before_messages), [`runs_wait_for_tools`](fake::FakeServerBuilder::runs_wait_for_tools) |
//! | slow drip, delay | [`Fault::drip`], [`Fault::delay`] | [`Link::drip`] | |
//! | duplicates, gaps, wrong order | [`Fault::duplicate`], [`Fault::gap`], [`Fault::swap`] | | [`FakeConversation::lose`] |
//! | close codes | [`Fault::close`] | | [`FakeServer::close_sockets`] |
//! | bursts of statuses, with `Retry-After` and without | [`Fault::status`], [`Fault::retry_after`], [`Fault::times`] | | |
//! | HTML pages of a gateway | [`Fault::html`] | | |
//! | wrong content length, lost answers | [`Fault::wrong_length`], [`Fault::lost_answer`] | | |
//! | restart with state and without | | | [`FakeServer::kill`], [`shut_down`](FakeServer::shut_down), [`come_back`](FakeServer::come_back), [`come_back_empty`](FakeServer::come_back_empty) |
//! | clock skew | | | [`FakeServer::skew_ahead`], [`skew_back`](FakeServer::skew_back) |
//! | refused connections | | | [`FakeServer::refuse`], [`Proxy::refuse`] |
//! | leases, wedged runs | | | [`FakeConversation::lease_away`], [`wedge`](FakeConversation::wedge) |
//!
//! A fault with a name ([`Fault::named`]) can be lifted while others stay; [`Fault::on`] and
//! [`Fault::method`] say which requests it is about. [`Gate`]s hold the model or a tool until a test
//! lets it go on; what was asked and what was carried out is in [`FakeServer::requests_to`] and
//! [`FakeServer::executed`], and of a real server in [`Proxy::requests_to`].
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use oh_testkit::{Chance, FakeServer, Fault, Link, Proxy};
//! use oh_transport::Client;
//!
//! let server = FakeServer::builder().open().seed(7).start().await?;
//! // Two polite refusals; an answer lost after the deed; a socket that dies now and then.
//! server.inject(Fault::status(503).retry_after(0).on("/ready").times(2));
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
//! assert_eq!(client.server_info().await?.version.to_string(), "1.58.0");
//! server.kill();
//! server.come_back(); // with what it held; `come_back_empty` forgets
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chance;
mod error;
pub mod fake;
mod fault;
mod gate;
mod http;
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
