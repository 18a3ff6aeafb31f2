//! The state of a server as reported by its supervisor.
//!
//! A failed socket or request only shows that a server does not respond. A supervisor can report
//! the cause: the process has exited permanently or is being restarted. Operations that wait for
//! the server then end at once instead of after a timeout.

use std::sync::Arc;

use tokio::sync::watch;

use crate::Client;

/// The supervisor's view of the server behind a [`Client`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// The server is not supervised, as far as this client can tell. The default.
    #[default]
    Unknown,
    /// The supervisor has received a response from the server.
    Ready,
    /// The server has exited and is being restarted.
    Restarting,
    /// The server has exited and will not be restarted. Contains the reason, such as the exit
    /// status.
    Gone(Arc<str>),
}

impl Client {
    /// Returns a watch channel for the state that the server's supervisor reports. All clones of a
    /// client share this state.
    ///
    /// The state is [`Liveness::Unknown`] until [`set_liveness`](Self::set_liveness) is called, for
    /// example by `LocalServer`.
    pub fn liveness(&self) -> watch::Receiver<Liveness> {
        self.liveness_sender().subscribe()
    }

    /// Sets the state of the server for this client and all its clones. For use by supervisors.
    pub fn set_liveness(&self, liveness: Liveness) {
        // The server may run another version after a restart.
        self.doubt();
        self.liveness_sender().send_if_modified(|known| {
            let changed = *known != liveness;
            *known = liveness;
            changed
        });
    }

    /// Waits until the server's supervisor reports that the server has exited and will not be
    /// restarted, and returns the reason. Waits forever if the server is not supervised.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: the future only waits.
    pub async fn server_gone(&self) -> Arc<str> {
        let mut liveness = self.liveness();
        let gone = liveness.wait_for(|known| matches!(known, Liveness::Gone(_)));
        let reason = match gone.await.as_deref() {
            Ok(Liveness::Gone(reason)) => Some(reason.clone()),
            _ => None,
        };
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Returns whether both values are clones of one client and so share connections and
    /// credentials.
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.liveness_sender(), other.liveness_sender())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_liveness_of_their_server_and_other_clients_do_not() {
        let client = Client::builder("http://127.0.0.1:1").build().unwrap();
        let other = Client::builder("http://127.0.0.1:1").build().unwrap();
        let watched = client.clone().liveness();
        assert_eq!(*watched.borrow(), Liveness::Unknown);
        client.set_liveness(Liveness::Gone("exit status 1".into()));
        assert_eq!(*watched.borrow(), Liveness::Gone("exit status 1".into()));
        assert_eq!(*other.liveness().borrow(), Liveness::Unknown);
        assert!(client.is_same(&client.clone()) && !client.is_same(&other));
    }
}
