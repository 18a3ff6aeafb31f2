//! A WebSocket as a channel of whole messages. Contains no I/O: a network or a test supplies the
//! messages.

use std::{fmt, future::Future, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::oneshot, task::AbortHandle};
use url::Url;

use super::{
    frames::may_be_sent,
    message::Message,
    queue::{Receiver, Sender, queue},
};
use crate::{Error, ErrorKind, Result};

/// The time that [`Socket::close`] waits until its close frame has been sent.
const GOODBYE: Duration = Duration::from_millis(80);
/// The maximum length of the reason in a close frame, in bytes.
const REASON: usize = 123;

/// A transport that opens sockets. The default is the network; [`Socket::pair`] creates sockets for
/// other implementations.
#[async_trait]
pub trait SocketTransport: fmt::Debug + Send + Sync + 'static {
    /// Opens a socket at `url` (scheme `ws` or `wss`) and sends `headers` with the handshake.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection or the handshake fails.
    async fn connect(&self, url: &Url, headers: &http::HeaderMap) -> Result<Socket>;
}

pub(crate) enum Command {
    Send(Message, oneshot::Sender<Result<()>>),
    Close(u16, String, oneshot::Sender<Result<()>>),
}

/// An open socket. Dropping it closes the connection without a close frame.
pub struct Socket {
    incoming: Receiver<Result<Message>>,
    outgoing: Sender<Command>,
    task: Option<AbortHandle>,
    ended: bool,
}

/// The other end of a [`Socket::pair`].
#[derive(Debug)]
pub struct SocketPeer {
    to_client: Sender<Result<Message>>,
    from_client: Receiver<Command>,
}

impl Socket {
    /// Creates a socket without a network and its other end. Each direction buffers up to
    /// `capacity` messages.
    pub fn pair(capacity: usize) -> (Self, SocketPeer) {
        let (to_client, incoming) = queue(capacity);
        let (outgoing, from_client) = queue(capacity);
        let socket = Self {
            incoming,
            outgoing,
            task: None,
            ended: false,
        };
        (
            socket,
            SocketPeer {
                to_client,
                from_client,
            },
        )
    }

    pub(crate) fn spawned<F>(capacity: usize, run: impl FnOnce(SocketPeer) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (mut socket, peer) = Self::pair(capacity);
        socket.task = Some(tokio::spawn(run(peer)).abort_handle());
        socket
    }

    /// Waits for the next message. Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    ///
    /// Returns the reason once when the socket has ended. A close frame is reported as
    /// [`ErrorKind::SocketClosed`] with its code (codes 4001 and 4004 as `Unauthorized` and
    /// `NotFound`), any other reason as `Interrupted`, `Timeout` or `Decode`. All later calls
    /// return `Interrupted`.
    pub async fn recv(&mut self) -> Result<Message> {
        if self.ended {
            return Err(Error::new(ErrorKind::Interrupted, "the socket has ended"));
        }
        let received = self.incoming.recv().await.unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::Interrupted,
                "the socket ended without a close frame",
            ))
        });
        self.ended = received.is_err();
        received
    }

    /// Returns a message that has already arrived, without waiting.
    pub fn try_recv(&mut self) -> Option<Result<Message>> {
        let received = self.incoming.try_recv()?;
        self.ended = received.is_err();
        Some(received)
    }

    /// Sends a message and waits until it has been passed to the connection.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket has ended, even if the reader has not yet reached the end.
    /// Also returns an error if a text message is not valid UTF-8, or if the server accepts no data
    /// for the [silence timeout](crate::NetworkBuilder::silence_timeout).
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have sent the message.
    pub async fn send(&self, message: Message) -> Result<()> {
        if let Message::Text(text) = &message
            && std::str::from_utf8(text).is_err()
        {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a text message must be valid UTF-8",
            ));
        }
        let (done, sent) = oneshot::channel();
        let gone = || Error::new(ErrorKind::Interrupted, "the socket has ended");
        self.outgoing
            .send(Command::Send(message, done))
            .await
            .map_err(|_| gone())?;
        sent.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Closes the socket: sends a close frame and waits at most 80 ms until it has been sent.
    ///
    /// A code that is not allowed in a close frame (such as 1005 or 1006) is replaced by 1000, and
    /// the reason is truncated to 123 bytes. The connection is closed in the background when the
    /// server has closed its side, after at most 2 s.
    pub async fn close(self, code: u16, reason: &str) {
        let (done, closed) = oneshot::channel();
        let code = if may_be_sent(code) { code } else { 1000 };
        let mut end = reason.len().min(REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let command = Command::Close(code, reason[..end].to_owned(), done);
        let leaving = async {
            if self.outgoing.send(command).await.is_ok() {
                let _ = closed.await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, leaving).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl SocketPeer {
    /// Delivers a text message to the socket.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket was dropped.
    pub async fn text(&self, text: impl Into<Bytes>) -> Result<()> {
        self.send(Message::Text(text.into())).await
    }

    /// Delivers any message to the socket. Waits while the queue of the socket is full.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket was dropped.
    pub async fn send(&self, message: Message) -> Result<()> {
        self.deliver(Ok(message)).await
    }

    /// Ends the socket with an error, such as [`Error::closed`] for a close frame.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket was dropped.
    pub async fn end(&self, error: Error) -> Result<()> {
        // Senders must not wait for a queue that is no longer read.
        self.from_client.close();
        self.deliver(Err(error)).await
    }

    /// Waits for the next message from the socket. Returns `None` when the socket was closed or
    /// dropped.
    pub async fn recv(&mut self) -> Option<Message> {
        match self.command().await? {
            Command::Send(message, done) => {
                let _ = done.send(Ok(()));
                Some(message)
            }
            Command::Close(_, _, done) => {
                let _ = done.send(Ok(()));
                None
            }
        }
    }

    async fn deliver(&self, message: Result<Message>) -> Result<()> {
        self.to_client
            .send(message)
            .await
            .map_err(|_| Error::new(ErrorKind::Interrupted, "the socket was dropped"))
    }

    async fn command(&mut self) -> Option<Command> {
        self.from_client.recv().await
    }

    pub(crate) fn split(self) -> (Sender<Result<Message>>, Receiver<Command>) {
        (self.to_client, self.from_client)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(..) => "Send",
            Self::Close(..) => "Close",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn text(text: &'static str) -> Message {
        Message::Text(text.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_carries_messages_both_ways() {
        let (mut socket, mut peer) = Socket::pair(4);
        let (sent, heard) = tokio::join!(socket.send(text("up")), peer.recv());
        sent.unwrap();
        assert_eq!(heard, Some(text("up")));
        assert!(socket.try_recv().is_none());
        peer.text("down").await.unwrap();
        peer.send(Message::Binary("1".into())).await.unwrap();
        assert_eq!(socket.try_recv().unwrap().unwrap(), text("down"));
        assert_eq!(socket.recv().await.unwrap(), Message::Binary("1".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ending_arrives_once_after_all_messages() {
        let (mut socket, peer) = Socket::pair(4);
        peer.text("last").await.unwrap();
        peer.end(Error::closed(4004, "gone")).await.unwrap();
        assert_eq!(socket.recv().await.unwrap(), text("last"));
        let error = socket.recv().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.close_code()),
            (ErrorKind::NotFound, Some(4004))
        );
        for _ in 0..2 {
            let again = socket.recv().await.unwrap_err();
            assert_eq!(
                (again.kind(), again.close_code()),
                (ErrorKind::Interrupted, None)
            );
        }
        drop(peer);
        assert_eq!(
            socket.send(text("x")).await.unwrap_err().kind(),
            ErrorKind::Interrupted
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_vanished_peer_is_an_interruption() {
        let (mut socket, peer) = Socket::pair(1);
        drop(peer);
        assert_eq!(
            socket.recv().await.unwrap_err().kind(),
            ErrorKind::Interrupted
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_slows_its_peer() {
        let (mut socket, peer) = Socket::pair(2);
        peer.text("1").await.unwrap();
        peer.text("2").await.unwrap();
        let third = timeout(Duration::from_secs(1), peer.text("3")).await;
        assert!(third.is_err(), "three fit in two places");
        assert_eq!(socket.recv().await.unwrap(), text("1"));
        peer.text("3").await.unwrap();
        drop(socket);
        assert!(peer.text("4").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_reaches_the_peer_without_waiting_for_it() {
        let (socket, mut peer) = Socket::pair(1);
        let ((), heard) = tokio::join!(socket.close(1000, "bye"), peer.recv());
        assert_eq!(heard, None);
        let (socket, _peer) = Socket::pair(1);
        let closed = timeout(Duration::from_millis(100), socket.close(1000, ""));
        closed.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn sending_ends_with_the_socket_of_a_slow_reader() {
        let (socket, peer) = Socket::pair(1);
        peer.text("unread").await.unwrap();
        let (sent, ended) = tokio::join!(
            timeout(Duration::from_secs(60), socket.send(text("x"))),
            timeout(Duration::from_secs(60), peer.end(Error::closed(1012, ""))),
        );
        assert!(ended.is_err(), "nobody reads");
        let error = sent.expect("send waits for the reader").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
