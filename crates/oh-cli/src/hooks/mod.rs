//! `oh hooks`: checks and tests a file of hooks. Needs no server.

mod check;
mod dry_run;
#[cfg(unix)]
mod verdict;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::exit::Outcome;

#[derive(Subcommand)]
pub(crate) enum Hooks {
    /// Check a file of hooks. Fails if the server would reject it, or if a setting has no effect.
    Check(check::Check),
    /// Run the hooks for an event as the server would, and print the verdict.
    DryRun(Box<dry_run::DryRun>),
}

/// `oh hooks`.
pub(crate) async fn hooks(verb: Hooks) -> Outcome {
    let file = |given: Option<PathBuf>, directory: &Path| {
        given.unwrap_or_else(|| directory.join(".openhands/hooks.json"))
    };
    match verb {
        Hooks::Check(mut options) => {
            let path = file(options.file.take(), Path::new(""));
            check::check(&path, &options)
        }
        Hooks::DryRun(mut options) => {
            let path = file(options.file.take(), &options.dir);
            dry_run::dry_run(&path, *options).await
        }
    }
}
