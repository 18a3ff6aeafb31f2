//! `oh rm`.

use std::fs;

use clap::Args;

use crate::{
    exit::{Exit, Outcome},
    records::{Place, find, unusable},
    up,
};

#[derive(Args)]
pub(crate) struct Remove {
    /// The ids of the runs, or their beginnings.
    #[arg(required = true)]
    ids: Vec<String>,
}

/// `oh rm`.
pub(crate) async fn remove(options: &Remove) -> Outcome {
    for id in &options.ids {
        let (path, record) = find(id)?;
        // Fails if the run is in use.
        let place = Place::open(path)?;
        place.without_server()?;
        if record.background {
            up::delete(record.conversation).await?;
        }
        fs::remove_dir_all(place.path()).map_err(|error| unusable(place.path(), &error))?;
    }
    Ok(Exit::Finished)
}
