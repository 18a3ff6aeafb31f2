//! Checks that every text follows the rules for plain English (see CONTRIBUTING.md).
//!
//! The texts are comments, documentation, string literals, identifiers, the names of tests,
//! Markdown files, Python files and shell scripts. Clippy checks the `# Errors` sections:
//! `missing_errors_doc` is denied in the root manifest, and every published crate must inherit the
//! workspace's lints.

mod rules;
mod text;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use text::{Kind, Passage};

/// Passages that break a rule for a reason: file, a part of the passage, and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Maximum number of exceptions. A rule that needs more of them is the wrong rule.
const MAX_EXCEPTIONS: usize = 20;

/// Checks the texts of Rust files and of others: Markdown files, Python files, shell scripts.
pub(crate) fn check(root: &Path, rust: &[PathBuf], others: &[PathBuf], breaches: &mut Vec<String>) {
    let mut used = vec![false; EXCEPTIONS.len()];
    for path in rust.iter().chain(others) {
        let shown = path.strip_prefix(root).unwrap_or(path).display();
        let shown = shown.to_string();
        // The lint's own tests and list quote what it forbids.
        if shown.starts_with("xtask/src/english/") {
            continue;
        }
        let Ok(source) = fs::read_to_string(path) else {
            breaches.push(format!("{shown}: not a readable UTF-8 file"));
            continue;
        };
        let passages = match path.extension().and_then(OsStr::to_str) {
            Some("md") => text::markdown(&source),
            Some("py" | "sh") => text::script(&source),
            _ => [text::rust(&source), text::names(&source)].concat(),
        };
        let is_test = Path::new(&shown)
            .components()
            .any(|part| part.as_os_str() == "tests");
        for passage in &passages {
            for finding in findings(passage, is_test) {
                let exception = EXCEPTIONS
                    .iter()
                    .position(|(file, part, _)| *file == shown && passage.text.contains(part));
                match exception {
                    Some(index) => used[index] = true,
                    None => breaches.push(format!("{shown}:{}: {finding}", passage.line)),
                }
            }
        }
    }
    if EXCEPTIONS.len() > MAX_EXCEPTIONS {
        breaches.push(format!(
            "xtask/src/english/mod.rs: {} exceptions, at most {MAX_EXCEPTIONS}",
            EXCEPTIONS.len()
        ));
    }
    for ((file, part, _), _) in EXCEPTIONS.iter().zip(&used).filter(|(_, used)| !**used) {
        breaches.push(format!(
            "xtask/src/english/mod.rs: the exception for {file}, \"{part}\", is not needed"
        ));
    }
}

/// Checks that a manifest inherits the workspace's lints, such as `missing_errors_doc`.
pub(crate) fn inherits_lints(name: &str, manifest: &Path, breaches: &mut Vec<String>) {
    let inherits = fs::read_to_string(manifest).is_ok_and(|text| {
        text.split("[lints]")
            .nth(1)
            .is_some_and(|rest| rest.trim_start().starts_with("workspace = true"))
    });
    if !inherits {
        breaches.push(format!(
            "{name}: must inherit the lints of the workspace (`[lints] workspace = true`)"
        ));
    }
}

/// Returns what is wrong with a passage. The documentation of a test describes a scenario, and its
/// strings imitate other programs, so that these rules do not apply below `tests`.
fn findings(passage: &Passage, is_test: bool) -> Vec<String> {
    let text = passage.text.as_str();
    match passage.kind {
        Kind::Doc { function } => {
            let mut found = rules::phrases(text);
            found.extend(rules::first_word(text));
            if function && !is_test {
                found.extend(rules::verb(text));
            }
            found.extend(rules::long_sentences(text));
            found
        }
        Kind::Details => {
            let mut found = rules::phrases(text);
            found.extend(rules::pronoun(text));
            found.extend(rules::long_sentences(text));
            found
        }
        Kind::Comment | Kind::Prose => {
            let mut found = rules::phrases(text);
            found.extend(rules::long_sentences(text));
            found
        }
        Kind::Text { error } => {
            let mut found = rules::phrases(text);
            if error && !is_test {
                found.extend(rules::error_message(text));
            }
            found
        }
        Kind::TestName => rules::test_name(text),
        Kind::Name => rules::name(text).into_iter().collect(),
    }
}
