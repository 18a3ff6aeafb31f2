//! `oh provision`.

use std::io::Write as _;

use clap::Args;
use openhands::process::Provisioner;

use crate::exit::{Exit, Outcome};

#[derive(Args)]
pub(crate) struct Options {
    /// The server's version, such as 1.57.0 (default: the version this program was built for).
    #[arg(long, value_name = "VERSION")]
    server_version: Option<String>,
    /// Install the newest compatible packages instead of the versions tested with the server.
    #[arg(long)]
    unpinned: bool,
}

/// Creates an environment with the server, and prints the path of its Python.
pub(crate) async fn provision(options: Options) -> Outcome {
    let mut provisioner = Provisioner::new()
        .pinned(!options.unpinned)
        .on_progress(|step| {
            // A closed terminal must not stop the installation.
            let _ = writeln!(std::io::stderr(), "{step}");
        });
    if let Some(version) = options.server_version {
        provisioner = provisioner.version(version);
    }
    let environment = provisioner.provision().await?;
    writeln!(std::io::stdout(), "{}", environment.python().display())?;
    Ok(Exit::Finished)
}
