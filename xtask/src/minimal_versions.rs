//! `cargo xtask minimal-versions`: compiles the published crates with the lowest versions of their
//! direct dependencies that their manifests allow.
//!
//! A manifest that allows a version promises that it works. The versions are written to the lock
//! file of a clone, so that the lock file of the checkout stays.

use std::{collections::BTreeMap, path::Path};

use cargo_metadata::{
    DependencyKind, MetadataCommand, Package,
    semver::{Op, Version, VersionReq},
};

use crate::{Result, cargo, workspace};

const PLACE: &str = "target/minimal-versions";

/// Compiles the crates. Prints each dependency whose lowest version another crate rules out.
pub(crate) fn run() -> Result {
    let packages = workspace::published()?;
    let clone = workspace::clone_to(&cargo::root().join(PLACE).join("checkout"))?;
    let lowest = lowest(&packages);
    let mut kept = BTreeMap::new();
    // The lower version of a crate may permit lower versions of others.
    for _ in 0..2 {
        kept = lower(&clone, &lowest)?;
    }
    for (name, (version, reason)) in &kept {
        cargo::say(&format!("{name} {version} is not used: {reason}"));
    }
    let mut command = cargo::cargo(&["check", "--locked", "--all-features", "--quiet"]);
    command.arg("--target-dir").arg(cargo::root().join(PLACE));
    for package in &packages {
        command.args(["--package", &package.name]);
    }
    command.current_dir(&clone);
    cargo::run(command)?;
    let lowered = lowest.len() - kept.len();
    cargo::say(&format!(
        "{lowered} direct dependencies have their lowest versions"
    ));
    Ok(())
}

/// Returns the lowest allowed version of each direct dependency of these packages.
fn lowest(packages: &[Package]) -> BTreeMap<String, Version> {
    let all = packages.iter().flat_map(|package| &package.dependencies);
    let named = all.filter(|dependency| {
        dependency.kind != DependencyKind::Development && dependency.path.is_none()
    });
    let versions = named.filter_map(|dependency| {
        let version = lowest_of(&dependency.req)?;
        Some((dependency.name.clone(), version))
    });
    versions.collect()
}

/// Returns the lowest version that a requirement such as `1.2` allows.
fn lowest_of(requirement: &VersionReq) -> Option<Version> {
    let [only] = &requirement.comparators[..] else {
        return None;
    };
    match only.op {
        Op::Caret | Op::Tilde | Op::Exact | Op::GreaterEq => Some(Version::new(
            only.major,
            only.minor.unwrap_or(0),
            only.patch.unwrap_or(0),
        )),
        _ => None,
    }
}

/// Sets the versions in the lock file of a clone. Returns those that cannot be set, and why.
fn lower(
    clone: &Path,
    lowest: &BTreeMap<String, Version>,
) -> Result<BTreeMap<String, (Version, String)>> {
    let mut kept = BTreeMap::new();
    for (name, version) in lowest {
        let Some(locked) = locked(clone, name, version)? else {
            continue;
        };
        if locked == *version {
            continue;
        }
        let mut update = cargo::cargo(&["update", "--quiet", "--package"]);
        update.arg(format!("{name}@{locked}"));
        update.arg("--precise").arg(version.to_string());
        update.current_dir(clone);
        let output = update
            .output()
            .map_err(|error| format!("cannot run cargo update: {error}"))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            let lines = reason.lines().map(str::trim).take(6).collect::<Vec<_>>();
            kept.insert(name.clone(), (version.clone(), lines.join("; ")));
        }
    }
    Ok(kept)
}

/// Returns the locked version of a crate that is compatible with `lowest`.
fn locked(clone: &Path, name: &str, lowest: &Version) -> Result<Option<Version>> {
    let metadata = MetadataCommand::new()
        .current_dir(clone)
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let requirement = VersionReq::parse(&format!("^{lowest}"))
        .map_err(|error| format!("{name} {lowest}: {error}"))?;
    let packages = metadata.packages.into_iter();
    let versions = packages
        .filter(|package| *package.name == name && package.source.is_some())
        .map(|package| package.version);
    Ok(versions
        .filter(|version| requirement.matches(version))
        .max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_of_the_lowest_version_are_zero() {
        let lowest = |text: &str| {
            let requirement = VersionReq::parse(text).unwrap();
            lowest_of(&requirement).map(|version| version.to_string())
        };
        assert_eq!(lowest("1").as_deref(), Some("1.0.0"));
        assert_eq!(lowest("0.2.46").as_deref(), Some("0.2.46"));
        assert_eq!(lowest(">=2.5").as_deref(), Some("2.5.0"));
        assert_eq!(lowest("<2"), None);
        assert_eq!(lowest(">=1, <3"), None);
    }
}
