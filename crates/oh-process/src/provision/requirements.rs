//! The packages of an environment and their versions.

use oh_protocol::calls::server::{OLDEST_SUPPORTED, version_numbers};

use crate::{Error, ErrorKind, Result};

/// The server version that this crate is written for and provisions by default.
pub const SERVER_VERSION: &str = "1.58.2";

/// Server versions whose dependencies are pinned, each with its constraints file.
/// `cargo xtask constraints` updates them.
const PINNED: &[(&str, &str)] = &[
    ("1.45.0", include_str!("../../constraints/1.45.0.txt")),
    ("1.50.0", include_str!("../../constraints/1.50.0.txt")),
    ("1.57.0", include_str!("../../constraints/1.57.0.txt")),
    (SERVER_VERSION, include_str!("../../constraints/1.58.2.txt")),
];

/// Returns an error if this crate does not support the server's version. A version that cannot be
/// parsed counts as newer.
pub(crate) fn check_supported(version: &str) -> Result<()> {
    if version_numbers(version).is_none_or(|numbers| numbers >= OLDEST_SUPPORTED) {
        return Ok(());
    }
    let (major, minor, patch) = OLDEST_SUPPORTED;
    let message = format!(
        "server {version} is not supported: the oldest supported version is \
         {major}.{minor}.{patch}; use a newer version, such as {SERVER_VERSION}"
    );
    Err(Error::new(ErrorKind::Unsupported, message))
}

/// Returns the server's own packages at one version, and the upper bounds that an old version
/// needs.
pub(crate) fn packages(version: &str) -> Vec<String> {
    ["agent-server", "sdk", "tools"]
        .iter()
        .map(|part| format!("openhands-{part}=={version}"))
        .chain(bounds(version).iter().map(|&bound| bound.to_owned()))
        .collect()
}

/// Returns the versions of all other packages that this version of the server was tested with.
pub(crate) fn constraints(version: &str) -> Option<&'static str> {
    let found = PINNED.iter().find(|(pinned, _)| *pinned == version);
    found.map(|(_, constraints)| *constraints)
}

/// Returns upper bounds that an old version of the server needs but does not declare.
fn bounds(version: &str) -> &'static [&'static str] {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    let release = (numbers.next().flatten(), numbers.next().flatten());
    match release {
        // Up to 1.47, routes pass `lte` to `Query`, which newer versions of fastapi reject.
        (Some(major), Some(minor)) if (major, minor) <= (1, 47) => &["fastapi<0.122"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_version_and_each_file_of_constraints_are_pinned() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/constraints");
        let entries = std::fs::read_dir(directory).expect("constraints");
        let mut files: Vec<_> = entries
            .map(|entry| {
                entry
                    .expect("a file")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect();
        files.sort();
        let pinned: Vec<_> = PINNED
            .iter()
            .map(|(version, _)| format!("{version}.txt"))
            .collect();
        assert_eq!(files, pinned);
        for (version, constraints) in PINNED {
            let first = constraints.lines().next().expect("a line");
            assert!(first.contains(&format!("server {version} ")), "{first}");
            for line in constraints.lines().filter(|line| !line.starts_with('#')) {
                let (name, version) = line.split_once("==").expect("a pinned package");
                assert!(!name.is_empty() && !version.is_empty(), "{line}");
            }
        }
        assert!(constraints(SERVER_VERSION).is_some());
        assert_eq!(constraints("1.2.3"), None);
    }

    #[test]
    fn versions_up_to_1_47_get_the_fastapi_bound_that_they_need() {
        for (version, bounded) in [
            ("1.40.0", true),
            ("1.43.1", true),
            ("1.45.0", true),
            ("1.47.0", true),
            ("1.48.0", false),
            ("1.58.2", false),
            ("2.0.0", false),
            ("unknown", false),
        ] {
            let found = packages(version).contains(&"fastapi<0.122".to_owned());
            assert_eq!(found, bounded, "{version}");
        }
    }
}
