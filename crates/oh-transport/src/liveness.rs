//! The state of a server as reported by its supervisor.
//!
//! A failed socket or request only shows that a server does not respond. A supervisor can report
//! the cause: the process has exited permanently or is being restarted. Operations that wait for
//! the server then end at once instead of after a timeout.

use std::sync::Arc;

/// The supervisor's view of the server behind a [`Client`](crate::Client).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// No supervisor has reported a state. The default.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;

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
