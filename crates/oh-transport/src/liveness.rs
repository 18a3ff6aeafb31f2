//! What the owner of a server knows of it, for everybody who waits for that server.
//!
//! A socket or a request only shows that a server does not answer. A supervisor knows why: the
//! process has ended for good, or is being restarted. It says so here, and waits end at once
//! instead of after a time limit.

use std::sync::Arc;

use tokio::sync::watch;

use crate::Client;

/// What is known of the server behind a [`Client`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// Nobody supervises the server, as far as this client knows. The default.
    #[default]
    Unknown,
    /// The supervisor has seen the server answer.
    Ready,
    /// The server has ended, and is being started again.
    Restarting,
    /// The server has ended and will not come back. Holds the reason, such as the exit status.
    Gone(Arc<str>),
}

impl Client {
    /// Watches what the server's supervisor says about it. All clones of a client share it.
    ///
    /// [`Liveness::Unknown`] unless somebody calls [`set_liveness`](Self::set_liveness), as
    /// `LocalServer` does.
    pub fn liveness(&self) -> watch::Receiver<Liveness> {
        self.liveness_sender().subscribe()
    }

    /// Tells everybody who uses this client, or a clone of it, what is known of the server. For
    /// supervisors.
    pub fn set_liveness(&self, liveness: Liveness) {
        // What runs after a restart may be another version.
        self.doubt();
        self.liveness_sender().send_if_modified(|known| {
            let changed = *known != liveness;
            *known = liveness;
            changed
        });
    }

    /// Whether both are clones of one client, and so share connections and credentials.
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
