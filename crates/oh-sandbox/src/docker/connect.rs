//! [`Connect`], which opens a connection with an engine.

use std::{
    future::IntoFuture,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use bollard::Docker;
use tokio::time::{Instant, timeout_at};

use crate::{
    Engine, Error, ErrorKind, Result,
    docker::{
        dial::Dial,
        discover::{Address, Candidates, Surroundings},
        forward::Forwards,
        refused,
    },
};

/// Default time limit for the first answer of an engine. A busy Podman needs seconds for its
/// version.
const ANSWER: Duration = Duration::from_secs(30);

/// Which engine to connect to.
#[derive(Debug, Clone)]
enum Which {
    Found,
    Address(String),
    Context(String),
}

/// A connection that has not been opened; await it.
#[derive(Debug, Clone)]
#[must_use = "nothing is connected until this is awaited"]
pub struct Connect {
    which: Which,
    certificates: Option<PathBuf>,
    within: Duration,
}

impl Engine {
    /// Connects to the engine that `DOCKER_HOST` names, else to the one of the current Docker
    /// context, else to the one that `CONTAINER_HOST` names; await the result. If none is named,
    /// tries the usual sockets: Docker, rootless Docker, Docker Desktop, rootless Podman, Podman.
    ///
    /// `DOCKER_CONTEXT`, `DOCKER_CONFIG`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` have the
    /// meaning that they have for the `docker` command.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NoEngine`] if no engine answers.
    /// - [`ErrorKind::EngineDenied`] if this user may not use the socket, or if the engine rejects
    ///   the client certificate or the ssh key.
    /// - [`ErrorKind::Tls`] if the certificate of the engine cannot be verified.
    /// - [`ErrorKind::InvalidInput`] if the certificates cannot be read.
    /// - [`ErrorKind::Unsupported`] if the address is not supported, or needs TLS and the feature
    ///   `tls` is not enabled.
    pub fn connect() -> Connect {
        Connect::new(Which::Found)
    }

    /// Connects to the engine at an address: `unix:///run/podman/podman.sock`,
    /// `tcp://127.0.0.1:2375` or `ssh://user@host`; await the result. Reads no variable of the
    /// environment: for TLS, set the [certificates](Connect::certificates).
    ///
    /// An address of ssh needs the command `ssh` here, and a login without questions. The machine
    /// needs the command `docker` (18.09 or newer). A path, as in `ssh://host/run/docker.sock`, is
    /// the socket of its engine. Ports of containers are forwarded to `127.0.0.1` by ssh.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub fn at(address: &str) -> Connect {
        Connect::new(Which::Address(address.to_owned()))
    }

    /// Connects to the engine of a context of the `docker` command; await the result.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub fn context(name: &str) -> Connect {
        Connect::new(Which::Context(name.to_owned()))
    }
}

impl Connect {
    fn new(which: Which) -> Self {
        Self {
            which,
            certificates: None,
            within: ANSWER,
        }
    }

    /// Uses TLS with the certificates in a directory, for an address of `tcp://`: `ca.pem` must
    /// have signed the certificate of the engine; `cert.pem` and `key.pem` are the client
    /// certificate. The CAs of the system are not used. Replaces `DOCKER_CERT_PATH`. Default: no
    /// TLS, unless the environment or the context asks for it.
    pub fn certificates(mut self, directory: impl Into<PathBuf>) -> Self {
        self.certificates = Some(directory.into());
        self
    }

    /// Sets how long the engine may take for its first answer. Default 30 s.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.within = deadline;
        self
    }

    async fn run(self) -> Result<Engine> {
        let surroundings = Surroundings::of_this_process();
        let chosen = match &self.which {
            Which::Found => surroundings.candidates()?,
            Which::Address(address) => {
                let from = "the caller";
                let certificates = self.certificates.as_deref();
                let address = Address::parse(address, from, certificates)?;
                Candidates::Chosen(address, from.to_owned())
            }
            Which::Context(name) => {
                let (address, from) = surroundings.context(name)?;
                Candidates::Chosen(address, from)
            }
        };
        match chosen {
            Candidates::Chosen(address, from) => {
                let address = match (address, self.certificates) {
                    (Address::Tcp(host, port) | Address::Tls(host, port, _), Some(directory)) => {
                        Address::Tls(host, port, directory)
                    }
                    (address, _) => address,
                };
                open(address, &from, self.within).await
            }
            Candidates::Usual(addresses) => first_of(addresses, self.within).await,
        }
    }
}

impl IntoFuture for Connect {
    type Output = Result<Engine>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Connects to the first engine that answers.
async fn first_of(addresses: Vec<Address>, within: Duration) -> Result<Engine> {
    let mut denied = None;
    let mut tried = Vec::new();
    for address in addresses {
        let url = address.url();
        match open(address, "the usual places", within).await {
            Ok(engine) => return Ok(engine),
            Err(error) if error.kind() == ErrorKind::EngineDenied => denied = Some(error),
            Err(_) => tried.push(url),
        }
    }
    match denied {
        Some(error) => Err(error),
        None => {
            let tried = tried.join(", ");
            let message = format!(
                "no container engine answers; start Docker or Podman, or set DOCKER_HOST (tried \
                 {tried})"
            );
            Err(Error::new(ErrorKind::NoEngine, message))
        }
    }
}

/// Connects to an engine, and finds out which one it is.
async fn open(address: Address, from: &str, within: Duration) -> Result<Engine> {
    let url = address.url();
    let deadline = Instant::now() + within;
    let late = || {
        let seconds = within.as_secs_f32();
        let message = format!(
            "the container engine at {url} (from {from}) did not respond within {seconds} s; check \
             that it runs, and that the address is right"
        );
        Error::new(ErrorKind::NoEngine, message)
    };
    if let Address::Unix(path) = &address {
        let reached = timeout_at(deadline, reach(path, from)).await;
        reached.map_err(|_| late())??;
    }
    let failed = |error| {
        refused::error(
            format!("cannot use the engine at {url} (from {from})"),
            error,
        )
    };
    let docker = client(&address, within, &failed)?;
    let asking = async {
        let docker = docker.negotiate_version().await?;
        let version = docker.version().await?;
        Ok::<_, bollard::errors::Error>((docker, version))
    };
    let asked = timeout_at(deadline, asking).await.map_err(|_| late())?;
    let (docker, version) = asked.map_err(failed)?;
    let mut components = version.components.unwrap_or_default().into_iter();
    let podman = components.any(|component| component.name.contains("Podman"));
    let name = if podman { "Podman" } else { "Docker" };
    let number = version.version.unwrap_or_default();
    let os = version.os.unwrap_or_default();
    let arch = version.arch.unwrap_or_default();
    let forwards = match &address {
        Address::Ssh(host) => Some(Forwards::new(host.clone(), within)),
        _ => None,
    };
    Ok(Engine {
        docker,
        address,
        description: format!("{name} {number}"),
        platform: format!("{os}/{arch}"),
        forwards,
    })
}

/// Returns a client for the engine at this address.
fn client(
    address: &Address,
    within: Duration,
    failed: &dyn Fn(bollard::errors::Error) -> Error,
) -> Result<Docker> {
    match address {
        Address::Unix(_) | Address::Tcp(..) => {
            Docker::connect_with_host(&address.url()).map_err(failed)
        }
        Address::Ssh(host) => Dial::Ssh(host.clone(), within).client().map_err(failed),
        #[cfg(feature = "tls")]
        Address::Tls(host, port, directory) => {
            let connector = crate::docker::tls::connector(directory)?;
            let dial = Dial::Tls(connector, host.clone(), *port);
            dial.client().map_err(failed)
        }
        #[cfg(not(feature = "tls"))]
        Address::Tls(..) => {
            let message = format!(
                "cannot use the engine at {}: TLS requires the `tls` feature, which is not enabled",
                address.url()
            );
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

/// Checks that a socket accepts connections, for a precise reason if it does not.
#[cfg(unix)]
async fn reach(path: &Path, from: &str) -> Result<()> {
    let Err(error) = tokio::net::UnixStream::connect(path).await else {
        return Ok(());
    };
    let shown = path.display();
    let (kind, message) = match error.kind() {
        std::io::ErrorKind::PermissionDenied => (
            ErrorKind::EngineDenied,
            format!(
                "this user may not use the container engine's socket {shown}; add the user to the \
                 socket's group (`sudo usermod -aG docker $USER`, then log in again), or use a \
                 rootless engine"
            ),
        ),
        std::io::ErrorKind::NotFound => (
            ErrorKind::NoEngine,
            format!(
                "there is no container engine at {shown} (from {from}); start Docker or Podman, or \
                 correct the address"
            ),
        ),
        _ => (
            ErrorKind::NoEngine,
            format!("no container engine answers at {shown} (from {from}); start Docker or Podman"),
        ),
    };
    Err(Error::new(kind, message).with_source(error))
}

#[cfg(not(unix))]
async fn reach(_: &Path, _: &str) -> Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_engine_and_a_silent_one_are_distinguished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let url = format!("unix://{}", path.display());
        let error = Engine::at(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoEngine);
        assert!(
            error.to_string().contains("there is no container engine"),
            "{error}"
        );

        // A socket that no process listens on.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = Engine::at(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoEngine);
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_accepts_connections_and_never_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        let _silent = tokio::net::UnixListener::bind(&socket).unwrap();
        for address in [address, format!("unix://{}", socket.display())] {
            let begun = std::time::Instant::now();
            let limit = Duration::from_millis(300);
            let error = Engine::at(&address).within(limit).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoEngine, "{error}");
            assert!(error.to_string().contains("within 0.3 s"), "{error}");
            assert!(begun.elapsed() >= limit);
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
    }

    #[tokio::test]
    async fn all_addresses_are_named_if_no_engine_answers() {
        let nowhere = ["/nowhere/a.sock", "/nowhere/b.sock"];
        let addresses = nowhere.iter().map(|path| Address::Unix(path.into()));
        let error = first_of(addresses.collect(), ANSWER).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoEngine);
        let shown = error.to_string();
        assert!(nowhere.iter().all(|path| shown.contains(path)), "{shown}");
    }
}
