//! WebSockets: handshakes, frames, and sockets as channels of whole messages.

mod frames;
mod handshake;
mod queue;
mod socket;
mod websocket;

pub use socket::{Message, Socket, SocketPeer, SocketTransport};
pub(crate) use websocket::{FastTransport, SocketLimits};
