//! Compares the public API of the published crates with the last tag, under the rules of semantic
//! versioning.

use std::process::Command;

use cargo_metadata::{MetadataCommand, Package};

use crate::{Result, cargo};

const VERSION: &str = "0.51.0";

/// Fails if a crate has a breaking change since the last tag and its version does not say so. Until
/// the first tag, there is nothing to compare with.
pub(crate) fn check() -> Result {
    let Some(tag) = last_tag()? else {
        cargo::say("semver: no tag `v…` yet, so there is no released API to compare with");
        return Ok(());
    };
    cargo::ensure_subcommand("semver-checks", "cargo-semver-checks", VERSION)?;
    let metadata = MetadataCommand::new()
        .current_dir(cargo::root())
        .no_deps()
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let mut command = cargo::cargo(&["semver-checks", "--all-features", "--baseline-rev", &tag]);
    for package in metadata.workspace_packages() {
        if is_published_library(package) && existed(&tag, package)? {
            command.args(["--package", &package.name]);
        }
    }
    cargo::run(command).map(drop)
}

/// Returns the highest version tag among the ancestors of this commit.
fn last_tag() -> Result<Option<String>> {
    let mut tags = git(&["tag", "--merged", "HEAD", "--sort=-version:refname"]);
    let output = tags
        .args(["--list", "v*"])
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cannot list the tags: {}", reason.trim()));
    }
    let tags = String::from_utf8_lossy(&output.stdout);
    Ok(tags.lines().next().map(str::to_owned))
}

fn is_published_library(package: &Package) -> bool {
    let is_published = !package.publish.as_ref().is_some_and(Vec::is_empty);
    is_published && package.targets.iter().any(|target| target.is_lib())
}

/// Returns whether a tag contains this crate.
fn existed(tag: &str, package: &Package) -> Result<bool> {
    let manifest = package
        .manifest_path
        .strip_prefix(cargo::root())
        .map_err(|error| format!("{}: {error}", package.manifest_path))?;
    let found = git(&["cat-file", "-e", &format!("{tag}:{manifest}")])
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    Ok(found.status.success())
}

fn git(arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(cargo::root());
    command
}
