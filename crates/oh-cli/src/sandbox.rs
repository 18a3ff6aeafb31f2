//! `oh sandbox`: containers of this program and of others that use the same library.

use std::io::{self, Write as _};

use clap::{Args, Subcommand};
use openhands::sandbox::{Engine, Leftover, OwnerState};
use serde::Serialize;

use crate::{
    exit::{Exit, Outcome},
    records::clean,
    stored::{lines, table},
};

#[derive(Subcommand)]
pub(crate) enum Sandbox {
    /// List the containers with servers on the engine of Docker or Podman.
    Ls(List),
    /// Remove the containers whose owner has ended, for example by a power cut.
    Prune,
}

#[derive(Args)]
pub(crate) struct List {
    /// Print each container as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// A line of `oh sandbox ls --json`.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: String,
    image: String,
    status: String,
    /// Whether the process that owns the container is `running`, has `ended`, or is `unknown`.
    owner: &'static str,
    /// Whether the container was created to stay.
    kept: bool,
    /// Whether `oh sandbox prune` removes it.
    stale: bool,
}

impl From<Leftover> for Row {
    fn from(container: Leftover) -> Self {
        Self {
            stale: container.is_stale(),
            owner: match container.owner {
                OwnerState::Running => "running",
                OwnerState::Ended => "ended",
                _ => "unknown",
            },
            id: container.id,
            name: container.name,
            image: container.image,
            status: container.status,
            kept: container.kept,
        }
    }
}

/// `oh sandbox`.
pub(crate) async fn sandbox(verb: Sandbox) -> Outcome {
    let engine = Engine::connect().await?;
    match verb {
        Sandbox::Ls(options) => {
            let rows = engine.leftovers().await?.into_iter().map(Row::from);
            if options.json {
                lines(rows)?;
                return Ok(Exit::Finished);
            }
            let cells = |row: Row| {
                let id = row.id.chars().take(12).collect();
                let owner = match (row.kept, row.stale) {
                    (true, _) => "kept".to_owned(),
                    (false, true) => "stale".to_owned(),
                    (false, false) => format!("owner {}", row.owner),
                };
                [id, row.name, owner, row.status, row.image]
            };
            table(&rows.map(cells).collect::<Vec<_>>())?;
        }
        Sandbox::Prune => {
            let mut out = io::stdout().lock();
            for container in engine.prune().await? {
                writeln!(out, "{}", clean(&container.name))?;
            }
        }
    }
    Ok(Exit::Finished)
}
