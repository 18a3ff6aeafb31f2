//! Creates and starts the container of a server or of a template.

use bytes::Bytes;
use oh_process::internal::LogHub;
use tracing::warn;

use crate::{
    Engine, Error, Progress, Result,
    docker::{
        address::reachable_host,
        container::{Container, Order},
        ended::{ended_early, explained},
        image,
        owner::Owner,
        remover::Remover,
        settings::Settings,
        supervise::{Followed, Output},
        volumes,
    },
};

/// An engine that has everything that a container needs.
pub(crate) struct Prepared {
    pub(crate) engine: Engine,
    /// The host at which published ports are reached.
    pub(crate) host: String,
    name: String,
    remover: Remover,
}

/// A container that was started.
pub(crate) struct Launched {
    pub(crate) engine: Engine,
    pub(crate) host: String,
    pub(crate) container: Container,
    pub(crate) followed: Followed,
}

impl Prepared {
    /// Checks the settings, and finds the engine, the image and the volumes.
    pub(crate) async fn new(settings: &Settings) -> Result<Self> {
        settings.check()?;
        let engine = match &settings.engine {
            Some(engine) => engine.clone(),
            None => Engine::connect().await?,
        };
        settings.report.notify(Progress::Engine(engine.to_string()));
        let host = reachable_host(&engine, settings)?;
        let name = format!("openhands-{}", uuid::Uuid::new_v4().simple());
        let grace = settings.grace;
        let (remover, ()) = tokio::try_join!(
            Remover::start(settings.keeper, &engine, name.clone(), grace),
            async {
                image::ensure(&engine, settings).await?;
                volumes::check(&engine, settings).await
            }
        )?;
        Ok(Self {
            engine,
            host,
            name,
            remover,
        })
    }

    /// Starts a container with these files, and follows its output.
    pub(crate) async fn start(
        self,
        settings: &Settings,
        port: u16,
        files: Bytes,
        logs: &LogHub,
    ) -> Result<Launched> {
        let owner = Owner::this_process().map_or_else(String::new, |owner| owner.label());
        let creating = Progress::Creating(settings.image.clone());
        settings.report.notify(creating);
        let order = Order {
            settings,
            name: &self.name,
            owner: &owner,
            port,
            configuration: files,
        };
        let container = Container::start(&self.engine, self.remover, order).await?;
        settings
            .report
            .notify(Progress::Starting(container.id.clone()));
        let output = match settings.entrypoint {
            Some(_) => Output::Stderr,
            None => Output::All,
        };
        let followed = Followed::new(&self.engine, &container.id, logs, 0, output);
        Ok(Launched {
            engine: self.engine,
            host: self.host,
            container,
            followed,
        })
    }
}

/// Removes the container of a failed start. Returns the error with its reason.
pub(crate) async fn failed(
    container: Container,
    followed: &mut Followed,
    logs: &LogHub,
    error: Error,
) -> Error {
    // The end of the container may be the reason.
    let error = match container.engine.end_of(&container.id).await {
        Ok(Some(_)) if error.exit().is_none() => {
            ended_early(&followed.end().await).with_source(error)
        }
        _ => error,
    };
    let error = error.with_log_tail(logs.tail());
    if let Err(left) = container.remove().await {
        warn!(error = %left, "cannot remove the container of a failed start");
    }
    explained(error)
}
