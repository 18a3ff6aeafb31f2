//! Checks that `docs/dependencies.md` has a row for each direct dependency, and no other row.

use std::{collections::BTreeSet, fs, path::Path};

use cargo_metadata::Package;

const PAGE: &str = "docs/dependencies.md";

/// Repeats features of the dependencies of other crates.
const FEATURES: &str = "oh-test-features";

/// Checks the page against the manifests of these packages.
pub(super) fn check(root: &Path, packages: &[&Package], breaches: &mut Vec<String>) {
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let naming = packages.iter().filter(|package| *package.name != FEATURES);
    let named = naming.flat_map(|package| &package.dependencies);
    let named = named.map(|dependency| dependency.name.as_str());
    let direct: BTreeSet<&str> = named.filter(|name| !ours.contains(name)).collect();
    match fs::read_to_string(root.join(PAGE)) {
        Ok(page) => compare(&page, &direct, breaches),
        Err(error) => breaches.push(format!("{PAGE}: {error}")),
    }
}

fn compare(page: &str, direct: &BTreeSet<&str>, breaches: &mut Vec<String>) {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| [`"));
    let mut listed = BTreeSet::new();
    for row in rows {
        let name = row.split('`').next().unwrap_or_default();
        if !listed.insert(name) {
            breaches.push(format!("{PAGE}: {name} has two rows"));
        }
        // The maintainer, the use and the alternative follow the name.
        let cells = row.split(" | ").skip(1);
        if cells.filter(|cell| !cell.trim().is_empty()).count() != 3 {
            breaches.push(format!("{PAGE}: the row of {name} must have four cells"));
        }
    }
    for name in direct.difference(&listed) {
        breaches.push(format!("{PAGE}: the direct dependency {name} has no row"));
    }
    for name in listed.difference(direct) {
        breaches.push(format!("{PAGE}: {name} is not a direct dependency"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "| [`bytes`](https://example.org) | Tokio project | bodies | own code |\n";

    fn breaches(page: &str, direct: &[&str]) -> Vec<String> {
        let mut breaches = Vec::new();
        compare(page, &direct.iter().copied().collect(), &mut breaches);
        breaches
    }

    #[test]
    fn each_direct_dependency_has_one_complete_row() {
        assert!(breaches(ROW, &["bytes"]).is_empty());
        let found = breaches(ROW, &["bytes", "http"]);
        assert_eq!(
            found,
            ["docs/dependencies.md: the direct dependency http has no row"]
        );
        let found = breaches(ROW, &[]);
        assert_eq!(
            found,
            ["docs/dependencies.md: bytes is not a direct dependency"]
        );
        let found = breaches(&ROW.repeat(2), &["bytes"]);
        assert_eq!(found, ["docs/dependencies.md: bytes has two rows"]);
        let found = breaches(&ROW.replace("bodies", " "), &["bytes"]);
        assert_eq!(
            found,
            ["docs/dependencies.md: the row of bytes must have four cells"]
        );
    }
}
