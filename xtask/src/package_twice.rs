//! `cargo xtask package-twice`: packages the published crates in two places, and compares them.
//!
//! Two people who package the same commit must get the same bytes. Otherwise nobody can check that
//! a published package contains that commit.

use std::{fs, path::Path};

use sha2::{Digest as _, Sha256};

use crate::{Result, cargo, workspace};

/// The two places, which differ in their length and depth.
const PLACES: [&str; 2] = [
    "target/package-twice/one",
    "target/package-twice/another/place",
];

/// Packages the last commit in both places. Prints the digest of each package.
pub(crate) fn run() -> Result {
    let packages = workspace::published()?;
    for place in PLACES {
        let clone = workspace::clone_to(&cargo::root().join(place))?;
        let mut command = cargo::cargo(&["package", "--no-verify", "--quiet"]);
        command.args(["--target-dir", "target"]);
        for package in &packages {
            command.args(["--package", &package.name]);
        }
        command.current_dir(clone);
        cargo::run(command)?;
    }
    let mut differing = Vec::new();
    for package in &packages {
        let file = format!("target/package/{}-{}.crate", package.name, package.version);
        let [one, another] = PLACES.map(|place| digest(&cargo::root().join(place).join(&file)));
        let (one, another) = (one?, another?);
        cargo::print(&format!("{one}  {}-{}\n", package.name, package.version));
        if one != another {
            differing.push(package.name.as_str());
        }
    }
    match differing.is_empty() {
        true => Ok(()),
        false => Err(format!("the packages differ: {}", differing.join(", "))),
    }
}

/// Returns the SHA-256 digest of a file.
fn digest(file: &Path) -> Result<String> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let digest = Sha256::digest(&bytes);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
