//! Finds the containers that were left when even the keeper ended, for example by a power cut.

use std::collections::HashMap;

use bollard::query_parameters::ListContainersOptionsBuilder;

use crate::{
    Engine, Result,
    docker::{engine::cleaned_up, owner::Owner, refused},
};

/// Beginning of the names of this crate's labels.
pub(crate) const PREFIX: &str = "rs.openhands.";
/// Label with the process that owns the container; see [`Owner`].
pub(crate) const OWNER: &str = "rs.openhands.owner";
/// Label of a container that stays when its owner ends.
pub(crate) const KEPT: &str = "rs.openhands.kept";
/// Label with the directory of conversations that do not name one.
pub(crate) const WORKSPACE: &str = "rs.openhands.workspace";
/// Label with the server's port in the container.
pub(crate) const SERVER_PORT: &str = "rs.openhands.port";

/// Whether the process that owns a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnerState {
    /// The process runs.
    Running,
    /// The process has ended.
    Ended,
    /// The process runs or ran on another machine or in another container, so its state is not
    /// known here.
    Unknown,
}

/// A container that this crate has created, also in another process.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Leftover {
    /// Id of the container.
    pub id: String,
    /// Name of the container.
    pub name: String,
    /// Name of its image.
    pub image: String,
    /// The engine's description of its state, such as `Up 2 hours`.
    pub status: String,
    /// Whether the container was created to stay (`keep`).
    pub kept: bool,
    /// Whether the process that owns the container runs.
    pub owner: OwnerState,
}

impl Leftover {
    /// Returns whether the container should have been removed: its owner has ended, and did not
    /// want to keep it.
    pub fn is_stale(&self) -> bool {
        !self.kept && self.owner == OwnerState::Ended
    }
}

impl Engine {
    /// Returns all containers on this engine that this crate has created, also those in use.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine cannot be asked.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>> {
        let filters = HashMap::from([("label".to_owned(), vec![OWNER.to_owned()])]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let listed = cleaned_up(|| self.docker.list_containers(Some(options.clone()))).await;
        let listed = listed.map_err(|error| refused::error("cannot list the containers", error))?;
        let here = Owner::this_process();
        let found = listed.into_iter().map(|container| {
            let labels = container.labels.unwrap_or_default();
            let owner = labels.get(OWNER).and_then(|label| Owner::parse(label));
            let runs = owner.zip(here.as_ref());
            let runs = runs.and_then(|(owner, here)| owner.runs(here));
            let names = container.names.unwrap_or_default();
            let name = names.first().map(|name| name.trim_start_matches('/'));
            Leftover {
                id: container.id.unwrap_or_default(),
                name: name.unwrap_or_default().to_owned(),
                image: container.image.unwrap_or_default(),
                status: container.status.unwrap_or_default(),
                kept: labels.contains_key(KEPT),
                owner: match runs {
                    Some(true) => OwnerState::Running,
                    Some(false) => OwnerState::Ended,
                    None => OwnerState::Unknown,
                },
            }
        });
        Ok(found.collect())
    }

    /// Removes the containers whose owner has ended, except those that were to be kept. Returns
    /// them.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine cannot be asked, or does not remove one of them.
    pub async fn prune(&self) -> Result<Vec<Leftover>> {
        let mut stale = self.leftovers().await?;
        stale.retain(Leftover::is_stale);
        for container in &stale {
            self.remove(&container.id).await?;
        }
        Ok(stale)
    }
}
