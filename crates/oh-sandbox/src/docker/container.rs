//! A container that is removed when its handle is dropped, and how it is created and started.

use std::thread;

use bollard::{
    models::ContainerCreateBody,
    query_parameters::{
        CreateContainerOptionsBuilder, InspectContainerOptions, RenameContainerOptionsBuilder,
        StartContainerOptions, UploadToContainerOptionsBuilder,
    },
};
use bytes::Bytes;
use futures_util::stream;
use tracing::warn;

use crate::{
    Engine, Error, ErrorKind, Progress, Result,
    docker::{
        config, create, refused,
        remover::{Created, Remover},
        settings::Settings,
    },
};

/// A container that is removed with this value.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) engine: Engine,
    /// Id, or the name until the engine has created the container.
    pub(crate) id: String,
    remover: Remover,
    /// Whether something may exist that must be removed.
    owned: bool,
}

/// Values that a container is created with, the same for each attempt.
pub(crate) struct Order<'a> {
    pub(crate) settings: &'a Settings,
    /// A name that is never used again.
    pub(crate) name: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) port: u16,
    pub(crate) configuration: Bytes,
}

impl Container {
    /// Creates and starts a container. Cancel-safe: the container is removed when the future is
    /// dropped. A creation that is in progress is completed first, in a task.
    pub(crate) async fn start(engine: &Engine, remover: Remover, order: Order<'_>) -> Result<Self> {
        let settings = order.settings;
        let (container, refusal) = Self::attempt(engine, remover, &order, true).await?;
        let Some(refusal) = refusal else {
            return Ok(container);
        };
        if settings.limits.is_empty() || !refused::is_about_limits(&refusal) {
            return Err(refused::error("cannot start the container", refusal));
        }
        // Engines that run without the privilege to raise limits refuse them.
        warn!(reason = %refusal, "the engine refuses the limits of the container");
        let why = refused::error("the engine refuses them", refusal).to_string();
        settings.report.notify(Progress::WithoutLimits(why));
        let remover = container.replaced().await?;
        match Self::attempt(engine, remover, &order, false).await? {
            (container, None) => Ok(container),
            (_, Some(refusal)) => Err(refused::error("cannot start the container", refusal)),
        }
    }

    /// Creates a container and starts it. Returns the reason if the engine does not start it.
    async fn attempt(
        engine: &Engine,
        remover: Remover,
        order: &Order<'_>,
        limited: bool,
    ) -> Result<(Self, Option<bollard::errors::Error>)> {
        let mut guard = Self {
            engine: engine.clone(),
            id: order.name.to_owned(),
            remover,
            owned: true,
        };
        let platform = order.settings.platform.clone();
        let body = create::body(order.settings, order.port, order.owner, limited);
        // In a task, because the engine creates the container even if nobody waits for it.
        let creation = tokio::spawn(async move {
            let created = guard.create(platform, body).await;
            (guard, created)
        });
        let (guard, created) = creation.await.map_err(|error| {
            let message = "the tokio runtime is shutting down";
            Error::new(ErrorKind::Spawn, message).with_source(error)
        })?;
        if let Some(refusal) = created? {
            if refused::is_about_limits(&refusal) {
                return Ok((guard, Some(refusal)));
            }
            return Err(refused::error("cannot create the container", refusal));
        }
        if order.settings.gpus {
            guard.check_gpus().await?;
        }
        if let Some(name) = &order.settings.name {
            let options = RenameContainerOptionsBuilder::new().name(name).build();
            let renamed = guard
                .engine
                .docker
                .rename_container(&guard.id, options)
                .await;
            renamed.map_err(|error| refused::error("cannot name the container", error))?;
        }
        guard.upload(order.configuration.clone()).await?;
        let started = guard
            .engine
            .docker
            .start_container(&guard.id, None::<StartContainerOptions>)
            .await;
        Ok((guard, started.err()))
    }

    /// Creates the container under its own name. Returns the engine's refusal, if it refuses. Not
    /// cancel-safe: the engine creates the container even if nobody waits for it.
    async fn create(
        &mut self,
        platform: Option<String>,
        body: ContainerCreateBody,
    ) -> Result<Option<bollard::errors::Error>> {
        // The caller's name comes later: the keeper must never remove a container of this name that
        // somebody else has created.
        let created = match self.remover.create(platform.as_deref(), &body).await? {
            Some(created) => created,
            None => {
                let mut options = CreateContainerOptionsBuilder::new().name(&self.id);
                if let Some(platform) = &platform {
                    options = options.platform(platform);
                }
                let docker = &self.engine.docker;
                match docker.create_container(Some(options.build()), body).await {
                    Ok(created) => Created::As(created.id),
                    Err(refusal @ bollard::errors::Error::DockerResponseServerError { .. }) => {
                        Created::Refused(refusal)
                    }
                    Err(error) => {
                        return Err(refused::error("cannot create the container", error));
                    }
                }
            }
        };
        match created {
            Created::As(id) => self.id = id,
            Created::Refused(refusal) => {
                self.owned = false;
                return Ok(Some(refusal));
            }
            Created::Lost(reason) => {
                let message = format!(
                    "cannot create the container: the connection to the engine was lost \
                     ({reason}); check that it runs"
                );
                return Err(Error::new(ErrorKind::NoEngine, message));
            }
        }
        Ok(None)
    }

    /// Checks that the engine has noticed the request for GPUs. Podman 4 ignores it.
    async fn check_gpus(&self) -> Result<()> {
        let inspected = self
            .engine
            .docker
            .inspect_container(&self.id, None::<InspectContainerOptions>)
            .await
            .map_err(|error| refused::error("cannot inspect the container", error))?;
        let host = inspected.host_config.unwrap_or_default();
        let noticed = host.device_requests.is_some_and(|all| !all.is_empty())
            || host.devices.is_some_and(|all| !all.is_empty());
        if noticed {
            return Ok(());
        }
        let message = "the engine ignores the request for GPUs; use a newer engine, or do not ask \
                       for a GPU";
        Err(Error::new(ErrorKind::NoGpu, message))
    }

    /// Unpacks an archive in the container. The archive is never logged: it is sent as a stream.
    pub(crate) async fn upload(&self, archive: Bytes) -> Result<()> {
        let options = UploadToContainerOptionsBuilder::new()
            .path(config::BASE)
            .build();
        let archive = stream::once(std::future::ready(archive));
        let sent = self
            .engine
            .docker
            .upload_to_container(&self.id, Some(options), bollard::body_stream(archive))
            .await;
        sent.map_err(|error| {
            refused::error(
                "cannot write the server's configuration to the container",
                error,
            )
        })
    }

    /// Removes the container, and returns what removes the next one with this name.
    async fn replaced(mut self) -> Result<Remover> {
        if self.owned {
            self.engine.remove(&self.id).await?;
        }
        self.owned = false;
        Ok(self.remover.clone())
    }

    /// Removes the container, and ends its keeper.
    pub(crate) async fn remove(mut self) -> Result<()> {
        // If this future is dropped or fails, `Drop` removes the container.
        self.engine.remove(&self.id).await?;
        self.owned = false;
        self.remover.release().await
    }

    /// Leaves the container to others.
    pub(crate) async fn keep(mut self) -> Result<()> {
        self.remover.release().await?;
        self.owned = false;
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.engine.close_forwards(&self.id);
        if !self.owned || self.remover.remove_blocking() {
            return;
        }
        // There is no keeper. This thread may belong to a runtime, which must not be blocked on.
        let (engine, id) = (self.engine.clone(), self.id.clone());
        let removal = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime
                    .block_on(engine.remove(&id))
                    .err()
                    .map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            }
        });
        if let Ok(Some(error)) = removal.join() {
            warn!(%error, container = self.id, "a container is left; see `Engine::prune`");
        }
    }
}
