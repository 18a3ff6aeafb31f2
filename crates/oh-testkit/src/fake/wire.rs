//! The server's end of a WebSocket; the only module that names fastwebsockets. It frames and
//! unframes messages and knows nothing of their meaning.
//!
//! Reading is fastwebsockets' affair. Writing is done here: many small frames go out in one
//! write, and a test may want frames torn, which a proper writer does not do.

use std::{io::IoSlice, pin::Pin};

use bytes::{BufMut as _, Bytes, BytesMut};
use fastwebsockets::{OpCode, Role, WebSocketRead, after_handshake_split};
use http::Response;
use tokio::{io::AsyncWriteExt as _, net::tcp::OwnedWriteHalf, sync::mpsc};

use crate::http::{Request, SocketRead, take_over};

/// The most that a client may send in one message.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// What a client sent.
#[derive(Debug)]
pub(super) enum Inbound {
    Text(Vec<u8>),
    Binary,
    /// More than a server takes in one message.
    TooLarge,
    Ping(Vec<u8>),
    Pong,
    /// The client said goodbye, or broke off.
    End,
}

/// A socket that opens once the answer to its handshake is out; `None` if that fails.
pub(super) type Opening = Pin<Box<dyn Future<Output = Option<(Reader, Writer)>> + Send>>;

/// Answers an upgrade request; the socket follows once that answer is out.
pub(super) fn upgrade(request: &mut Request) -> Option<(Response<()>, Opening)> {
    if !fastwebsockets::upgrade::is_upgrade_request(request) {
        return None;
    }
    // The connection can be asked for once: before fastwebsockets, which only makes the answer.
    let taken = take_over(request);
    let (answer, _) = fastwebsockets::upgrade::upgrade(&mut *request).ok()?;
    let (head, _) = answer.into_parts();
    let socket = async move {
        let (read, write) = taken.await?;
        let (mut read, _) = after_handshake_split(read, tokio::io::sink(), Role::Server);
        read.set_auto_pong(false);
        read.set_auto_close(false);
        // Beyond what is refused, so that it can be refused politely.
        read.set_max_message_size(4 * MAX_MESSAGE);
        Some((Reader(read), Writer::new(write)))
    };
    Some((Response::from_parts(head, ()), Box::pin(socket)))
}

pub(super) struct Reader(WebSocketRead<SocketRead>);

impl Reader {
    /// The next message. Not cancel-safe: one task reads, and hands on by channel.
    async fn next(&mut self) -> Inbound {
        let mut message = Vec::new();
        let mut text = true;
        loop {
            // Nothing is sent from here: answers are the writer's.
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
                    false => Inbound::Binary,
                };
            }
        }
    }

    /// Reads until the end, into a channel.
    pub(super) async fn pump(mut self, to: mpsc::Sender<Inbound>) {
        loop {
            let inbound = self.next().await;
            let end = matches!(inbound, Inbound::End);
            if to.send(inbound).await.is_err() || end {
                return;
            }
        }
    }
}

/// Adds the head of a frame.
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

/// A whole text frame.
pub(crate) fn text(payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(payload.len() + 10);
    head(&mut bytes, TEXT, payload.len());
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

/// The opcode of a text frame.
pub(super) const TEXT: u8 = 0x1;

/// Collects frames and writes many at once, from where they are.
pub(super) struct Writer {
    stream: OwnedWriteHalf,
    queue: Vec<Bytes>,
    queued: usize,
}

/// Enough to make a system call cheap by the byte.
const FULL: usize = 256 * 1024;
/// As many pieces as one system call takes at most, and less.
const MANY: usize = 512;

impl Writer {
    fn new(stream: OwnedWriteHalf) -> Self {
        Self {
            stream,
            queue: Vec::new(),
            queued: 0,
        }
    }

    /// Adds a text frame made of parts.
    pub(super) fn text(&mut self, parts: &[&[u8]]) {
        self.frame(TEXT, parts);
    }

    pub(super) fn ping(&mut self) {
        self.frame(0x9, &[]);
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
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

    /// Adds frames that are made already.
    pub(super) fn frames(&mut self, frames: Bytes) {
        self.queued += frames.len();
        self.queue.push(frames);
    }

    pub(super) fn is_full(&self) -> bool {
        self.queued >= FULL || self.queue.len() >= MANY
    }

    /// Sends what was added. `Err` once the client has gone.
    pub(super) async fn flush(&mut self) -> Result<(), ()> {
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

    /// Says goodbye with a code, and sends nothing more.
    pub(super) async fn close(&mut self, code: u16, reason: &str) {
        // What is still in the buffer was said before the goodbye.
        self.frame(0x8, &[&code.to_be_bytes(), reason.as_bytes()]);
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
    }

    /// Sends half of a frame and breaks off.
    pub(super) async fn tear(&mut self, frame: &Bytes) {
        self.frames(frame.slice(..frame.len() / 2));
        let _ = self.flush().await;
    }
}
