//! Servers that other programs run, as servers of a fleet.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use oh_transport::{Client, WorkspaceHandle};

use super::{
    failure::StartError,
    provider::{Finding, FleetServer, Provider, Starting, attach, boxed},
};
use crate::Request;

/// A [`Provider`] for servers that other programs run, such as a row of virtual machines. The fleet
/// uses each server at most once at a time, and leaves it running.
///
/// The servers survive the program that uses them. A batch with a journal can therefore continue
/// the conversations of a program that crashed.
#[derive(Clone)]
pub struct AttachedServers {
    directory: String,
    all: Arc<[Known]>,
}

struct Known {
    client: Client,
    used: Mutex<bool>,
}

/// A server of the list, in use until this is dropped.
struct Attached {
    servers: AttachedServers,
    index: usize,
}

impl AttachedServers {
    /// Creates a provider for the servers of these clients. `directory` is the working directory of
    /// conversations on each server, such as `/workspace`.
    pub fn new(clients: impl IntoIterator<Item = Client>, directory: impl Into<String>) -> Self {
        let known = clients.into_iter().map(|client| Known {
            client,
            used: Mutex::new(false),
        });
        Self {
            directory: directory.into(),
            all: known.collect(),
        }
    }

    /// Marks the first free server that is accepted as used.
    fn take(&self, accepts: impl Fn(&Client) -> bool) -> Option<Attached> {
        let index = self.all.iter().position(|known| {
            let mut used = known.used.lock().unwrap_or_else(PoisonError::into_inner);
            let free = !*used && accepts(&known.client);
            *used |= free;
            free
        })?;
        let servers = self.clone();
        Some(Attached { servers, index })
    }
}

fn name(client: &Client) -> &str {
    client.base_url().as_str().trim_end_matches('/')
}

impl Provider for AttachedServers {
    fn start(&self) -> Starting {
        let taken = self.take(|_| true);
        Box::pin(async move {
            let server =
                taken.ok_or_else(|| StartError::transient("all servers of the list are in use"))?;
            attach(server.client().clone()).await?;
            Ok(boxed(server))
        })
    }

    fn find(&self, wanted: &str) -> Finding {
        let taken = self.take(|client| name(client) == wanted);
        Box::pin(async move {
            let Some(server) = taken else { return Ok(None) };
            attach(server.client().clone()).await?;
            Ok(Some(boxed(server)))
        })
    }

    fn limit(&self) -> Option<usize> {
        Some(self.all.len())
    }
}

impl WorkspaceHandle for Attached {
    fn client(&self) -> &Client {
        &self.servers.all[self.index].client
    }

    fn working_dir(&self) -> &str {
        &self.servers.directory
    }
}

impl FleetServer for Attached {
    fn name(&self) -> String {
        name(self.client()).to_owned()
    }

    fn stop(self: Box<Self>, _grace: Duration) -> Request<()> {
        // The server belongs to another program.
        drop(self);
        Request::new(async { Ok(()) })
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let used = &self.servers.all[self.index].used;
        *used.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attached").field(&self.name()).finish()
    }
}

impl fmt::Debug for AttachedServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.all.iter().map(|known| name(&known.client));
        f.debug_list().entries(names).finish()
    }
}
