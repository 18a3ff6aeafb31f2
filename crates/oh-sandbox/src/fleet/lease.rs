//! A place on a server of a fleet, for one conversation.

use std::fmt;

use oh_transport::{Client, ServerLease, WorkspaceHandle};

use super::store::Place;

/// A place on a server of a [`Fleet`](crate::Fleet). Use it as the workspace of a conversation.
/// Dropping the lease returns the place.
#[must_use = "the place is returned when this is dropped"]
pub struct Lease(Place);

impl Lease {
    pub(super) fn new(place: Place) -> Self {
        Self(place)
    }

    /// Returns the client of the server.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Returns the working directory for conversations. A directory for this lease alone with
    /// [`separate_directories`](crate::FleetBuilder::separate_directories).
    pub fn working_dir(&self) -> &str {
        &self.0.directory
    }

    /// Returns the name of the server: the URL of a local or attached one, the id of a container, a
    /// claim or a runtime.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns whether the server has had a lease before.
    pub fn is_reused(&self) -> bool {
        self.0.reused
    }

    /// Returns the place and gives no more leases of the server. The server is stopped when its
    /// other leases are returned, and replaced if requests wait.
    pub fn discard(self, reason: &str) {
        self.0.discard(reason);
    }
}

impl WorkspaceHandle for Lease {
    fn client(&self) -> &Client {
        self.client()
    }

    fn working_dir(&self) -> &str {
        self.working_dir()
    }
}

impl AsRef<Client> for Lease {
    fn as_ref(&self) -> &Client {
        self.client()
    }
}

impl ServerLease for Lease {
    fn name(&self) -> &str {
        self.name()
    }

    fn discard(self: Box<Self>, reason: &str) {
        (*self).discard(reason);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("server", &self.name())
            .field("working_dir", &self.working_dir())
            .finish_non_exhaustive()
    }
}
