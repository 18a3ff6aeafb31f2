//! The state that a server's handle and its supervisor share.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicU32},
};

use oh_transport::{Client, Liveness};

use crate::{
    Error, ErrorKind, Result,
    start::{
        plan::{Plan, Reactivation},
        state::{Place, StateDir},
    },
    supervise::keeper::Keeper,
};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) pid: AtomicU32,
    pub(crate) address: SocketAddr,
    /// The client of the first start.
    pub(crate) client: Client,
    /// The request that activated a dormant server, and the client to use since then.
    pub(crate) activation: OnceLock<Reactivation>,
    held: Mutex<Held>,
    known: Mutex<Known>,
}

/// Resources that must be released in order: first the processes, then the directories they use.
#[derive(Debug, Default)]
struct Held {
    keeper: Option<Keeper>,
    state: Option<StateDir>,
}

/// Current liveness of the server, and the clients to notify when it changes.
#[derive(Debug)]
struct Known {
    liveness: Liveness,
    clients: Vec<Client>,
}

impl Shared {
    pub(crate) fn new(
        plan: Plan,
        pid: u32,
        address: SocketAddr,
        client: Client,
        (keeper, state): (Keeper, StateDir),
    ) -> Self {
        Self {
            plan,
            pid: AtomicU32::new(pid),
            address,
            client,
            activation: OnceLock::new(),
            held: Mutex::new(Held {
                keeper: Some(keeper),
                state: Some(state),
            }),
            known: Mutex::new(Known {
                liveness: Liveness::Ready,
                clients: Vec::new(),
            }),
        }
    }

    /// Returns the keeper, until it is released.
    pub(crate) fn keeper(&self) -> Option<Keeper> {
        self.held().keeper.clone()
    }

    /// Returns the keeper, or a new one if it was killed.
    pub(crate) async fn living_keeper(&self) -> Result<Keeper> {
        let gone = || Error::new(ErrorKind::Spawn, "the server was dropped while starting");
        let keeper = self.keeper().ok_or_else(gone)?;
        if keeper.is_alive() {
            return Ok(keeper);
        }
        let state = self.held().state.take().ok_or_else(gone)?;
        // Put back even on failure, so that the state is released after the keeper.
        let new = self.plan.keeper(&state).await;
        let mut held = self.held();
        if held.keeper.is_none() {
            // Released in the meantime: end the processes before dropping the state.
            drop(held);
            drop(new);
            drop(state);
            return Err(gone());
        }
        held.state = Some(state);
        let new = new?;
        held.keeper = Some(new.clone());
        Ok(new)
    }

    /// Registers that the server has ended in order, so that the keeper need not wait for
    /// containers that could still appear.
    pub(crate) async fn settled(&self) {
        let (keeper, place) = {
            let held = self.held();
            let place = held.state.as_ref().map(|state| Place::clone(state));
            (held.keeper.clone(), place)
        };
        if let (Some(keeper), Some(place)) = (keeper, place) {
            // If this fails, the keeper has ended, or waits longer than needed.
            let _best_effort = self.plan.remove_containers(&keeper, &place, true).await;
        }
    }

    /// Kills everything, then removes temporary files. No process can be started afterwards.
    pub(crate) fn release(&self) {
        let (keeper, state) = {
            let mut held = self.held();
            (held.keeper.take(), held.state.take())
        };
        if let Some(keeper) = keeper {
            keeper.close_blocking();
        }
        drop(state);
    }

    /// Notifies all clients of this server's new liveness.
    pub(crate) fn notify(&self, liveness: Liveness) {
        let mut known = self.known();
        for client in &known.clients {
            client.set_liveness(liveness.clone());
        }
        known.liveness = liveness;
    }

    /// Registers a client, so that it and its clones are notified from now on.
    pub(crate) fn adopt(&self, client: &Client) {
        let mut known = self.known();
        client.set_liveness(known.liveness.clone());
        if !known.clients.iter().any(|other| other.is_same(client)) {
            known.clients.push(client.clone());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
