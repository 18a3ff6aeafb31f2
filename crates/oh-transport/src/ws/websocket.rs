//! WebSocket over fastwebsockets, the only module that uses that crate.
//!
//! fastwebsockets writes frames, but [`frames`](super::frames) reads them, because the reader of
//! fastwebsockets keeps a buffer of 16 KiB for every socket. This module adds pings, pongs and
//! close frames, and the shared end of both halves.

use std::{
    fmt, io,
    pin::pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use fastwebsockets::{
    Frame, OpCode, Payload, Role, WebSocketError, WebSocketWrite, after_handshake_split,
};
use http::HeaderMap;
use tokio::{
    io::{ReadHalf, WriteHalf},
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use url::Url;

use super::{
    frames::{Arrived, Ending, Frames, broken_connection},
    handshake::handshake,
    queue::{Receiver, Sender},
    socket::Command,
};
use crate::{
    Error, ErrorKind, Message, Result, Socket, SocketPeer, SocketTransport,
    net::{Connector, Stream, Target},
};

/// The number of messages that are buffered between the connection and its reader.
const WAITING: usize = 64;
/// The time limit for sending a close frame.
const GOODBYE: Duration = Duration::from_millis(50);
/// The time limit for the server to close the connection after a close frame of the client.
const LINGER: Duration = Duration::from_secs(2);
/// The upper bound for the message limit, because memory for a frame is allocated once its length
/// is known.
const MESSAGE_LIMIT: usize = 1 << 30;

/// The default socket transport, over the network.
#[derive(Clone)]
pub(crate) struct FastTransport {
    connector: Connector,
    limits: SocketLimits,
}

/// The limits after which a socket counts as lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketLimits {
    /// The maximum size of a whole message, in bytes.
    message: usize,
    /// The interval between pings.
    ping_every: Duration,
    /// The maximum time without any received data, pongs included.
    silence: Duration,
    /// The timeout for the response to the handshake.
    handshake: Duration,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            message: 64 * 1024 * 1024,
            ping_every: Duration::from_secs(20),
            silence: Duration::from_secs(100),
            handshake: Duration::from_secs(30),
        }
    }
}

impl SocketLimits {
    pub(crate) fn with_message(mut self, bytes: usize) -> Self {
        self.message = bytes.min(MESSAGE_LIMIT);
        self
    }

    pub(crate) fn with_handshake(mut self, limit: Duration) -> Self {
        self.handshake = limit;
        self
    }

    pub(crate) fn with_silence(mut self, limit: Duration) -> Self {
        // Longer than a year means no limit, but a timer must still be able to represent it.
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
        let connected = self.connector.connect(&Target::of_url(url)).await?;
        open(connected.stream, url, headers, self.limits).await
    }
}

/// Creates a socket from a connected stream.
async fn open(
    mut stream: Stream,
    url: &Url,
    headers: &HeaderMap,
    limits: SocketLimits,
) -> Result<Socket> {
    let early = timeout(limits.handshake, handshake(&mut stream, url, headers))
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                "no response to the WebSocket handshake",
            ))
        })?;
    let (read, write) = tokio::io::split(stream);
    let reader = Frames::new(read, early, limits.message);
    let (_, mut writer) = after_handshake_split(tokio::io::empty(), write, Role::Client);
    writer.set_auto_apply_mask(true);
    Ok(Socket::spawned(WAITING, move |peer| {
        tend(peer, reader, writer, limits)
    }))
}

type Reader = Frames<ReadHalf<Stream>>;
type Writer = WebSocketWrite<WriteHalf<Stream>>;

/// Reads and writes until one of the halves ends, and reports the reason.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps its arguments twice, and this is in memory for every socket"
)]
fn tend(
    peer: SocketPeer,
    mut reader: Reader,
    mut writer: Writer,
    limits: SocketLimits,
) -> impl Future<Output = ()> + Send {
    async move {
        let (messages, mut commands) = peer.split();
        let signs = Signs::default();
        let ended = {
            let mut writing = pin!(write_loop(&mut writer, &mut commands, &signs, &limits));
            let ended = tokio::select! {
                ending = read_loop(&mut reader, &messages, &signs) => Ended::Reading(ending),
                ending = &mut writing => Ended::Writing(ending),
            };
            if let Ended::Reading(Some(Ending {
                answer: Some(code), ..
            })) = &ended
            {
                signs.owe(Due::Close(*code));
                let _ = timeout(GOODBYE, writing).await;
            }
            ended
        };
        // Nothing is sent from here on. Drop the queue so that senders do not wait.
        drop(commands);
        let (error, goodbye) = match ended {
            Ended::Reading(None) | Ended::Writing(None) => (None, true),
            Ended::Reading(Some(ending)) => (Some(ending.error), ending.answer.is_some()),
            Ended::Writing(error) => (error, false),
        };
        if goodbye {
            // Runs in its own task: dropping the socket must not reset the connection while the
            // close frame is being sent.
            tokio::spawn(async move {
                let _ = timeout(LINGER, reader.drain()).await;
                drop(writer);
            });
        } else {
            drop((reader, writer));
        }
        if let Some(error) = error {
            let _ = messages.send(Err(error)).await;
        }
    }
}

/// The half that ended a socket. `None` means that the client closed the socket or that its reader
/// was dropped.
enum Ended {
    Reading(Option<Ending>),
    Writing(Option<Error>),
}

/// A control frame that the writer has to send.
#[derive(Debug)]
enum Due {
    Pong(Bytes),
    /// The response to the peer's close frame.
    Close(u16),
}

/// State that the reading half shares with the writing half.
#[derive(Debug, Default)]
struct Signs {
    /// Whether something arrived since the last check.
    heard: AtomicBool,
    /// Whether the local reader is behind. In this case, missing data does not mean that the server
    /// is silent.
    behind: AtomicBool,
    /// The pending control frame. A newer one replaces an older one.
    owed: Mutex<Option<Due>>,
    owing: Notify,
}

impl Signs {
    fn of_life(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed) | self.behind.load(Ordering::Relaxed)
    }

    fn owe(&self, due: Due) {
        *self.owed.lock().unwrap_or_else(PoisonError::into_inner) = Some(due);
        self.owing.notify_one();
    }

    /// Waits for the next control frame to send. Cancel-safe: a dropped call takes nothing.
    async fn due(&self) -> Due {
        loop {
            let owed = self
                .owed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(due) = owed {
                return due;
            }
            self.owing.notified().await;
        }
    }
}

/// Reads until the end. Returns the error to report, or `None` if the receiver was dropped.
async fn read_loop(
    reader: &mut Reader,
    messages: &Sender<Result<Message>>,
    signs: &Signs,
) -> Option<Ending> {
    let mut arrived = Arrived::default();
    loop {
        let read = reader.read(&mut arrived).await;
        signs.heard.store(true, Ordering::Relaxed);
        if let Some(ping) = arrived.ping.take() {
            signs.owe(Due::Pong(ping));
        }
        if !arrived.messages.is_empty() {
            signs.behind.store(true, Ordering::Relaxed);
            messages.send_all(&mut arrived.messages).await.ok()?;
            signs.behind.store(false, Ordering::Relaxed);
        }
        if let Err(ending) = read {
            return Some(ending);
        }
    }
}

/// Writes commands and control frames, and sends pings while nothing arrives. Returns the error to
/// report, or `None` after either side has closed the socket.
async fn write_loop(
    writer: &mut Writer,
    commands: &mut Receiver<Command>,
    signs: &Signs,
    limits: &SocketLimits,
) -> Option<Error> {
    let mut alive = Instant::now();
    let mut next_ping = alive + limits.ping_every;
    loop {
        let (frame, done, last) = tokio::select! {
            due = signs.due() => match due {
                Due::Pong(payload) => (Frame::pong(Payload::Owned(payload.into())), None, false),
                Due::Close(code) => (Frame::close(code, b""), None, true),
            },
            command = commands.recv() => match command {
                None => return None,
                Some(Command::Send(message, done)) => (to_frame(message), Some(done), false),
                Some(Command::Close(code, reason, done)) => {
                    (Frame::close(code, reason.as_bytes()), Some(done), true)
                }
            },
            () = sleep_until(next_ping) => {
                if signs.of_life() {
                    alive = Instant::now();
                }
                let quiet = alive.elapsed();
                if quiet >= limits.silence {
                    let error = format!("nothing was received for {quiet:.0?}, not even a pong");
                    return Some(Error::new(ErrorKind::Timeout, error));
                }
                next_ping = Instant::now() + limits.ping_every;
                let ping = Payload::Owned(Vec::new());
                (Frame::new(true, OpCode::Ping, None, ping), None, false)
            }
        };
        // Boxed: a socket is almost always idle, and its future is as large as its largest step.
        let written = Box::pin(write(writer, frame, limits.silence)).await;
        let failed = written.err();
        if let Some(done) = done {
            let _ = done.send(failed.as_ref().map_or(Ok(()), |error| {
                Err(Error::new(error.kind(), "cannot send the message"))
            }));
        }
        if last {
            return None;
        }
        if failed.is_some() {
            return failed;
        }
    }
}

async fn write(writer: &mut Writer, frame: Frame<'_>, limit: Duration) -> Result<()> {
    let writing = async {
        writer.write_frame(frame).await?;
        writer.flush().await
    };
    match timeout(limit, writing).await {
        Ok(written) => written.map_err(unsent),
        // The peer accepts no data, so pings could not be sent either.
        Err(_) => Err(Error::new(
            ErrorKind::Timeout,
            format!("nothing could be sent for {limit:.0?}"),
        )),
    }
}

fn to_frame(message: Message) -> Frame<'static> {
    match message {
        Message::Text(text) => Frame::text(Payload::Owned(text.into())),
        Message::Binary(bytes) => Frame::binary(Payload::Owned(bytes.into())),
    }
}

fn unsent(error: WebSocketError) -> Error {
    broken_connection(match error {
        WebSocketError::IoError(error) => error,
        error => io::Error::other(error.to_string()),
    })
}

#[cfg(test)]
mod tests;
