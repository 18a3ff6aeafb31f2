//! Which operations a crate's public methods reach: those whose documentation names the operation,
//! on types that the crate exports, while the crate's code sends a call of it. Reads sources; runs
//! nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::{Result, cargo};

/// `METHOD route` of every operation reached, and by which method.
pub(super) fn methods(source: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = Vec::new();
    read(source, &mut files)?;
    let library = files.iter().find(|(name, _)| name.ends_with("lib.rs"));
    let exported = exported(&library.ok_or("no lib.rs")?.1);
    let mut declared = Vec::new();
    read(
        &cargo::root().join("crates/oh-protocol/src/calls"),
        &mut declared,
    )?;
    let calls: Vec<_> = declared
        .iter()
        .flat_map(|(_, text)| named_calls(text))
        .collect();
    let texts: Vec<&str> = files.iter().map(|(_, text)| text.as_str()).collect();
    Ok(reached(&texts, &exported, &calls))
}

fn read(directory: &Path, files: &mut Vec<(String, String)>) -> Result {
    let unreadable = |error| format!("cannot read {}: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            read(&path, files)?;
        } else {
            let text = fs::read_to_string(&path).map_err(unreadable)?;
            // Tests send what they like.
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            files.push((path.display().to_string(), code.to_owned()));
        }
    }
    Ok(())
}

/// The names that a library exports by `pub use module::{A, B}`.
fn exported(library: &str) -> BTreeSet<&str> {
    let uses = library.split("pub use ").skip(1);
    let names = uses.filter_map(|rest| rest.split(';').next()?.rsplit_once("::"));
    names
        .flat_map(|(_, names)| names.trim_matches(['{', '}']).split(','))
        .map(|name| name.trim().trim_matches(['{', '}']))
        .collect()
}

/// The type and `METHOD route` of every call that is declared.
fn named_calls(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut name = "";
    for line in text.lines() {
        let line = line.trim_start();
        // `call!(Name => …`, `Name => …` within `conversation_call!`, `Name, "what", …`.
        let begins = line.strip_prefix("call!(").unwrap_or(line);
        let word = begins.split([' ', ',']).next().unwrap_or_default();
        let rest = &begins[word.len()..];
        let is_type = word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(char::is_alphanumeric);
        if is_type && (rest.starts_with(" => ") || rest.starts_with(", \"")) {
            name = word;
        }
        if let Some((method, route)) = super::declared(line)
            && !name.is_empty()
        {
            found.push((name.to_owned(), format!("{method} {route}")));
        }
    }
    found
}

fn reached(
    files: &[&str],
    exported: &BTreeSet<&str>,
    calls: &[(String, String)],
) -> BTreeMap<String, String> {
    let documented: Vec<_> = files
        .iter()
        .flat_map(|text| documented(text, exported))
        .collect();
    let mut reached = BTreeMap::new();
    for (call, operation) in calls {
        let sends = |text: &&str| {
            text.match_indices(&format!("{call}::"))
                .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        if !files.iter().any(sends) {
            continue;
        }
        let method = documented.iter().find(|(named, _)| names(named, operation));
        if let Some((_, method)) = method {
            reached.insert(operation.clone(), method.clone());
        }
    }
    reached
}

/// Whether a text such as `POST …/run` means an operation.
fn names(text: &str, operation: &str) -> bool {
    let parts = text.split_once(' ').zip(operation.split_once(' '));
    parts.is_some_and(|((method, path), (other, route))| {
        method == other
            && match path.strip_prefix('…') {
                Some(end) => end.starts_with('/') && route.ends_with(end),
                None => path == route,
            }
    })
}

/// What the documentation of public methods on exported types names in backquotes that looks like
/// an operation, and the method.
fn documented(text: &str, exported: &BTreeSet<&str>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut owner, mut docs) = ("", String::new());
    for line in text.lines() {
        if line.starts_with("impl") {
            // `impl<…> Trait for Name<…> {`: the last name counts.
            let head = line.trim_end_matches('{').trim();
            let last = head.rsplit(' ').next().unwrap_or_default();
            owner = last.split('<').next().unwrap_or_default();
        }
        let line = line.trim_start();
        if let Some(doc) = line.strip_prefix("///") {
            docs.push_str(doc);
            docs.push('\n');
            continue;
        }
        let signature = line
            .strip_prefix("pub fn ")
            .or(line.strip_prefix("pub async fn "));
        if let Some(signature) = signature
            && exported.contains(owner)
        {
            let name = signature.split(['(', '<']).next().unwrap_or_default();
            let quoted = docs.split('`').skip(1).step_by(2);
            let operations = quoted.filter(|text| {
                ["GET ", "POST ", "PATCH ", "DELETE ", "PUT "]
                    .iter()
                    .any(|it| text.starts_with(it))
            });
            found.extend(operations.map(|text| (text.to_owned(), format!("{owner}::{name}"))));
        }
        // Attributes stand between a documentation and what it is of.
        if !line.starts_with("#[") {
            docs.clear();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: &str = "mod a;\npub use a::{Handle, Other};\npub use b::Third;\n";
    const CALLS: &str = r#"
call!(Create => Created, POST "/api/things", Idempotent;
conversation_call! {
    /// Runs.
    Run => (), POST "/api/things/{id}/run", Never;
}
text_call!(
    SwitchProfile, "switch_profile", "profile_name",
    POST "/api/things/{id}/switch_profile", Idempotent
);
"#;
    const SOURCE: &str = "
impl Handle {
    /// Makes one (`POST /api/things`).
    pub fn create(&self) -> Made {
        calls::Create::new()
    }

    /// Runs (`POST …/run`).
    #[must_use]
    pub async fn run(&self) {
        Run::new()
    }
}
";

    fn of(source: &str) -> Vec<(String, String)> {
        let calls = named_calls(CALLS);
        reached(&[source], &exported(LIBRARY), &calls)
            .into_iter()
            .collect()
    }

    #[test]
    fn an_operation_is_reached_by_a_documented_method_that_sends_it() {
        let calls: Vec<_> = named_calls(CALLS)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(calls, ["Create", "Run", "SwitchProfile"]);
        let expected = [
            ("POST /api/things", "Handle::create"),
            ("POST /api/things/{id}/run", "Handle::run"),
        ];
        let expected = expected.map(|(operation, by)| (operation.to_owned(), by.to_owned()));
        assert_eq!(of(SOURCE), expected);
    }

    #[test]
    fn it_is_not_reached_without_the_call_the_method_or_the_export() {
        let runs = |source: &str| {
            of(source)
                .iter()
                .any(|(operation, _)| operation.ends_with("/run"))
        };
        assert!(runs(SOURCE));
        assert!(!runs(&SOURCE.replace("Run::new", "DryRun::new")), "no call");
        assert!(
            !runs(&SOURCE.replace("pub async fn run", "async fn run")),
            "not public"
        );
        assert!(
            !runs(&SOURCE.replace("…/run`", "…/walk`")),
            "not documented"
        );
        assert!(
            !runs(&SOURCE.replace("impl Handle", "impl Hidden")),
            "not exported"
        );
    }
}
