//! A connection to a container engine.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bollard::{
    Docker,
    errors::Error as EngineError,
    models::ContainerInspectResponse,
    query_parameters::{
        InspectContainerOptions, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use oh_process::ExitReport;
use tokio::time::sleep;

use crate::{
    Result,
    docker::{discover::Address, forward::Forwards, refused},
};

/// Additional time for the answer to a request to stop a container.
const STOPPED: Duration = Duration::from_secs(30);
/// Number of attempts to remove a container while another removal is in progress.
const REMOVALS: u32 = 100;
/// Time limit for Podman to clean up after a container that has ended.
const CLEANUP: Duration = Duration::from_secs(30);

/// A container engine: Docker, or Podman with its socket. Cheap to clone.
///
/// [`Engine::connect`], [`Engine::at`] and [`Engine::context`] connect to one.
///
/// ```no_run
/// # async fn run() -> oh_sandbox::Result<()> {
/// use std::time::Duration;
/// use oh_sandbox::Engine;
///
/// let remote = Engine::at("ssh://me@build-machine").await?;
/// let secured = Engine::at("tcp://build-machine:2376")
///     .certificates("/home/me/.docker")
///     .within(Duration::from_secs(5))
///     .await?;
/// # drop((remote, secured)); Ok(()) }
/// ```
#[derive(Clone)]
pub struct Engine {
    pub(crate) docker: Docker,
    pub(crate) address: Address,
    pub(crate) description: String,
    pub(crate) platform: String,
    /// The forwarded ports of an engine that is reached by ssh.
    pub(crate) forwards: Option<Arc<Forwards>>,
}

impl Engine {
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
        self.close_forwards(container);
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

    /// Ends the forwarded connections with a container.
    pub(crate) fn close_forwards(&self, container: &str) {
        if let Some(forwards) = &self.forwards {
            forwards.close(container);
        }
    }

    /// Stops a container, which may be paused: sends SIGTERM, and SIGKILL after `grace`. A missing
    /// container, or one that has ended, counts as stopped.
    pub(crate) async fn stop(&self, container: &str, grace: Duration) -> Result<()> {
        // Docker does this itself, Podman does not. Fails if the container is not paused.
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

    /// Inspects a container.
    pub(crate) async fn inspect(
        &self,
        container: &str,
    ) -> std::result::Result<ContainerInspectResponse, EngineError> {
        let options = || None::<InspectContainerOptions>;
        cleaned_up(|| self.docker.inspect_container(container, options())).await
    }

    /// Returns how a container ended, or `None` if it has not ended.
    pub(crate) async fn end_of(&self, container: &str) -> Result<Option<ExitReport>> {
        let state = match self.inspect(container).await {
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

/// Asks the engine. Until Podman has cleaned up after a container that has ended, its state is
/// `stopped`, which Docker's API does not have: then asks again.
pub(crate) async fn cleaned_up<T, A>(ask: impl Fn() -> A) -> std::result::Result<T, EngineError>
where
    A: Future<Output = std::result::Result<T, EngineError>>,
{
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(EngineError::JsonDataError { message, .. })
                if message.contains("`stopped`") && begun.elapsed() < CLEANUP =>
            {
                sleep(Duration::from_millis(50)).await;
            }
            answer => return answer,
        }
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

#[cfg(all(test, unix))]
mod tests {
    use bollard::API_DEFAULT_VERSION;
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
        net::UnixListener,
    };

    use super::*;

    #[tokio::test]
    async fn containers_are_known_once_podman_has_cleaned_up() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let answering = tokio::spawn(async move {
            let states = ["stopped", "stopped", "exited"];
            for status in states.into_iter().chain(states) {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let (mut first, mut line) = (String::new(), String::new());
                stream.read_line(&mut first).await.unwrap();
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).await.unwrap();
                }
                let body = match first.contains("/containers/json") {
                    true => format!(r#"[{{"Id": "c", "State": "{status}"}}]"#),
                    false => format!(
                        r#"{{"Id": "c", "State": {{"Status": "{status}", "Running": false,
                        "ExitCode": 7}}}}"#
                    ),
                };
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                            Connection: close\r\n";
                let answer = format!("{head}Content-Length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let socket = path.to_str().unwrap();
        let engine = Engine {
            docker: Docker::connect_with_unix(socket, 10, API_DEFAULT_VERSION).unwrap(),
            address: Address::Unix(path.clone()),
            description: "Podman 4.3.1".to_owned(),
            platform: "linux/amd64".to_owned(),
            forwards: None,
        };
        let end = engine.end_of("c").await.unwrap().unwrap();
        assert_eq!(end.code, Some(7), "{end}");
        assert_eq!(engine.leftovers().await.unwrap().len(), 1);
        answering.await.unwrap();
    }
}
