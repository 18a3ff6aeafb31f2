//! Deciding what to do after the end of a connection.

use oh_protocol::calls::server::GetServerInfo;
use oh_transport::ErrorKind as Wire;
use tokio::time::Instant;
use tracing::debug;

use super::{Phase, SILENT, TRY_SOCKET, Watcher, reading::Flavor, rest::Fault};
use crate::{
    Error, ErrorKind,
    link::endings::{Ending, classify},
};

/// A frame that fails to decode this often in a row is fetched with REST.
const UNREADABLE: u32 = 2;
/// After this many connections in a row without a frame, events are fetched with REST instead.
const FRUITLESS: u32 = 3;

impl Watcher {
    /// Decides what to do after the end of a connection.
    pub(super) async fn broken(&mut self, error: oh_transport::Error) -> Phase {
        let ending = classify(&error);
        debug!(conversation = %self.id, %error, ?ending, "connection ended");
        match ending {
            // This says nothing about the conversation.
            Ending::Retry => (self.missing, self.leased) = (None, None),
            Ending::TooLarge => return Phase::Fetch,
            Ending::Unreadable => {
                self.unreadable += 1;
                if self.unreadable >= UNREADABLE {
                    self.unreadable = 0;
                    return Phase::Fetch;
                }
            }
            Ending::Unauthorized => {
                // A gateway may reject only the upgrade.
                let own = error.close_code().is_some() || self.look().await.is_err();
                if own {
                    return Phase::End(self.unauthorized(error));
                }
            }
            Ending::Ask => {
                if let Some(error) = self.ask(&error).await {
                    return Phase::End(error);
                }
            }
        }
        let mut cause = Error::transport(self.id, "keep the connection to the server", error);
        let reachable = cause
            .transport_error()
            .is_none_or(|error| error.kind() != Wire::Connect);
        let silent = self.heard.elapsed() >= SILENT;
        let refused = self.fruitless >= FRUITLESS && silent && reachable;
        if (refused || self.polls) && self.leased.is_none() && self.missing.is_none() {
            // Perhaps only sockets are refused.
            match self.catch_up().await {
                Ok(()) => {
                    self.polls = true;
                    self.writer.polling(cause, refused);
                    self.tell_live();
                    let until = Instant::now() + self.try_socket;
                    self.try_socket = (self.try_socket * 2).min(TRY_SOCKET.1);
                    return Phase::Poll(until);
                }
                Err(Fault::Other) => return Phase::Verify,
                Err(Fault::Wire(other)) => {
                    cause = Error::transport(self.id, "keep the connection to the server", other);
                }
            }
        }
        self.polls = false;
        self.writer.connecting(Some(cause));
        let disowned = self.leased.is_some() || self.missing.is_some();
        self.writer.change(|held| {
            if held.disowned && !disowned {
                // The server has responded until now.
                held.down_since = Some(Instant::now());
            }
            held.disowned = disowned;
        });
        Phase::Wait(self.backoff.next_delay())
    }

    /// Finds out with REST whether the conversation is gone or leased, or the endpoint is refused.
    /// A returned error is final.
    async fn ask(&mut self, refused: &oh_transport::Error) -> Option<Error> {
        match self.look().await {
            Ok(()) if refused.kind() == Wire::Forbidden && self.flavor == Flavor::Session => {
                // A server of an unknown version may lack the session socket. A known version has
                // it, so a proxy may be refusing the socket.
                let info = self.client.server_info().await;
                let known = info.is_ok_and(|info| info.version_numbers().is_some());
                if !known {
                    self.legacy_next = true;
                    self.fruitless = 0;
                }
                self.missing = None;
                None
            }
            Ok(()) => {
                self.missing = None;
                if !self.is_disowned_by(refused).await {
                    return None;
                }
                let since = *self.leased.get_or_insert_with(Instant::now);
                let what = "another running server holds the conversation's lease";
                let over = since.elapsed() >= self.limits.lease;
                over.then(|| {
                    Error::new(ErrorKind::Leased, self.id, what)
                        .advise("use that server or stop it")
                })
            }
            Err(error) if error.kind() == Wire::Unauthorized => Some(self.unauthorized(error)),
            Err(error) if error.kind() == Wire::NotFound && self.is_own_word(&error).await => {
                let (since, times) = self.missing.unwrap_or((Instant::now(), 0));
                self.missing = Some((since, times + 1));
                let what = "the server does not have the conversation: it was deleted, or it is \
                            on another server";
                let over = times > 0 && since.elapsed() >= self.limits.missing;
                over.then(|| Error::new(ErrorKind::Gone, self.id, what).with_source(error))
            }
            Err(_) => {
                (self.missing, self.leased) = (None, None);
                None
            }
        }
    }

    /// Returns whether a refusal is the agent server's own report that it does not have a
    /// conversation, although a request finds it: by a socket's close, or by the response to a
    /// request.
    async fn is_disowned_by(&self, refused: &oh_transport::Error) -> bool {
        let named = |detail: &str| detail.starts_with("Conversation not found");
        let by_rest = refused
            .body()
            .and_then(|body| body["detail"].as_str())
            .is_some_and(named);
        refused.close_code().is_some() || by_rest && self.is_own_word(refused).await
    }

    /// Returns whether a 404 is from the agent server, and not from a gateway in front of it.
    async fn is_own_word(&self, error: &oh_transport::Error) -> bool {
        let own = error.body().is_some_and(|body| body["detail"].is_string());
        own && self.client.call(&GetServerInfo::default()).await.is_ok()
    }

    pub(super) async fn verify(&mut self) -> Phase {
        let rest = self.rest_while_down();
        let other = match rest.is_other_log().await {
            Ok(false) => rest.has_lost_the_end().await,
            other => other,
        };
        match other {
            Ok(true) => Phase::End(self.replaced()),
            Ok(false) => {
                // The events exist under other numbers: the server's log has lost some.
                self.writer.change(|held| held.exact = false);
                Phase::Dial
            }
            Err(error) => Phase::Broken(error),
        }
    }

    pub(super) fn replaced(&self) -> Error {
        let what = "the conversation was replaced: its log on the server differs from the log \
                    read before, or is shorter";
        Error::new(ErrorKind::Replaced, self.id, what).advise("attach again")
    }

    fn unauthorized(&self, cause: oh_transport::Error) -> Error {
        let what = "the server rejected the session key";
        Error::new(ErrorKind::Unauthorized, self.id, what).with_source(cause)
    }
}
