//! Ports of another machine that are reached on this one, by ssh.
//!
//! A port of this machine is held by this process, so that no other program gets it, and with it
//! the session key, while `ssh` is started again. `ssh` listens at a socket in a private directory.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixStream},
    task::{JoinHandle, JoinSet},
};
use tracing::debug;

use crate::{
    Error, ErrorKind, Result,
    docker::ssh::{Host, Stream},
};

/// The forwarded ports of the containers of an engine.
#[derive(Debug)]
pub(crate) struct Forwards {
    host: Host,
    within: Duration,
    /// Contains the sockets of `ssh`. Created for the first container, whose keeper removes it
    /// after `kill -9`.
    place: OnceLock<TempDir>,
    open: Mutex<HashMap<(String, u16), Forward>>,
}

impl Forwards {
    pub(crate) fn new(host: Host, within: Duration) -> Arc<Self> {
        Arc::new(Self {
            host,
            within,
            place: OnceLock::new(),
            open: Mutex::default(),
        })
    }

    /// Returns the directory that is removed with this value.
    pub(crate) fn place(&self) -> Result<&Path> {
        if let Some(place) = self.place.get() {
            return Ok(place.path());
        }
        // The path of a socket must be short.
        let made = tempfile::Builder::new().prefix("oh-").tempdir();
        let made = made.map_err(|error| {
            let message = "cannot create a directory for the sockets of ssh";
            Error::new(ErrorKind::Spawn, message).with_source(error)
        })?;
        // If another task was faster, this one is removed.
        Ok(self.place.get_or_init(|| made).path())
    }

    /// Returns the address on this machine for a port of the other one. The address stays the same
    /// until [`close`](Self::close).
    pub(crate) async fn reach(&self, container: &str, port: u16) -> Result<SocketAddr> {
        let key = (container.to_owned(), port);
        if let Some(forward) = self.open().get(&key) {
            return Ok(forward.local);
        }
        let tunnel = Tunnel {
            host: self.host.clone(),
            port,
            within: self.within,
            socket: self.place()?.join(port.to_string()),
            ssh: tokio::sync::Mutex::default(),
        };
        let forward = Forward::start(tunnel).await?;
        Ok(self.open().entry(key).or_insert(forward).local)
    }

    /// Ends the connections with a container.
    pub(crate) fn close(&self, container: &str) {
        self.open().retain(|(other, _), _| other != container);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<(String, u16), Forward>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port of this machine, and the task that connects it. The task ends with this value.
#[derive(Debug)]
struct Forward {
    local: SocketAddr,
    task: JoinHandle<()>,
}

impl Forward {
    async fn start(tunnel: Tunnel) -> Result<Self> {
        // Reports at once what is wrong.
        tunnel.connect().await?;
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (local, listener) = bound.map_err(|error| {
            let port = tunnel.port;
            let message = format!("cannot listen for connections to port {port} of the engine");
            Error::new(ErrorKind::PortTaken, message).with_source(error)
        })?;
        let task = tokio::spawn(accept(listener, tunnel.into()));
        Ok(Self { local, task })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tunnel: Arc<Tunnel>) {
    // Its tasks end with it.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((near, _)) => {
                let tunnel = tunnel.clone();
                connections.spawn(async move { tunnel.pass(near).await });
            }
            Err(error) => {
                // Too many open files, for example.
                debug!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A process of `ssh` that forwards connections. Started again when it has ended.
#[derive(Debug)]
struct Tunnel {
    host: Host,
    port: u16,
    within: Duration,
    socket: PathBuf,
    ssh: tokio::sync::Mutex<Option<Stream>>,
}

impl Tunnel {
    async fn connect(&self) -> Result<UnixStream> {
        if let Ok(connected) = UnixStream::connect(&self.socket).await {
            return Ok(connected);
        }
        let mut ssh = self.ssh.lock().await;
        // Another connection may have started it in the meantime.
        if let Ok(connected) = UnixStream::connect(&self.socket).await {
            return Ok(connected);
        }
        *ssh = None;
        let started = self.host.forward(&self.socket, self.port, self.within);
        *ssh = Some(started.await?);
        UnixStream::connect(&self.socket).await.map_err(|error| {
            let message = format!("ssh does not forward port {} of the engine", self.port);
            Error::new(ErrorKind::NoEngine, message).with_source(error)
        })
    }

    async fn pass(&self, mut near: TcpStream) {
        let mut far = match self.connect().await {
            Ok(far) => far,
            Err(error) => return debug!(%error, "cannot forward a connection"),
        };
        if let Err(error) = copy_bidirectional(&mut near, &mut far).await {
            debug!(%error, port = self.port, "a forwarded connection has failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_created_for_the_first_container_only() {
        let host = Host::parse("ssh://h").unwrap();
        let forwards = Forwards::new(host, Duration::from_secs(1));
        assert!(forwards.place.get().is_none(), "nothing would remove it");
        let place = forwards.place().unwrap().to_owned();
        assert_eq!(forwards.place().unwrap(), place);
        drop(forwards);
        assert!(!place.exists());
    }
}
