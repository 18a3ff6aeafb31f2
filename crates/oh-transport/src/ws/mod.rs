//! WebSockets: handshakes, frames, and sockets as channels of whole messages.

mod frames;
mod handshake;
mod message;
mod queue;
mod socket;
mod websocket;

pub use message::Message;
pub use socket::{Socket, SocketPeer, SocketTransport};
pub(crate) use websocket::{FastTransport, SocketLimits};
