//! A connection to a container engine.

use std::{fmt, time::Duration};

use bollard::{
    Docker,
    query_parameters::{
        InspectContainerOptions, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use oh_process::ExitReport;
use tokio::time::{sleep, timeout};

use crate::{
    Error, ErrorKind, Result,
    docker::{
        discover::{Address, Candidates, Surroundings},
        refused,
    },
};

/// Time limit for the first answer of an engine. A busy Podman needs seconds for its version.
const ANSWER: Duration = Duration::from_secs(30);
/// Additional time for the answer to a request to stop a container.
const STOPPED: Duration = Duration::from_secs(30);
/// Number of attempts to remove a container while another removal is in progress.
const REMOVALS: u32 = 100;

/// A container engine: Docker, or Podman with its socket. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) docker: Docker,
    pub(crate) address: Address,
    description: String,
    pub(crate) platform: String,
}

impl Engine {
    /// Connects to the engine that `DOCKER_HOST` names, else to the one of the current Docker
    /// context, else to the one that `CONTAINER_HOST` names. If none is named, tries the usual
    /// sockets: Docker, rootless Docker, Docker Desktop, rootless Podman, Podman.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NoEngine`] if no engine answers.
    /// - [`ErrorKind::EngineDenied`] if this user may not use the socket.
    /// - [`ErrorKind::Unsupported`] if the address needs ssh or TLS.
    pub async fn connect() -> Result<Self> {
        match Surroundings::of_this_process().candidates()? {
            Candidates::Chosen(address, from) => open(address, &from).await,
            Candidates::Usual(addresses) => first_of(addresses).await,
        }
    }

    /// Connects to the engine at an address such as `unix:///run/podman/podman.sock` or
    /// `tcp://127.0.0.1:2375`.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub async fn at(address: &str) -> Result<Self> {
        open(Address::parse(address, "the caller")?, "the caller").await
    }

    /// Returns the address, in the form of `DOCKER_HOST`.
    pub fn address(&self) -> String {
        self.address.url()
    }

    /// Returns the platform of the engine, such as `linux/amd64`.
    pub fn platform(&self) -> &str {
        &self.platform
    }

    pub(crate) fn is_podman(&self) -> bool {
        self.description.starts_with("Podman ")
    }

    /// Removes a container and its anonymous volumes, running or not. A missing container counts as
    /// removed.
    pub(crate) async fn remove(&self, container: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true);
        let options = options.build();
        let mut attempt = 0;
        loop {
            match self
                .docker
                .remove_container(container, Some(options.clone()))
                .await
            {
                Ok(()) => return Ok(()),
                Err(error) if refused::is_missing(&error) => return Ok(()),
                // Another removal is in progress.
                Err(error) if refused::is_done_already(&error) && attempt < REMOVALS => {
                    attempt += 1;
                    sleep(Duration::from_millis(100)).await;
                }
                Err(error) => {
                    let message = format!("cannot remove the container {container}");
                    return Err(refused::error(message, error));
                }
            }
        }
    }

    /// Stops a container, which may be paused: sends SIGTERM, and SIGKILL after `grace`. A missing
    /// container, or one that has ended, counts as stopped.
    pub(crate) async fn stop(&self, container: &str, grace: Duration) -> Result<()> {
        // Engines deliver no signal to a paused process. Fails if the container is not paused.
        let _not_paused = self.docker.unpause_container(container).await;
        let seconds = i32::try_from(grace.as_secs_f64().ceil() as u64).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let docker = self.docker.clone();
        let docker = docker.with_timeout(grace.saturating_add(STOPPED));
        match docker.stop_container(container, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if refused::is_missing(&error) || refused::is_done_already(&error) => Ok(()),
            Err(error) => Err(refused::error("cannot stop the container", error)),
        }
    }

    /// Returns how a container ended, or `None` if it has not ended.
    pub(crate) async fn end_of(&self, container: &str) -> Result<Option<ExitReport>> {
        let inspected = self
            .docker
            .inspect_container(container, None::<InspectContainerOptions>)
            .await;
        let state = match inspected {
            Ok(found) => found.state.unwrap_or_default(),
            Err(error) if refused::is_missing(&error) => {
                return Ok(Some(ExitReport::of_container(None, false)));
            }
            Err(error) => return Err(refused::error("cannot inspect the container", error)),
        };
        let runs = state.running == Some(true) || state.paused == Some(true);
        let status = state.status.map(|status| status.to_string());
        let before = matches!(status.as_deref(), Some("created" | "restarting"));
        if runs || before {
            return Ok(None);
        }
        let out_of_memory = state.oom_killed == Some(true);
        Ok(Some(ExitReport::of_container(
            state.exit_code,
            out_of_memory,
        )))
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.description, self.address.url())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("engine", &self.description)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Connects to the first engine that answers.
async fn first_of(addresses: Vec<Address>) -> Result<Engine> {
    let mut denied = None;
    let mut tried = Vec::new();
    for address in addresses {
        let url = address.url();
        match open(address, "the usual places").await {
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
async fn open(address: Address, from: &str) -> Result<Engine> {
    let url = address.url();
    if let Address::Unix(path) = &address {
        reach(path, from).await?;
    }
    let failed = |error| refused::error(format!("cannot use the engine at {url}"), error);
    let docker = Docker::connect_with_host(&url).map_err(failed)?;
    let asking = async {
        let docker = docker.negotiate_version().await?;
        let version = docker.version().await?;
        Ok::<_, bollard::errors::Error>((docker, version))
    };
    let asked = timeout(ANSWER, asking).await.map_err(|_| {
        let message = format!(
            "the container engine at {url} did not respond within {} s",
            ANSWER.as_secs()
        );
        Error::new(ErrorKind::NoEngine, message)
    })?;
    let (docker, version) = asked.map_err(failed)?;
    let mut components = version.components.unwrap_or_default().into_iter();
    let podman = components.any(|component| component.name.contains("Podman"));
    let name = if podman { "Podman" } else { "Docker" };
    let number = version.version.unwrap_or_default();
    let os = version.os.unwrap_or_default();
    let arch = version.arch.unwrap_or_default();
    Ok(Engine {
        docker,
        address,
        description: format!("{name} {number}"),
        platform: format!("{os}/{arch}"),
    })
}

/// Checks that a socket accepts connections, for a precise reason if it does not.
#[cfg(unix)]
async fn reach(path: &std::path::Path, from: &str) -> Result<()> {
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
async fn reach(_: &std::path::Path, _: &str) -> Result<()> {
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
    async fn all_addresses_are_named_if_no_engine_answers() {
        let nowhere = ["/nowhere/a.sock", "/nowhere/b.sock"];
        let addresses = nowhere.iter().map(|path| Address::Unix(path.into()));
        let error = first_of(addresses.collect()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoEngine);
        let shown = error.to_string();
        assert!(nowhere.iter().all(|path| shown.contains(path)), "{shown}");
    }
}
