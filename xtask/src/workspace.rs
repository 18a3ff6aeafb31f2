//! The packages of the workspace, and copies of the checkout.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::{Metadata, MetadataCommand, Package};

use crate::{Result, cargo};

/// Returns the packages that are published.
pub(crate) fn published() -> Result<Vec<Package>> {
    let metadata = metadata()?;
    let all = metadata.workspace_packages().into_iter();
    let published = all.filter(|package| !package.publish.as_ref().is_some_and(Vec::is_empty));
    Ok(published.cloned().collect())
}

/// Returns the workspace's target directory.
pub(crate) fn target_directory() -> Result<String> {
    Ok(metadata()?.target_directory.into_string())
}

/// Clones the last commit of the checkout into a directory, which is removed first if it exists.
pub(crate) fn clone_to(directory: &Path) -> Result<PathBuf> {
    if directory.exists() {
        let removed = fs::remove_dir_all(directory);
        removed.map_err(|error| format!("cannot remove {}: {error}", directory.display()))?;
    }
    let mut clone = Command::new("git");
    clone.args(["clone", "--quiet"]);
    clone.arg(cargo::root()).arg(directory);
    cargo::run(clone)?;
    Ok(directory.to_owned())
}

fn metadata() -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    command.current_dir(cargo::root()).no_deps();
    command
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))
}
