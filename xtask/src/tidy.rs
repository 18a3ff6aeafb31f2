//! `cargo xtask tidy`: checks the workspace's rules that no compiler checks.

mod book;
mod cycles;
mod dependencies;
mod foreign;
mod messages;
mod order;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand, Package, TargetKind};

use crate::{Result, cargo, docs, english, files, mentions};

/// Maximum length of a file. Most should be far shorter.
const MAX_LINES: usize = 600;

/// Maximum width of a line. rustfmt does not break long strings and macros.
const MAX_WIDTH: usize = 100;

/// The workspace crates that each crate may depend on outside of its tests.
const LAYERS: &[(&str, &[&str])] = &[
    ("oh-protocol", &[]),
    ("oh-transport", &["oh-protocol"]),
    ("oh-process", &["oh-protocol", "oh-transport"]),
    ("oh-sandbox", &["oh-protocol", "oh-transport", "oh-process"]),
    ("oh-workspace", &["oh-protocol", "oh-transport"]),
    ("oh-conversation", &["oh-protocol", "oh-transport"]),
    ("oh-admin", &["oh-protocol", "oh-transport"]),
    ("oh-control", &["oh-protocol", "oh-transport"]),
    ("oh-hooks", &["oh-protocol"]),
    ("oh-view", &["oh-protocol", "oh-conversation"]),
    ("oh-testkit", &["oh-protocol", "oh-transport"]),
    (
        "openhands",
        &[
            "oh-protocol",
            "oh-transport",
            "oh-process",
            "oh-sandbox",
            "oh-workspace",
            "oh-conversation",
            "oh-admin",
            "oh-control",
            "oh-hooks",
            "oh-view",
            "oh-testkit",
        ],
    ),
    ("oh-cli", &["openhands"]),
    ("xtask", &["oh-testkit"]),
    ("openhands-examples", &["openhands"]),
    (
        "queue-worker",
        &["oh-protocol", "oh-transport", "oh-control"],
    ),
    ("openhands-benches", &["openhands"]),
    ("openhands-tests", &["openhands"]),
    ("oh-test-features", &["oh-test-macros"]),
    ("oh-test-macros", &[]),
];

/// Crates that only one module of one crate may name, so that they can be replaced.
const CONFINED: &[(&str, &[(&str, &str)])] = &[
    (
        "hyper",
        &[
            ("oh-transport", "hyper"),
            ("oh-sandbox", "connections with engines"),
            ("oh-testkit", "http server"),
        ],
    ),
    (
        "fastwebsockets",
        &[
            ("oh-transport", "fastwebsockets"),
            ("oh-testkit", "socket server"),
        ],
    ),
];

/// Checks layers, cycles, the order of folders, types of other crates in public signatures, file
/// sizes, module docs, confined names, the list of dependencies and plain English. Reports all
/// violations at once.
pub(crate) fn run() -> Result {
    let metadata = MetadataCommand::new()
        .current_dir(cargo::root())
        .no_deps()
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let packages: Vec<&Package> = metadata.workspace_packages();
    let mut breaches = Vec::new();
    layers(&packages, &mut breaches);
    dependencies::check(cargo::root(), &packages, &mut breaches);
    let mut all_files = Vec::new();
    for package in &packages {
        let published = !package.publish.as_ref().is_some_and(Vec::is_empty);
        if published {
            let manifest = package.manifest_path.as_std_path();
            english::inherits_lints(&package.name, manifest, &mut breaches);
        }
        let Some(root) = package.manifest_path.parent() else {
            continue;
        };
        let files = files::rust_files(root.as_std_path());
        for file in &files {
            source_file(file, &mut breaches);
        }
        confined(package, &files, &mut breaches);
        without_cycles(package, &mut breaches);
        if published {
            foreign_types(package, &files, &mut breaches);
        }
        all_files.extend(files);
    }
    let markdown = files::with_extension(cargo::root(), &["md"]);
    let mut others = files::with_extension(cargo::root(), &["py", "sh"]);
    others.extend(markdown.iter().cloned());
    english::check(cargo::root(), &all_files, &others, &mut breaches);
    mentions::check(
        cargo::root(),
        markdown.iter().map(PathBuf::as_path),
        all_files.iter().map(PathBuf::as_path),
        &mut breaches,
    );
    docs::check(cargo::root(), &mut breaches);
    book::check(cargo::root(), &markdown, &all_files, &mut breaches);
    messages::check(cargo::root(), &markdown, &all_files, &mut breaches);
    if breaches.is_empty() {
        cargo::say(&format!("tidy: {} crates follow the rules", packages.len()));
        return Ok(());
    }
    Err(format!(
        "tidy found {} violations:\n  {}",
        breaches.len(),
        breaches.join("\n  ")
    ))
}

fn layers(packages: &[&Package], breaches: &mut Vec<String>) {
    let ours: Vec<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let rules: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    for package in packages {
        // Complete programs under examples/ use the facade, regardless of their names.
        let allowed = match rules.get(package.name.as_str()) {
            Some(allowed) => *allowed,
            None if package.manifest_path.as_str().contains("/examples/") => &["openhands"],
            None => {
                breaches.push(format!(
                    "{}: add the crate to LAYERS in xtask/src/tidy.rs",
                    package.name
                ));
                continue;
            }
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let counts = dependency.kind == DependencyKind::Normal && ours.contains(&name);
            if counts && !allowed.contains(&name) {
                breaches.push(format!("{} must not depend on {name}", package.name));
            }
        }
    }
}

fn without_cycles(package: &Package, breaches: &mut Vec<String>) {
    let name = package.name.as_str();
    let roots = package.targets.iter().filter(|target| {
        target.kind.contains(&TargetKind::Lib) || target.kind.contains(&TargetKind::Bin)
    });
    for root in roots {
        match cycles::of_crate(root.src_path.as_std_path()) {
            Ok(uses) => {
                let cycles = cycles::described(&uses);
                breaches.extend(cycles.iter().map(|cycle| format!("{name}: {cycle}")));
                if root.kind.contains(&TargetKind::Lib) {
                    order::check(name, &uses, breaches);
                }
            }
            Err(error) => breaches.push(format!("{name}: cannot read the modules: {error}")),
        }
    }
}

fn foreign_types(package: &Package, files: &[PathBuf], breaches: &mut Vec<String>) {
    let sources = package.manifest_path.as_std_path().with_file_name("src");
    let library: Vec<PathBuf> = files
        .iter()
        .filter(|file| file.starts_with(&sources))
        .cloned()
        .collect();
    let ours = |name: &str| name.starts_with("oh-") || name == "openhands";
    let dependencies: BTreeSet<String> = package
        .dependencies
        .iter()
        .filter(|dependency| !ours(&dependency.name))
        .map(|dependency| dependency.rename.as_ref().unwrap_or(&dependency.name))
        .map(|name| name.replace('-', "_"))
        .collect();
    foreign::check(cargo::root(), &library, &dependencies, breaches);
}

fn source_file(path: &Path, breaches: &mut Vec<String>) {
    let shown = path.strip_prefix(cargo::root()).unwrap_or(path).display();
    let Ok(text) = fs::read_to_string(path) else {
        breaches.push(format!("{shown}: not a readable UTF-8 file"));
        return;
    };
    let lines = text.lines().count();
    if lines > MAX_LINES {
        breaches.push(format!("{shown}: {lines} lines, at most {MAX_LINES}"));
    }
    // Tests contain long texts of other languages.
    let in_tests = path
        .components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches");
    for number in too_wide(&text).filter(|_| !in_tests) {
        breaches.push(format!(
            "{shown}:{number}: the line is wider than {MAX_WIDTH} characters"
        ));
    }
    let first = text
        .lines()
        .find(|line| !line.is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        breaches.push(format!(
            "{shown}: must begin with a `//!` comment that describes the file"
        ));
    }
}

/// Returns the numbers of the lines that are too wide. Excepted are those that cannot be broken:
/// rows of tables and hidden lines in docs, and lines with a raw string.
fn too_wide(text: &str) -> impl Iterator<Item = usize> + '_ {
    let breakable = |line: &str| {
        let doc = line
            .trim_start()
            .trim_start_matches(['/', '!'])
            .trim_start();
        let row = line.trim_start().starts_with("//") && doc.starts_with(['|', '#']);
        !row && !line.contains("r#\"")
    };
    let wide = move |line: &str| line.chars().count() > MAX_WIDTH && breakable(line);
    let lines = (1..).zip(text.lines());
    lines
        .filter(move |(_, line)| wide(line))
        .map(|(number, _)| number)
}

fn confined(package: &Package, files: &[PathBuf], breaches: &mut Vec<String>) {
    for (name, places) in CONFINED {
        let rust_name = format!("{}::", name.replace('-', "_"));
        // Below the root only, because a checkout may itself be in a directory called `src`.
        let users: Vec<String> = files
            .iter()
            .filter_map(|file| Some((file, file.strip_prefix(cargo::root()).ok()?)))
            .filter(|(_, shown)| shown.components().any(|part| part.as_os_str() == "src"))
            .filter(|(file, _)| {
                fs::read_to_string(file).is_ok_and(|text| mentions(&text, &rust_name))
            })
            .map(|(_, shown)| shown.display().to_string())
            .collect();
        let allowed = places
            .iter()
            .any(|(place, _)| *place == package.name.as_str());
        if !allowed && !users.is_empty() {
            breaches.push(format!(
                "{} must not name {name}: {}",
                package.name,
                users.join(", ")
            ));
        } else if users.len() > 1 {
            breaches.push(format!(
                "{} must not name {name} in more than one module, but does in {}: {}",
                package.name,
                users.len(),
                users.join(", ")
            ));
        }
    }
}

/// Returns whether code (not comments) names the crate. A match must begin an identifier:
/// `my_http::` does not name `http::`.
fn mentions(text: &str, name: &str) -> bool {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
        .any(|line| {
            line.match_indices(name).any(|(at, _)| {
                !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            })
        })
}

#[cfg(test)]
mod tests {
    use super::{mentions, too_wide};

    #[test]
    fn lines_that_are_too_wide_are_found_unless_they_cannot_be_broken() {
        let long = "x".repeat(95);
        let lines = [
            format!("let a = \"{long}\";"),
            format!("    //! | {long} |"),
            format!("    /// # {long}"),
            format!("    /// {long}"),
            format!("a(r#\"{long}\"#)"),
            "ä".repeat(100),
            "ä".repeat(101),
        ];
        let found: Vec<usize> = too_wide(&lines.join("\n")).collect();
        assert_eq!(found, [1, 4, 7]);
    }

    #[test]
    fn a_crate_is_named_only_by_its_own_path() {
        assert!(mentions("use spam::Request;", "spam::"));
        assert!(mentions("let x: spam::Uri = y;", "spam::"));
        assert!(!mentions("use crate::spam_util::x;", "spam::"));
        assert!(!mentions("use my_spam::x;", "spam::"));
        assert!(!mentions("// spam::Request is not named here", "spam::"));
    }
}
