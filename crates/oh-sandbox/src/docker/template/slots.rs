//! The ports of a template's servers.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Error, ErrorKind, Result, docker::address::free_port};

/// The ports that are free.
#[derive(Debug)]
pub(crate) struct Slots {
    total: usize,
    free: Arc<Mutex<Vec<Port>>>,
    /// The address to listen on, if the container has the network of the engine's machine.
    machine: Option<IpAddr>,
}

/// A port in the container, and the port at which it is reached.
#[derive(Debug, Clone, Copy)]
struct Port {
    inside: u16,
    outside: u16,
}

/// A port that is in use. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    port: Port,
    free: Arc<Mutex<Vec<Port>>>,
    /// The port to return.
    kept: Port,
}

impl Slots {
    /// Creates slots of ports that the engine has published.
    pub(crate) fn published(ports: Vec<(u16, SocketAddr)>) -> Self {
        let ports = ports.into_iter().rev().map(|(inside, address)| Port {
            inside,
            outside: address.port(),
        });
        Self::of(ports.collect(), None)
    }

    /// Creates slots for servers that listen on free ports of the engine's machine.
    pub(crate) fn of_machine(address: IpAddr, servers: u16) -> Self {
        let unknown = Port {
            inside: 0,
            outside: 0,
        };
        Self::of(vec![unknown; servers.into()], Some(address))
    }

    fn of(free: Vec<Port>, machine: Option<IpAddr>) -> Self {
        Self {
            total: free.len(),
            free: Arc::new(Mutex::new(free)),
            machine,
        }
    }

    pub(crate) fn available(&self) -> usize {
        lock(&self.free).len()
    }

    /// Takes a free port.
    pub(crate) fn take(&self) -> Result<Slot> {
        let Some(kept) = lock(&self.free).pop() else {
            let message = format!(
                "all {} servers of the template's container are in use; shut one down, or start \
                 a template for more servers",
                self.total
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        };
        let mut slot = Slot {
            port: kept,
            free: self.free.clone(),
            kept,
        };
        if let Some(address) = self.machine {
            let port = free_port(address)?;
            slot.port = Port {
                inside: port,
                outside: port,
            };
        }
        Ok(slot)
    }
}

impl Slot {
    /// Returns the port in the container.
    pub(crate) fn inside(&self) -> u16 {
        self.port.inside
    }

    /// Returns the port at which the server is reached.
    pub(crate) fn outside(&self) -> u16 {
        self.port.outside
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.free).push(self.kept);
    }
}

fn lock(free: &Mutex<Vec<Port>>) -> MutexGuard<'_, Vec<Port>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_used_once_at_a_time() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let slots = Slots::published(vec![(18000, address(1)), (18001, address(2))]);
        let one = slots.take().unwrap();
        assert_eq!((one.inside(), one.outside()), (18000, 1));
        let two = slots.take().unwrap();
        assert_eq!((two.inside(), two.outside()), (18001, 2));
        let error = slots.take().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        drop(one);
        assert_eq!(slots.available(), 1);
        assert_eq!(slots.take().unwrap().inside(), 18000);
    }
}
