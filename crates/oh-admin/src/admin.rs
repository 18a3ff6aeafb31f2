//! The handle of a server's administration, which sends all requests of this crate.

use std::time::Duration;

use oh_protocol::Call;
use oh_transport::Client;

use crate::{Error, Request};

/// The administration of one server, in groups. Cheap to clone. Creating a handle sends nothing.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    /// Returns the administration of a client's server.
    pub fn of(client: &Client) -> Self {
        Self {
            client: client.clone(),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a call. `what` completes "cannot …" in the error.
    pub(crate) fn send<C: Call + 'static>(
        &self,
        what: impl Into<String>,
        call: C,
    ) -> Request<C::Output> {
        self.send_within(None, what, call)
    }

    /// Sends a call with a time limit. `None` means the client's limit.
    pub(crate) fn send_within<C: Call + 'static>(
        &self,
        limit: Option<Duration>,
        what: impl Into<String>,
        call: C,
    ) -> Request<C::Output> {
        let (client, what) = (self.client.clone(), what.into());
        Request::new(async move {
            let mut sent = client.call(&call);
            if let Some(limit) = limit {
                sent = sent.timeout(limit);
            }
            sent.await.map_err(|error| Error::transport(&what, error))
        })
    }

    /// Sends a call that deletes something. Returns whether it existed.
    pub(crate) fn delete<C: Call + 'static>(
        &self,
        what: impl Into<String>,
        call: C,
    ) -> Request<bool> {
        let sent = self.send(what, call);
        Request::new(async move {
            match sent.await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        })
    }
}
