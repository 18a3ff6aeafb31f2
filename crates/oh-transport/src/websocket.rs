//! WebSocket over fastwebsockets: the only module that names it.
//!
//! It adds what that crate leaves to its users: the check of the handshake, a cap on whole
//! messages, one owner of the read half (whose reads cannot be cancelled), pings, and a refusal
//! of frames that no server may send.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use fastwebsockets::{
    Frame, OpCode, Payload, Role, WebSocketError, WebSocketRead, WebSocketWrite,
    after_handshake_split,
};
use http::HeaderMap;
use tokio::{
    io::{BufReader, ReadHalf, WriteHalf},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use url::Url;

use crate::{
    Error, ErrorKind, Message, Result, Socket, SocketTransport,
    connect::{Connector, Stream},
    handshake::handshake,
    socket::Command,
};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);
/// Messages that may wait between the connection and its reader.
const WAITING: usize = 64;
/// No control frame may carry more.
const CONTROL_LIMIT: usize = 125;
/// Room is made for a frame as soon as its length is known.
const MESSAGE_LIMIT: usize = 1 << 30;

/// The network's sockets.
#[derive(Clone)]
pub(crate) struct FastTransport {
    connector: Connector,
    limits: SocketLimits,
}

/// When a socket is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketLimits {
    /// Largest whole message, in bytes.
    message: usize,
    /// How often we ping.
    ping_every: Duration,
    /// How long nothing at all may arrive, pongs included.
    silence: Duration,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            message: 64 * 1024 * 1024,
            ping_every: Duration::from_secs(20),
            silence: Duration::from_secs(100),
        }
    }
}

impl SocketLimits {
    pub(crate) fn with_message(mut self, bytes: usize) -> Self {
        self.message = bytes.min(MESSAGE_LIMIT);
        self
    }

    pub(crate) fn with_silence(mut self, limit: Duration) -> Self {
        // Longer than a year is never; a timer must still be able to count it.
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        self.silence = limit.clamp(Duration::from_millis(5), YEAR);
        self.ping_every = self.silence / 5;
        self
    }
}

impl FastTransport {
    pub(crate) fn new(connector: Connector, limits: SocketLimits) -> Self {
        Self { connector, limits }
    }
}

impl fmt::Debug for FastTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastTransport")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SocketTransport for FastTransport {
    async fn connect(&self, url: &Url, headers: &HeaderMap) -> Result<Socket> {
        let stream = self.connector.connect(url).await?;
        open(stream, url, headers, self.limits).await
    }
}

/// Makes a socket of a connected stream.
async fn open(
    stream: Stream,
    url: &Url,
    headers: &HeaderMap,
    limits: SocketLimits,
) -> Result<Socket> {
    let mut stream = BufReader::with_capacity(2048, stream);
    timeout(HANDSHAKE_LIMIT, handshake(&mut stream, url, headers))
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                "no answer to the WebSocket handshake",
            ))
        })?;
    let (read, write) = tokio::io::split(stream);
    let (mut reader, mut writer) = after_handshake_split(read, write, Role::Client);
    reader.set_max_message_size(limits.message + 1);
    reader.set_auto_close(false);
    reader.set_auto_pong(false);
    writer.set_auto_apply_mask(true);
    Ok(Socket::spawned(WAITING, move |peer| async move {
        let (messages, commands) = peer.split();
        let (pongs, due) = mpsc::channel(8);
        let signs = Signs::default();
        // Reads must never be cancelled, so both loops are polled to the end of either.
        let ending = tokio::select! {
            ending = read_loop(reader, &messages, pongs, &signs, limits.message) => ending,
            ending = write_loop(writer, commands, due, &signs, limits) => ending,
        };
        if let Some(error) = ending {
            let _ = messages.send(Err(error)).await;
        }
    }))
}

type Reader = WebSocketRead<ReadHalf<BufReader<Stream>>>;
type Writer = WebSocketWrite<WriteHalf<BufReader<Stream>>>;

/// What the writer owes the peer.
enum Due {
    Pong(Bytes),
    /// Answer to the peer's close.
    Close(u16, oneshot::Sender<()>),
}

/// What the reading half lets the pinging half know; set on every frame, so kept cheap.
#[derive(Default)]
struct Signs {
    /// Something arrived since the last look.
    heard: AtomicBool,
    /// Our own reader is behind: what does not arrive now is not the server's silence.
    behind: AtomicBool,
}

impl Signs {
    fn of_life(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed) | self.behind.load(Ordering::Relaxed)
    }
}

/// Reads frames to the end. Gives the error to report, or none when nobody listens any more.
async fn read_loop(
    mut reader: Reader,
    messages: &mpsc::Sender<Result<Message>>,
    due: mpsc::Sender<Due>,
    signs: &Signs,
    limit: usize,
) -> Option<Error> {
    let mut parts: Option<(OpCode, BytesMut)> = None;
    loop {
        let frame = reader
            .read_frame(&mut |_| async { Ok::<_, WebSocketError>(()) })
            .await;
        let mut frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Some(ended(error, limit)),
        };
        signs.heard.store(true, Ordering::Relaxed);
        if let Some(breach) = breach(&mut frame) {
            return Some(broken(breach));
        }
        let message = match (frame.opcode, frame.fin, parts.take()) {
            (OpCode::Ping, _, before) => {
                parts = before;
                let pong = Due::Pong(Bytes::copy_from_slice(&frame.payload));
                // A full queue means pongs are on their way already.
                let _ = due.try_send(pong);
                continue;
            }
            (OpCode::Pong, _, before) => {
                parts = before;
                continue;
            }
            (OpCode::Close, ..) => {
                let (code, reason) = read_close(&frame.payload);
                let goodbye = async {
                    let (done, sent) = oneshot::channel();
                    if due.send(Due::Close(code, done)).await.is_ok() {
                        let _ = sent.await;
                    }
                };
                let _ = timeout(Duration::from_millis(50), goodbye).await;
                return Some(Error::closed(code, reason));
            }
            (OpCode::Continuation, fin, Some((code, mut whole))) => {
                if whole.len() + frame.payload.len() > limit {
                    return Some(too_long(limit));
                }
                whole.extend_from_slice(&frame.payload);
                if !fin {
                    parts = Some((code, whole));
                    continue;
                }
                match code {
                    OpCode::Binary => Message::Binary(whole.freeze()),
                    _ if std::str::from_utf8(&whole).is_ok() => Message::Text(whole.freeze()),
                    _ => return Some(broken("text that is not UTF-8")),
                }
            }
            (code @ (OpCode::Text | OpCode::Binary), false, None) => {
                parts = Some((code, BytesMut::from(&frame.payload[..])));
                continue;
            }
            // A message of its own allocation: whoever keeps a slice of it keeps no more. Text in
            // one frame was checked to be UTF-8 when it was read.
            (OpCode::Text, true, None) => Message::Text(Bytes::copy_from_slice(&frame.payload)),
            (OpCode::Binary, true, None) => Message::Binary(Bytes::copy_from_slice(&frame.payload)),
            _ => return Some(broken("fragments out of order")),
        };
        if let Err(full) = messages.try_send(Ok(message)) {
            signs.behind.store(true, Ordering::Relaxed);
            messages.send(full.into_inner()).await.ok()?;
            signs.behind.store(false, Ordering::Relaxed);
        }
    }
}

/// Writes what is asked for and owed, and pings while nothing arrives.
async fn write_loop(
    mut writer: Writer,
    mut commands: mpsc::Receiver<Command>,
    mut due: mpsc::Receiver<Due>,
    signs: &Signs,
    limits: SocketLimits,
) -> Option<Error> {
    let mut alive = Instant::now();
    let mut next_ping = alive + limits.ping_every;
    loop {
        let (frame, done, last) = tokio::select! {
            Some(due) = due.recv() => match due {
                Due::Pong(payload) => (Frame::pong(Payload::Owned(payload.into())), None, None),
                Due::Close(code, done) => {
                    (Frame::close(echoed(code), b""), None, Some(done))
                }
            },
            command = commands.recv() => match command {
                None => return None,
                Some(Command::Send(message, done)) => (to_frame(message), Some(done), None),
                Some(Command::Close(code, reason, done)) => {
                    (Frame::close(code, reason.as_bytes()), None, Some(done))
                }
            },
            () = sleep_until(next_ping) => {
                if signs.of_life() {
                    alive = Instant::now();
                }
                let quiet = alive.elapsed();
                if quiet >= limits.silence {
                    let error = format!("nothing arrived for {quiet:.0?}, not even a pong");
                    return Some(Error::new(ErrorKind::Timeout, error));
                }
                next_ping = Instant::now() + limits.ping_every;
                let ping = Payload::Owned(Vec::new());
                (Frame::new(true, OpCode::Ping, None, ping), None, None)
            }
        };
        let writing = async {
            writer.write_frame(frame).await?;
            writer.flush().await
        };
        // Nobody at the other end takes anything: pings could not leave either.
        let written = match timeout(limits.silence, writing).await {
            Ok(written) => written.map_err(|error| ended(error, limits.message)),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("nothing could be sent for {:.0?}", limits.silence),
            )),
        };
        if let Some(done) = last {
            let _ = done.send(());
            // The reader reports how the socket ended; a close of our own needs no report.
            std::future::pending::<()>().await;
        }
        let failed = written.err();
        if let Some(done) = done {
            let _ = done.send(failed.as_ref().map_or(Ok(()), |error| {
                Err(Error::new(error.kind(), "the message could not be sent"))
            }));
        }
        if failed.is_some() {
            return failed;
        }
    }
}

fn to_frame(message: Message) -> Frame<'static> {
    match message {
        Message::Text(text) => Frame::text(Payload::Owned(text.into())),
        Message::Binary(bytes) => Frame::binary(Payload::Owned(bytes.into())),
    }
}

/// A close frame's code and reason; 1005 where it has none.
fn read_close(payload: &[u8]) -> (u16, String) {
    match payload {
        [high, low, reason @ ..] => (
            u16::from_be_bytes([*high, *low]),
            String::from_utf8_lossy(reason).into_owned(),
        ),
        _ => (1005, String::new()),
    }
}

/// A code to answer with: 1005 stands for none, and others must not be sent at all.
fn echoed(code: u16) -> u16 {
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => code,
        1005 => 1000,
        _ => 1002,
    }
}

/// What no server may send, and the frame reader lets pass.
fn breach(frame: &mut Frame<'_>) -> Option<&'static str> {
    // The mask itself is private; the second byte of the head tells whether there was one.
    let mut head = [0; 16];
    frame.fmt_head(&mut head);
    if head[1] & 0x80 != 0 {
        return Some("a masked frame");
    }
    let control = matches!(frame.opcode, OpCode::Close | OpCode::Ping | OpCode::Pong);
    if control && frame.payload.len() > CONTROL_LIMIT {
        return Some("a control frame that is too long");
    }
    None
}

fn ended(error: WebSocketError, limit: usize) -> Error {
    match error {
        WebSocketError::UnexpectedEOF | WebSocketError::ConnectionClosed => Error::new(
            ErrorKind::Interrupted,
            "the connection ended without a close",
        ),
        WebSocketError::IoError(error) => {
            Error::new(ErrorKind::Interrupted, "the connection broke").with_source(error)
        }
        WebSocketError::FrameTooLarge => too_long(limit),
        error => Error::new(ErrorKind::Decode, "not WebSocket").with_source(error.to_string()),
    }
}

fn too_long(limit: usize) -> Error {
    Error::new(
        ErrorKind::Decode,
        format!("a message is above the limit of {limit} bytes"),
    )
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Decode, format!("not WebSocket: {what}"))
}

#[cfg(test)]
mod tests;
