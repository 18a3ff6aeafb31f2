//! Checks the guides: each is in the table of contents, links lead to files and headings that
//! exist, and the tables for users of other clients are complete and name items that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The table of contents of the book.
const SUMMARY: &str = "docs/SUMMARY.md";
/// The pages for users of other clients.
const COMING_FROM: &[&str] = &["docs/from-python.md", "docs/from-typescript.md"];

/// The page for users of the TypeScript client, and a list of all its public names.
const TYPESCRIPT: (&str, &str) = (
    "docs/from-typescript.md",
    include_str!("../../api/typescript-client-1.39.0.txt"),
);

/// Checks all Markdown files of the workspace.
pub(super) fn check(
    root: &Path,
    markdown: &[PathBuf],
    sources: &[PathBuf],
    breaches: &mut Vec<String>,
) {
    let texts: BTreeMap<PathBuf, String> = markdown
        .iter()
        .filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)))
        .collect();
    for (path, text) in &texts {
        let name = path.strip_prefix(root).unwrap_or(path).display();
        for link in links(text) {
            if let Some(reason) = broken(path, &link, &texts) {
                breaches.push(format!("{name}: the link to {link} is broken: {reason}"));
            }
        }
    }
    let contents = texts.get(&root.join(SUMMARY)).map(|text| links(text));
    let listed: BTreeSet<String> = contents.unwrap_or_default().into_iter().collect();
    for path in texts.keys() {
        let page = path.strip_prefix(root.join("docs")).unwrap_or(path);
        let page = page.display().to_string();
        if path.starts_with(root.join("docs")) && page != "SUMMARY.md" && !listed.contains(&page) {
            breaches.push(format!("{SUMMARY}: docs/{page} is missing"));
        }
    }
    let words = words(sources);
    for page in COMING_FROM {
        match texts.get(&root.join(page)) {
            Some(text) => table(page, text, &words, breaches),
            None => breaches.push(format!("{page} is missing")),
        }
    }
    let (page, names) = TYPESCRIPT;
    if let Some(text) = texts.get(&root.join(page)) {
        complete(page, text, names, breaches);
    }
}

/// Returns the targets of the links outside code, without those to websites.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // Code in a line may contain brackets.
        let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for (at, _) in outside.match_indices("](") {
            let target = outside[at + 2..]
                .split([')', ' '])
                .next()
                .unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !elsewhere {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// Returns the lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Returns why a link of this file is broken, if it is.
fn broken(from: &Path, link: &str, texts: &BTreeMap<PathBuf, String>) -> Option<&'static str> {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => from.to_path_buf(),
        file => from.parent()?.join(file).canonicalize().unwrap_or_default(),
    };
    if target.as_os_str().is_empty() {
        return Some("there is no such file");
    }
    match (anchor, texts.get(&target)) {
        ("", _) | (_, None) => None,
        (anchor, Some(text)) => {
            let exists = headings(text).any(|heading| heading == anchor);
            (!exists).then_some("there is no such heading")
        }
    }
}

/// Returns the anchors of the headings, as GitHub and mdBook form them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |char: &char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_');
            title
                .chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-")
        })
}

/// Returns the identifiers in the sources.
fn words(sources: &[PathBuf]) -> BTreeSet<String> {
    let texts = sources
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    texts
        .flat_map(|text| {
            let parts = text.split(|char: char| !char.is_alphanumeric() && char != '_');
            parts.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// Checks that each row of a page's tables has no empty cell, and that the items in the second
/// column exist.
fn table(page: &str, text: &str, words: &BTreeSet<String>, breaches: &mut Vec<String>) {
    for line in prose(text).filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells.len() != 3 || cells.contains(&"") {
            breaches.push(format!("{page}: a cell is empty in: {line}"));
            continue;
        }
        for item in cells[1].split('`').skip(1).step_by(2) {
            if let Some(word) = item.split("::").find(|word| !words.contains(*word)) {
                breaches.push(format!("{page}: `{item}`: there is no {word}"));
            }
        }
    }
}

/// Checks that the first column of a page's tables has each name of a list, and no other. `*.name`
/// in the column means the name in all classes.
fn complete(page: &str, text: &str, names: &str, breaches: &mut Vec<String>) {
    let names: BTreeSet<&str> = names
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let column = prose(text).filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    let listed: BTreeSet<&str> = column
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let covered = |name: &&str| {
        let everywhere = name
            .split_once('.')
            .map(|(_, member)| format!("*.{member}"));
        listed.contains(name) || everywhere.is_some_and(|all| listed.contains(all.as_str()))
    };
    for name in names.iter().filter(|name| !covered(name)) {
        breaches.push(format!("{page}: there is no row for `{name}`"));
    }
    let known = |name: &&str| {
        let member = name.strip_prefix('*');
        names.contains(name)
            || member.is_some_and(|member| names.iter().any(|name| name.ends_with(member)))
    };
    for name in listed.iter().filter(|name| !known(name)) {
        breaches.push(format!("{page}: `{name}` is not a name of the client"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_and_to_websites_are_left_out() {
        let text = "[a](b.md#c) `[x](y)` [w](https://w)\n```\n[n](o)\n```\n[d](#e)";
        assert_eq!(links(text), ["b.md#c", "#e"]);
    }

    #[test]
    fn anchors_are_formed_as_on_websites() {
        let text = "# One `two`, three!\n```sh\n# no\n```\n## A-b_c";
        let found: Vec<_> = headings(text).collect();
        assert_eq!(found, ["one-two-three", "a-b_c"]);
    }

    #[test]
    fn broken_links_are_found() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let texts = BTreeMap::from([(here.clone(), "# Title".to_owned())]);
        assert_eq!(broken(&here, "#title", &texts), None);
        assert_eq!(broken(&here, "src", &texts), None);
        assert!(broken(&here, "#other", &texts).is_some());
        assert!(broken(&here, "no-such-file.md", &texts).is_some());
    }

    #[test]
    fn an_empty_cell_and_an_unknown_item_are_found() {
        let words = BTreeSet::from(["A".to_owned(), "b".to_owned()]);
        let mut breaches = Vec::new();
        table("p", "| x | `A::b` | n |\n", &words, &mut breaches);
        assert!(breaches.is_empty(), "{breaches:?}");
        table(
            "p",
            "| x | `A::c` | n |\n| x | `A::b` | |\n",
            &words,
            &mut breaches,
        );
        assert_eq!(breaches.len(), 2, "{breaches:?}");
    }

    #[test]
    fn each_name_of_a_client_needs_a_row_and_no_row_is_outdated() {
        let names = "# names\nA.b\nA.close\nB.close\nmake\n";
        let found = |text: &str| {
            let mut breaches = Vec::new();
            complete("p", text, names, &mut breaches);
            breaches.len()
        };
        assert_eq!(
            found("| `A.b`, `make` | x | n |\n| `*.close` | x | n |\n"),
            0
        );
        assert_eq!(found("| `A.b` | `make` | n |\n| `*.close` | x | n |\n"), 1);
        assert_eq!(
            found("| `A.b`, `make`, `*.close`, `A.c`, `*.d` | x | n |\n"),
            2
        );
    }
}
