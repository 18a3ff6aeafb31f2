//! The interface between programs that run conversations and the owners of many servers.

use std::fmt;

use crate::{Client, RequestFuture, WorkspaceHandle};

/// Why no server was available: the error of the owner of the servers.
pub type LeaseError = Box<dyn std::error::Error + Send + Sync>;

/// Gives servers to conversations, one place at a time, and takes them back. `Fleet` of
/// `oh-sandbox` implements this, and `Bulk` of `oh-conversation` uses it.
pub trait ServerSource: fmt::Debug + Send + Sync {
    /// Returns how many places there can be at once. At least 1.
    fn places(&self) -> usize;

    /// Waits for a place on a server. Dropping the future gives up the request, and loses no place.
    fn lease(&self) -> RequestFuture<Box<dyn ServerLease>, LeaseError>;

    /// Waits for a place on the server that a lease returned this [name](ServerLease::name) of,
    /// also if that lease was one of another process. Returns `None` if there is no such server any
    /// more.
    fn lease_of(&self, name: &str) -> RequestFuture<Option<Box<dyn ServerLease>>, LeaseError>;
}

/// A place on a server. Dropping the lease returns the place.
pub trait ServerLease: WorkspaceHandle + fmt::Debug + Send + Sync {
    /// Returns the name of the server, without secrets.
    fn name(&self) -> &str;

    /// Ends the server once its other leases are returned: the server failed, or is in a state that
    /// the next conversation must not find.
    fn discard(self: Box<Self>, reason: &str);
}

impl WorkspaceHandle for Box<dyn ServerLease> {
    fn client(&self) -> &Client {
        (**self).client()
    }

    fn working_dir(&self) -> &str {
        (**self).working_dir()
    }
}
