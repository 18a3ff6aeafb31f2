//! `oh diff`.

use std::{
    fs,
    io::{self, Write as _},
};

use clap::Args;

use crate::{
    exit::{Exit, Failure, Outcome},
    records::{self, unusable},
    server::At,
    signals::{Signals, stopped},
    site::Site,
};

/// The recorded patch of a run.
const PATCH: &str = "patch.diff";

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: At,
    /// The id of the run, or its beginning.
    id: String,
    /// Compare the directory as it is now, instead of at the end of the run.
    #[arg(long)]
    live: bool,
}

/// Prints the patch of a run.
pub(crate) async fn diff(options: Options) -> Outcome {
    let patch = match options.live || options.at.server.is_some() {
        true => {
            let mut signals = Signals::new()?;
            tokio::select! {
                patch = live(&options) => patch?,
                signal = signals.next() => return Ok(stopped(signal)),
            }
        }
        false => recorded(&options.id)?,
    };
    let mut out = io::stdout().lock();
    out.write_all(&patch)?;
    out.flush()?;
    Ok(Exit::Finished)
}

fn recorded(id: &str) -> Result<Vec<u8>, Failure> {
    let (path, record) = records::find(id)?;
    let patch = path.join(PATCH);
    fs::read(&patch).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let directory = &record.directory;
            Exit::Configuration.because(format!(
                "the run has no patch: it has not ended, or {directory} is not a git repository; \
                 --live compares the directory as it is now"
            ))
        }
        _ => unusable(&patch, &error),
    })
}

async fn live(options: &Options) -> Result<Vec<u8>, Failure> {
    let site = Site::of_run(&options.id, &options.at).await?;
    let patch = site.workspace.git().patch().bytes().await;
    site.server.end(false).await?;
    Ok(patch?.into())
}
