//! The server of a run: its own, or one that runs already.

use std::time::Duration;

use openhands::{Client, LocalServer, Workspace};

use super::output::Output;
use crate::{
    exit::{Exit, Failure},
    records::Place,
};

/// Time in which an own server must end.
const GRACE: Duration = Duration::from_secs(10);

pub(super) enum Server {
    Own(LocalServer),
    Given { client: Client, version: String },
}

impl Server {
    /// Connects to the server at the URL, or starts one whose state is in the run's directory.
    pub(super) async fn get(
        url: Option<&str>,
        place: &Place,
        output: &Output,
    ) -> Result<Self, Failure> {
        if let Some(url) = url {
            let client = Client::builder(url).session_api_key_from_env().build()?;
            client.check().await?;
            let version = client.server_info().await?.version.to_string();
            return Ok(Self::Given { client, version });
        }
        let progress = output.clone();
        let builder = LocalServer::builder().state_dir(place.server());
        let builder = builder.on_progress(move |step| progress.note(&step.to_string()));
        Ok(Self::Own(builder.start().await?))
    }

    pub(super) fn client(&self) -> &Client {
        match self {
            Self::Own(server) => server.client(),
            Self::Given { client, .. } => client,
        }
    }

    pub(super) fn version(&self) -> String {
        match self {
            Self::Own(server) => server.info().version.to_string(),
            Self::Given { version, .. } => version.clone(),
        }
    }

    pub(super) fn workspace(&self, directory: &str) -> Workspace {
        Workspace::new(self.client(), directory)
    }

    /// Ends an own server: at once, or in order.
    pub(super) async fn end(self, at_once: bool) -> Result<(), Failure> {
        let Self::Own(server) = self else {
            return Ok(());
        };
        if at_once {
            drop(server);
            return Ok(());
        }
        let report = server.shutdown(GRACE).await?;
        match report.success() {
            true => Ok(()),
            false => {
                Err(Exit::Internal.because(format!("the server did not end in order: {report}")))
            }
        }
    }
}
