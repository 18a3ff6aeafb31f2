//! Attaches to a server in a container that was kept.

use std::{future::IntoFuture, pin::Pin, time::Duration};

use bollard::query_parameters::StartContainerOptions;
use oh_process::internal::LogHub;
use secrecy::SecretString;

use crate::{
    DockerServer, Engine, Error, ErrorKind, Result,
    docker::{
        address::url_of_found,
        ended::ended_early,
        leftovers::{SERVER_PORT, WORKSPACE},
        ready, refused,
        server::Parts,
        settings::PORT,
        supervise::{Followed, Output, now},
    },
    running::RunningServer,
};

impl DockerServer {
    /// Attaches to a server in a container that was created with
    /// [`keep`](crate::DockerServerBuilder::keep); await the result. `id` is the id or the name of
    /// the container, and `key` its session key. A paused or stopped container is started again.
    pub fn attach(id: impl Into<String>, key: impl Into<SecretString>) -> Attach {
        Attach {
            id: id.into(),
            key: key.into(),
            engine: None,
            deadline: Duration::from_secs(180),
        }
    }
}

/// A pending attachment to a container. Await it to attach.
#[derive(Debug)]
#[must_use = "nothing is attached until this is awaited"]
pub struct Attach {
    id: String,
    key: SecretString,
    engine: Option<Engine>,
    deadline: Duration,
}

impl Attach {
    /// Sets the engine. Default: [`Engine::connect`].
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Sets how long the server may take to become ready. Default 180 s.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn run(self) -> Result<DockerServer> {
        let engine = match self.engine {
            Some(engine) => engine,
            None => Engine::connect().await?,
        };
        let found = engine.inspect(&self.id).await;
        let found =
            found.map_err(|error| refused::error("cannot attach to the container", error))?;
        let id = found.id.unwrap_or(self.id);
        let labels = found
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default();
        let Some(workspace) = labels.get(WORKSPACE).cloned() else {
            let message = format!("container {id:.12} was not created by this library");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        };
        let port = labels
            .get(SERVER_PORT)
            .and_then(|port| port.parse().ok())
            .unwrap_or(PORT);
        let state = found.state.unwrap_or_default();
        let failed = |error| refused::error("cannot start the container again", error);
        if state.paused == Some(true) {
            engine.docker.unpause_container(&id).await.map_err(failed)?;
        } else if state.running != Some(true) {
            let options = None::<StartContainerOptions>;
            engine
                .docker
                .start_container(&id, options)
                .await
                .map_err(failed)?;
        }
        let logs = LogHub::new(vec![self.key.clone()]);
        let mut followed = Followed::new(&engine, &id, &logs, now(), Output::All);
        let attaching = async {
            let published = ready::published(&engine, &id, &[port]).await?;
            let address = published.first().map(|(_, address)| *address);
            let url = url_of_found(&engine, address, port)?;
            let info = ready::verified(&url, &self.key, self.deadline).await?;
            Ok((published, url, info))
        };
        let attached = tokio::select! {
            biased;
            end = followed.end() => Err(ended_early(&end)),
            attached = attaching => attached,
        };
        let (published, url, info) =
            attached.map_err(|error: Error| error.with_log_tail(logs.tail()))?;
        let client = ready::client(&url, Some(&self.key), &ready::network()?)?;
        let parts = Parts {
            engine,
            running: RunningServer::new(id, client, self.key, info, logs, workspace),
            published,
            deadline: self.deadline,
            image: None,
            dormant: None,
        };
        Ok(DockerServer::supervised(parts, None, followed))
    }
}

impl IntoFuture for Attach {
    type Output = Result<DockerServer>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
