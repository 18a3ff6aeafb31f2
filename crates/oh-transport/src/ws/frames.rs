//! Decodes the frames of a server into whole messages: the client side of RFC 6455.
//!
//! The decoder is lenient in two places: it accepts non-minimal lengths (5.2) and a close frame
//! with a payload of one byte (5.5.1).
//!
//! No memory is held between messages. Data is read into a buffer that all sockets of a thread
//! share. Incomplete data is kept in the allocation of the future message, and the rest of a long
//! payload is read directly into that allocation.

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

/// The error that ended reading, and the code of the close frame to send in response.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) error: Error,
    /// `None` if the peer can no longer receive a close frame.
    pub(crate) answer: Option<u16>,
}

type Result<T, E = Ending> = std::result::Result<T, E>;

/// The number of bytes per read. A payload that misses at least this much is read directly into its
/// message.
const CHUNK: usize = 64 * 1024;
/// The maximum payload of a control frame.
const CONTROL_LIMIT: u8 = 125;
/// The maximum length of the head of an unmasked frame.
const HEAD: usize = 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Data that was received but not yet passed on.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// Whole messages, each in its own allocation of exact length.
    pub(crate) messages: VecDeque<crate::Result<Message>>,
    /// The newest ping. A pong for it also answers all earlier pings.
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
    /// Creates a reader. `early` contains bytes that were already read from the stream; `limit` is
    /// the maximum size of a message, in bytes.
    pub(crate) fn new(stream: S, early: Vec<u8>, limit: usize) -> Self {
        Self {
            stream,
            early,
            decoder: Decoder::new(limit),
        }
    }

    /// Reads from the stream once. If an error is returned, `arrived` still contains the data that
    /// was received before it. Cancel-safe: a dropped call has read nothing.
    ///
    /// # Errors
    ///
    /// Returns the reason why the connection ended: [`Error::closed`] for a close frame,
    /// `Interrupted` without one, `Decode` for a protocol violation. After an error, only
    /// [`drain`](Self::drain) may be called.
    pub(crate) async fn read(&mut self, arrived: &mut Arrived) -> Result<()> {
        poll_fn(|cx| self.poll_read(cx, arrived)).await
    }

    /// Reads and discards data until the server ends the connection. Closing a connection with
    /// unread data resets it, and a reset may discard the close frame that was sent.
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

/// The head of a frame, before its payload.
#[derive(Debug, Clone, Copy)]
struct Head {
    last: bool,
    opcode: Opcode,
    length: u64,
}

impl Head {
    /// Decodes a head, which may be incomplete. Reports an error as soon as the invalid bytes have
    /// arrived.
    fn read(bytes: &[u8]) -> Result<Option<Self>> {
        let [first, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(broken(
                "the frame uses an extension that was not negotiated",
            ));
        }
        let last = first & 0x80 != 0;
        let opcode = match first & 0x0F {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return Err(broken("unknown frame type")),
        };
        if opcode.is_control() && !last {
            return Err(broken("fragmented control frame"));
        }
        let [second, rest @ ..] = rest else {
            return Ok(None);
        };
        if second & 0x80 != 0 {
            return Err(broken("masked frame from the server"));
        }
        if opcode.is_control() && *second > CONTROL_LIMIT {
            return Err(broken("control frame too long"));
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

/// A decoder from bytes to messages. The bytes may be split at any point.
#[derive(Debug)]
struct Decoder {
    limit: usize,
    /// The beginning of a head.
    head: [u8; HEAD],
    head_bytes: usize,
    /// The current frame, and the number of missing payload bytes.
    frame: Option<Head>,
    left: usize,
    /// The type of the current message, which may have several frames, and its data so far.
    kind: Option<Opcode>,
    message: Vec<u8>,
    /// The payload of a control frame, which may occur between the frames of a message.
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

    /// Returns the destination for the rest of a payload that is too long for the shared buffer.
    fn long_payload(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        (self.left >= CHUNK).then(|| (&mut self.message).limit(self.left))
    }

    /// Records that `bytes` bytes were written to the destination of
    /// [`long_payload`](Self::long_payload).
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
                // A message may have many fragments, so the capacity must grow exponentially.
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
                // Trim the allocation: a caller that keeps a message should keep only its bytes.
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

/// Decodes a close frame. Code 1005 means that the frame has no code.
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

/// Returns whether a close frame may contain this code (7.4). Other codes are reserved or
/// unassigned.
pub(crate) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn cut() -> Ending {
    Ending {
        error: Error::new(
            ErrorKind::Interrupted,
            "the connection ended without a close frame",
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
    Error::new(ErrorKind::Interrupted, "the connection was lost").with_source(error)
}

/// Returns the ending for a protocol violation, with its close code.
fn breach(code: u16, message: String) -> Ending {
    Ending {
        error: Error::new(ErrorKind::Decode, message),
        answer: Some(code),
    }
}

fn too_long(limit: usize) -> Ending {
    breach(
        1009,
        format!("the message is above the limit of {limit} bytes; raise `max_message`"),
    )
}

fn not_utf8() -> Ending {
    breach(
        1007,
        "invalid WebSocket data: text must be valid UTF-8".to_owned(),
    )
}

fn broken(what: &str) -> Ending {
    breach(1002, format!("invalid WebSocket data: {what}"))
}

#[cfg(test)]
mod tests;
