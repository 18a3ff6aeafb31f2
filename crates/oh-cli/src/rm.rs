//! `oh rm`.

use std::fs;

use clap::Args;

use crate::{
    exit::{Exit, Outcome},
    records::{Place, all, find, unusable},
    target::place_of_server,
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
        let forks: Vec<_> = all()?
            .into_iter()
            .filter(|(_, run)| run.state_of == Some(record.conversation))
            .map(|(_, run)| run.conversation.to_string())
            .collect();
        if !forks.is_empty() {
            let (id, forks) = (record.conversation, forks.join(", "));
            let message = format!("the server of {id} has forks: remove them first: {forks}");
            return Err(Exit::Configuration.because(message));
        }
        let server = place_of_server(place.path(), &record);
        // Without the origin of a fork, nothing is left of its conversation.
        if let Ok(server) = server
            && server != place.path()
        {
            up::delete(&server, record.conversation).await?;
        }
        fs::remove_dir_all(place.path()).map_err(|error| unusable(place.path(), &error))?;
    }
    Ok(Exit::Finished)
}
