//! Servers in containers as the spares of a pool.

use oh_process::{PoolSource, Pooled, internal::Activation};
use tokio::sync::watch;

use crate::{
    DockerServer, DockerServerBuilder, Error, ErrorKind, Result, Status, docker::settings::Settings,
};

/// Each spare has its own container. The variables, keys and directories of its user are sent to
/// the server when it is acquired, so that they are in nothing that the engine shows. Directories
/// are paths in the container.
impl Pooled for DockerServer {
    type Error = Error;

    fn status_now(&self) -> watch::Receiver<Status> {
        self.status_now()
    }

    fn prepare(own: &mut Activation) -> Result<()> {
        let invalid = |error| Error::shared("cannot acquire a server", error);
        own.check().map_err(invalid)?;
        match own.directories().find(|path| !path.starts_with("/")) {
            Some(path) => {
                let path = path.display();
                let message = format!("path {path} in the container must be absolute");
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
            None => Ok(()),
        }
    }

    async fn activate_as(&mut self, own: &Activation) -> Result<()> {
        self.activate_as(own).await
    }

    fn is_gone(error: &Error) -> bool {
        let unanswered = |error: &oh_transport::Error| error.status().is_none();
        error.kind() == ErrorKind::Died || error.transport_error().is_some_and(unanswered)
    }

    fn pool_has_ended() -> Error {
        Error::new(ErrorKind::InvalidInput, "the pool has been shut down")
    }
}

impl PoolSource for DockerServerBuilder {
    type Server = DockerServer;
    type Kept = ();

    async fn start_spare(&mut self, (): &mut ()) -> Result<DockerServer> {
        check(&self.settings)?;
        let settings = Settings {
            dormant: true,
            ..self.settings.clone()
        };
        Box::pin(DockerServer::start(settings)).await
    }
}

/// Rejects what only one container can have, or what would leave spares behind.
fn check(settings: &Settings) -> Result<()> {
    let shared = [
        ("name", settings.name.is_some()),
        ("keep", settings.keep),
        ("remove_image", settings.remove_image),
    ];
    match shared.iter().find(|(_, set)| *set) {
        Some((option, _)) => {
            let message = format!("`{option}` cannot be set for the containers of a pool");
            Err(Error::new(ErrorKind::InvalidInput, message))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use oh_process::WarmPool;

    use super::*;

    #[tokio::test]
    async fn options_of_one_container_are_rejected_and_reported() {
        for (builder, option) in [
            (DockerServer::builder().name("one"), "name"),
            (DockerServer::builder().keep(true), "keep"),
            (DockerServer::builder().remove_image(true), "remove_image"),
        ] {
            let pool = WarmPool::start(1, builder);
            let error = pool.acquire().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(option), "{error}");
            assert_eq!(pool.last_error().unwrap().to_string(), error.to_string());
        }
    }

    #[tokio::test]
    async fn an_invalid_acquisition_waits_for_no_spare() {
        let builder = DockerServer::builder().ready_within(Duration::ZERO);
        let pool = WarmPool::start(1, builder);
        for acquire in [
            pool.acquire().conversations_dir("here"),
            pool.acquire().session_api_key(" "),
            pool.acquire().env("OH_SECRET_KEY", "x"),
        ] {
            let error = acquire.await.unwrap_err();
            assert!(!error.to_string().contains("ready_within"), "{error}");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
}
