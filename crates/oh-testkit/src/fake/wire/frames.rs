//! The server's end of a WebSocket: encodes and decodes frames. No other module uses
//! fastwebsockets.
//!
//! fastwebsockets only reads. This module writes the frames itself: it combines many small frames
//! in one write, and it can write the torn frames that tests need.

use std::{io::IoSlice, pin::Pin};

use bytes::{BufMut as _, Bytes, BytesMut};
use fastwebsockets::{OpCode, Role, WebSocketRead, after_handshake_split};
use http::Response;
use tokio::{io::AsyncWriteExt as _, net::tcp::OwnedWriteHalf, sync::mpsc};

use crate::http::{Request, SocketRead, take_over};

/// The maximum size of a message from a client.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// A message from a client.
#[derive(Debug)]
pub(crate) enum Inbound {
    Text(Vec<u8>),
    #[cfg_attr(
        not(feature = "kubernetes"),
        allow(dead_code, reason = "only forwarded ports use the content")
    )]
    Binary(Vec<u8>),
    /// A message that exceeds the maximum size.
    TooLarge,
    Ping(Vec<u8>),
    Pong,
    /// The client closed or cut the connection.
    End,
}

/// A socket that opens after the handshake response has been sent. Resolves to `None` on failure.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Option<(Reader, Writer)>> + Send>>;

/// Returns the response to an upgrade request, and a future for the socket.
pub(crate) fn upgrade(request: &mut Request) -> Option<(Response<()>, Opening)> {
    if !fastwebsockets::upgrade::is_upgrade_request(request) {
        return None;
    }
    // The connection can be taken only once, and before fastwebsockets, which only builds the
    // response.
    let taken = take_over(request);
    let (answer, _) = fastwebsockets::upgrade::upgrade(&mut *request).ok()?;
    let (head, _) = answer.into_parts();
    let socket = async move {
        let (read, write) = taken.await?;
        let (mut read, _) = after_handshake_split(read, tokio::io::sink(), Role::Server);
        read.set_auto_pong(false);
        read.set_auto_close(false);
        // Larger than the limit, so that an oversized message can be rejected with a close code.
        read.set_max_message_size(4 * MAX_MESSAGE);
        Some((Reader(read), Writer::new(write)))
    };
    Some((Response::from_parts(head, ()), Box::pin(socket)))
}

pub(crate) struct Reader(WebSocketRead<SocketRead>);

impl Reader {
    /// Returns the next message. Not cancel-safe: one task reads and forwards messages over a
    /// channel.
    async fn next(&mut self) -> Inbound {
        let mut message = Vec::new();
        let mut text = true;
        loop {
            // Responses are sent by the writer only.
            let mut no_answer = |_| async { Ok::<_, std::io::Error>(()) };
            let Ok(frame) = self.0.read_frame(&mut no_answer).await else {
                return Inbound::End;
            };
            match frame.opcode {
                OpCode::Close => return Inbound::End,
                OpCode::Ping => return Inbound::Ping(frame.payload.to_vec()),
                OpCode::Pong => return Inbound::Pong,
                OpCode::Text => text = true,
                OpCode::Binary => text = false,
                OpCode::Continuation => {}
            }
            if message.len() + frame.payload.len() > MAX_MESSAGE {
                return Inbound::TooLarge;
            }
            message.extend_from_slice(&frame.payload);
            if frame.fin {
                return match text {
                    true => Inbound::Text(message),
                    false => Inbound::Binary(message),
                };
            }
        }
    }

    /// Forwards messages to a channel until the end.
    pub(crate) async fn pump(mut self, to: mpsc::Sender<Inbound>) {
        loop {
            let inbound = self.next().await;
            let end = matches!(inbound, Inbound::End);
            if to.send(inbound).await.is_err() || end {
                return;
            }
        }
    }
}

/// Appends the head of a frame.
pub(crate) fn head(bytes: &mut BytesMut, opcode: u8, length: usize) {
    bytes.put_u8(0x80 | opcode);
    match length {
        0..=125 => bytes.put_u8(length as u8),
        126..=65_535 => {
            bytes.put_u8(126);
            bytes.put_u16(length as u16);
        }
        _ => {
            bytes.put_u8(127);
            bytes.put_u64(length as u64);
        }
    }
}

/// Encodes a whole text frame.
pub(crate) fn text(payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(payload.len() + 10);
    head(&mut bytes, TEXT, payload.len());
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

/// The opcode of a text frame.
pub(crate) const TEXT: u8 = 0x1;

/// Queues frames and writes many of them at once without copying.
pub(crate) struct Writer {
    stream: OwnedWriteHalf,
    queue: Vec<Bytes>,
    queued: usize,
}

/// The number of queued bytes at which frames are written: large enough to keep the cost of system
/// calls low.
const FULL: usize = 256 * 1024;
/// The maximum number of slices per write, below the limit of one system call.
const MANY: usize = 512;

impl Writer {
    fn new(stream: OwnedWriteHalf) -> Self {
        Self {
            stream,
            queue: Vec::new(),
            queued: 0,
        }
    }

    /// Queues a text frame made of parts.
    pub(crate) fn text(&mut self, parts: &[&[u8]]) {
        self.frame(TEXT, parts);
    }

    /// Queues a binary frame made of parts.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn binary(&mut self, parts: &[&[u8]]) {
        self.frame(0x2, parts);
    }

    pub(crate) fn ping(&mut self) {
        self.frame(0x9, &[]);
    }

    pub(crate) fn pong(&mut self, payload: &[u8]) {
        self.frame(0xA, &[payload]);
    }

    fn frame(&mut self, opcode: u8, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum();
        let mut bytes = BytesMut::with_capacity(length + 10);
        head(&mut bytes, opcode, length);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        self.frames(bytes.freeze());
    }

    /// Queues encoded frames.
    pub(crate) fn frames(&mut self, frames: Bytes) {
        self.queued += frames.len();
        self.queue.push(frames);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queued >= FULL || self.queue.len() >= MANY
    }

    /// Sends the queued frames. Returns an error if the client has disconnected.
    pub(crate) async fn flush(&mut self) -> Result<(), ()> {
        let mut slices: Vec<_> = self.queue.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match self.stream.write_vectored(rest).await {
                Ok(0) | Err(_) => return Err(()),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
            }
        }
        self.queue.clear();
        self.queued = 0;
        Ok(())
    }

    /// Sends a close frame with a code, and then nothing more.
    pub(crate) async fn close(&mut self, code: u16, reason: &str) {
        // Queued frames are sent before the close frame.
        self.frame(0x8, &[&code.to_be_bytes(), reason.as_bytes()]);
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
    }

    /// Sends half of a frame. The connection ends when the writer is dropped.
    pub(crate) async fn tear(&mut self, frame: &Bytes) {
        self.frames(frame.slice(..frame.len() / 2));
        let _ = self.flush().await;
    }
}
