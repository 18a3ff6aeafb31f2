//! A server's frames, read into whole messages: the client's side of RFC 6455. Knows nothing of
//! handshakes, of writing, and of what stands in a message.
//!
//! Stricter than needed in nothing: lengths that are not minimal (5.2) and a close frame with a
//! payload of one byte (5.5.1) are accepted.
//!
//! Nothing is held between messages. What arrives is read into a buffer that all sockets of a
//! thread share; what is incomplete is kept in the allocation that will be the message, and of a
//! long payload the rest is read straight into it.

use std::{
    cell::Cell,
    collections::VecDeque,
    future::poll_fn,
    io, mem,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, buf::Limit};
use oh_protocol::redact;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::{Error, ErrorKind, Message, net::is_handshake_alert};

/// How reading ended, and the code of the close frame that answers it.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) error: Error,
    /// `None` when nobody is there to read an answer.
    pub(crate) answer: Option<u16>,
}

type Result<T, E = Ending> = std::result::Result<T, E>;

/// So much is read at once; a payload that lacks as much or more is read where it stays.
const CHUNK: usize = 64 * 1024;
/// No control frame may carry more.
const CONTROL_LIMIT: u8 = 125;
/// The longest head of a frame without a mask.
const HEAD: usize = 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What has arrived and waits to be handed on.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// Whole messages, each in an allocation of its own length.
    pub(crate) messages: VecDeque<crate::Result<Message>>,
    /// The newest ping: its pong answers all before it.
    pub(crate) ping: Option<Bytes>,
}

/// The reading half of a connection.
#[derive(Debug)]
pub(crate) struct Frames<S> {
    stream: S,
    early: Vec<u8>,
    decoder: Decoder,
}

impl<S: AsyncRead + Unpin> Frames<S> {
    /// `early` was read from the stream already; `limit` is for whole messages, in bytes.
    pub(crate) fn new(stream: S, early: Vec<u8>, limit: usize) -> Self {
        Self {
            stream,
            early,
            decoder: Decoder::new(limit),
        }
    }

    /// Reads from the stream once. What arrived before the ending that an error is has arrived all
    /// the same. Cancel-safe: a dropped call has read nothing.
    ///
    /// # Errors
    ///
    /// How the connection ended: [`Error::closed`] for a close frame, `Interrupted` without one,
    /// `Decode` after what no server may send. After it, only [`drain`](Self::drain) may be called.
    pub(crate) async fn read(&mut self, arrived: &mut Arrived) -> Result<()> {
        poll_fn(|cx| self.poll_read(cx, arrived)).await
    }

    /// Reads and discards what arrives until the server ends the connection. A connection that is
    /// closed with data unread is reset, and a reset may discard the close frame that was sent.
    pub(crate) async fn drain(&mut self) {
        poll_fn(|cx| {
            let mut scratch = SCRATCH.take();
            scratch.resize(CHUNK, 0);
            let ended = loop {
                let mut buffer = ReadBuf::new(&mut scratch);
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                    Poll::Ready(_) => break Poll::Ready(()),
                    Poll::Pending => break Poll::Pending,
                }
            };
            SCRATCH.set(scratch);
            ended
        })
        .await;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, arrived: &mut Arrived) -> Poll<Result<()>> {
        let Self {
            stream,
            early,
            decoder,
        } = self;
        if !early.is_empty() {
            return Poll::Ready(decoder.take(&mem::take(early), arrived));
        }
        if let Some(mut rest) = decoder.long_payload() {
            let read = ready!(pin!(stream.read_buf(&mut rest)).poll(cx));
            return Poll::Ready(match read {
                Ok(0) => Err(cut()),
                Ok(read) => decoder.took(read, arrived),
                Err(error) => Err(broke(error)),
            });
        }
        let mut scratch = SCRATCH.take();
        scratch.resize(CHUNK, 0);
        let mut buffer = ReadBuf::new(&mut scratch);
        let read = Pin::new(stream).poll_read(cx, &mut buffer);
        let taken = read.map(|read| match (read, buffer.filled()) {
            (Ok(()), []) => Err(cut()),
            (Ok(()), bytes) => decoder.take(bytes, arrived),
            (Err(error), _) => Err(broke(error)),
        });
        SCRATCH.set(scratch);
        taken
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What stands before a frame's payload.
#[derive(Debug, Clone, Copy)]
struct Head {
    last: bool,
    opcode: Opcode,
    length: u64,
}

impl Head {
    /// Reads a head that may not be complete; what is wrong is said as soon as it is there.
    fn read(bytes: &[u8]) -> Result<Option<Self>> {
        let [first, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(broken("a frame of an extension"));
        }
        let last = first & 0x80 != 0;
        let opcode = match first & 0x0F {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return Err(broken("a frame of no known kind")),
        };
        if opcode.is_control() && !last {
            return Err(broken("a control frame in parts"));
        }
        let [second, rest @ ..] = rest else {
            return Ok(None);
        };
        if second & 0x80 != 0 {
            return Err(broken("a masked frame"));
        }
        if opcode.is_control() && *second > CONTROL_LIMIT {
            return Err(broken("a control frame that is too long"));
        }
        let length = match (second, rest) {
            (126, &[a, b]) => u16::from_be_bytes([a, b]).into(),
            (127, &[a, b, c, d, e, f, g, h]) => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            (126 | 127, _) => return Ok(None),
            (length, _) => u64::from(*length),
        };
        Ok(Some(Self {
            last,
            opcode,
            length,
        }))
    }
}

/// Bytes to messages, wherever they were torn.
#[derive(Debug)]
struct Decoder {
    limit: usize,
    /// The beginning of a head.
    head: [u8; HEAD],
    head_bytes: usize,
    /// The frame whose payload comes, and how much of it is to come.
    frame: Option<Head>,
    left: usize,
    /// The kind of the message that comes, in one frame or more, and what of it is there.
    kind: Option<Opcode>,
    message: Vec<u8>,
    /// Payload of a control frame, which may come between the frames of a message.
    control: Vec<u8>,
}

impl Decoder {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            head: [0; HEAD],
            head_bytes: 0,
            frame: None,
            left: 0,
            kind: None,
            message: Vec::new(),
            control: Vec::new(),
        }
    }

    fn take(&mut self, mut bytes: &[u8], arrived: &mut Arrived) -> Result<()> {
        loop {
            let Some(frame) = self.frame else {
                let [byte, rest @ ..] = bytes else {
                    return Ok(());
                };
                bytes = rest;
                self.head[self.head_bytes] = *byte;
                self.head_bytes += 1;
                if let Some(head) = Head::read(&self.head[..self.head_bytes])? {
                    self.head_bytes = 0;
                    self.begin(head)?;
                }
                continue;
            };
            let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
            let payload = match frame.opcode.is_control() {
                true => &mut self.control,
                false => &mut self.message,
            };
            payload.extend_from_slice(part);
            bytes = rest;
            self.left -= part.len();
            if self.left > 0 {
                return Ok(());
            }
            self.frame = None;
            self.end(frame, arrived)?;
        }
    }

    /// Where the rest of a payload goes that is too long for the shared buffer.
    fn long_payload(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        (self.left >= CHUNK).then(|| (&mut self.message).limit(self.left))
    }

    /// So many bytes were written there.
    fn took(&mut self, bytes: usize, arrived: &mut Arrived) -> Result<()> {
        self.left -= bytes;
        self.take(&[], arrived)
    }

    fn begin(&mut self, head: Head) -> Result<()> {
        match (head.opcode, self.kind) {
            (Opcode::Text | Opcode::Binary, None) => self.kind = Some(head.opcode),
            (Opcode::Continuation, Some(_)) => {}
            (control, _) if control.is_control() => {}
            _ => return Err(broken("fragments out of order")),
        }
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        if !head.opcode.is_control() {
            if length > self.limit - self.message.len() {
                return Err(too_long(self.limit));
            }
            match self.message.is_empty() {
                true => self.message.reserve_exact(length),
                // Parts may be many: the room must not grow by as little each time.
                false => self.message.reserve(length),
            }
        }
        self.left = length;
        self.frame = Some(head);
        Ok(())
    }

    fn end(&mut self, frame: Head, arrived: &mut Arrived) -> Result<()> {
        match frame.opcode {
            Opcode::Ping => arrived.ping = Some(mem::take(&mut self.control).into()),
            Opcode::Pong => self.control = Vec::new(),
            Opcode::Close => return Err(closed(&self.control)),
            Opcode::Continuation | Opcode::Text | Opcode::Binary if frame.last => {
                // Whoever keeps a message keeps no more than it.
                let payload = mem::take(&mut self.message).into_boxed_slice();
                let message = match self.kind.take() {
                    Some(Opcode::Binary) => Message::Binary(payload.into()),
                    _ if std::str::from_utf8(&payload).is_ok() => Message::Text(payload.into()),
                    _ => return Err(not_utf8()),
                };
                arrived.messages.push_back(Ok(message));
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
        }
        Ok(())
    }
}

/// What a close frame says; 1005 stands for no code.
fn closed(payload: &[u8]) -> Ending {
    let error = match payload {
        [high, low, reason @ ..] => Error::closed(
            u16::from_be_bytes([*high, *low]),
            redact::text(&String::from_utf8_lossy(reason)),
        ),
        _ => Error::closed(1005, ""),
    };
    let answer = error.close_code().map(|code| match code {
        1005 => 1000,
        code if may_be_sent(code) => code,
        _ => 1002,
    });
    Ending { error, answer }
}

/// Whether a close frame may carry this code (7.4): others are reserved, or unassigned.
pub(crate) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn cut() -> Ending {
    Ending {
        error: Error::new(
            ErrorKind::Interrupted,
            "the connection ended without a close",
        ),
        answer: None,
    }
}

fn broke(error: io::Error) -> Ending {
    let error = if is_handshake_alert(&error) {
        Error::new(ErrorKind::Tls, "the server rejected the TLS handshake").with_source(error)
    } else {
        broken_connection(error)
    };
    Ending {
        error,
        answer: None,
    }
}

pub(crate) fn broken_connection(error: io::Error) -> Error {
    Error::new(ErrorKind::Interrupted, "the connection broke").with_source(error)
}

/// A breach of the protocol, with the close code that names it.
fn breach(code: u16, message: String) -> Ending {
    Ending {
        error: Error::new(ErrorKind::Decode, message),
        answer: Some(code),
    }
}

fn too_long(limit: usize) -> Ending {
    breach(
        1009,
        format!("a message is above the limit of {limit} bytes"),
    )
}

fn not_utf8() -> Ending {
    breach(1007, "not WebSocket: text that is not UTF-8".to_owned())
}

fn broken(what: &str) -> Ending {
    breach(1002, format!("not WebSocket: {what}"))
}

#[cfg(test)]
mod tests;
